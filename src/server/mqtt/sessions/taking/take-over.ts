import type { LimitedLog } from '../../../../log.js';
import { type FleetTelling, parseTold } from '../../../forward/fleet/fleet-telling.js';
import type { Client } from '../client.js';
import type { Registry } from '../registry.js';
import type { SessionStore } from '../store/session-store.js';

/** A connection that a replica tells of. */
type Entry = readonly [
  key: string,
  ageMs: number,
  epoch: number,
  /** Of its stored session; undefined: it has none, or the replica is of an earlier version. */
  session?: string,
];

export type TakeOver = ReturnType<typeof openTakeOver>;

const subject = 'svc-mqtt.taken';
/** Connections of so much time are told of together. */
const gatherMs = 5;
const maxEntries = 500;
/** In place of an epoch: the client has no session that outlives its connection, or one that only its replica has. */
const noSession = 0;
const ownSession = -1;

/**
 * Tells the other replicas of the connections made here, so that a client has one in the fleet [MQTT-3.1.4-2].
 * Of two connections of a client that have stored sessions, the one whose session has the higher epoch stays. Of others the
 * younger one does. Each replica goes by the age of its own connection and by the one that it is told, which was measured
 * before: that both find themselves the younger one cannot be, that neither does can, when they come at the same moment, and
 * the client then connects again. Clocks need not agree.
 *
 * After every reconnect to NATS all connections are told of again: those that were made meanwhile, here or elsewhere, are
 * unheard of.
 *
 * @param options.telling undefined: this replica is alone.
 */
export function openTakeOver(options: {
  telling: FleetTelling | undefined;
  registry: Registry;
  /** The name of this replica. */
  replica: string;
  /** Where sessions are. */
  store: Pick<SessionStore, 'durable'>;
  log: LimitedLog;
}) {
  const { telling, registry, store, log } = options;
  const ownStart = `{"replica":${JSON.stringify(options.replica)},`;
  const ownBytes = Buffer.from(ownStart);
  let gathered: Client[] = [];
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  /** Where sessions are in the memory of this replica, what it counts says nothing elsewhere. */
  function epochOf({ stored }: Client): number {
    if (stored?.isHeld !== true) return noSession;
    return store.durable ? stored.epoch : ownSession;
  }

  function entryOf(client: Client, nowMs: number): Entry {
    const epoch = epochOf(client);
    const { key, admittedAtMs, stored } = client;
    const ageMs = nowMs - admittedAtMs;
    return epoch > 0 && stored !== undefined ? [key, ageMs, epoch, stored.id] : [key, ageMs, epoch];
  }

  function tell(clients: readonly Client[]): void {
    const nowMs = performance.now();
    const entries = clients.flatMap((client): Entry[] =>
      client.connection?.isConnected !== true ? [] : [entryOf(client, nowMs)],
    );
    if (entries.length === 0 || telling === undefined) return;
    const isTold = telling.tell(subject, `${ownStart}"connections":${JSON.stringify(entries)}}`);
    if (isTold || !telling.open || clients.length === 1) return;
    // Long client ids are more than NATS takes at once.
    const half = clients.length >> 1;
    tell(clients.slice(0, half));
    tell(clients.slice(half));
  }

  function flush(): void {
    timer = undefined;
    const clients = gathered;
    gathered = [];
    for (let start = 0; start < clients.length; start += maxEntries)
      tell(clients.slice(start, start + maxEntries));
  }

  function announce(client: Client): void {
    if (telling === undefined || closed) return;
    gathered.push(client);
    timer ??= setTimeout(flush, gatherMs);
  }

  function onEntry([key, ageMs, epoch, session]: Entry): void {
    const client = registry.find(key);
    // One that is still being let in tells of itself when it is.
    if (client === undefined || client.connection?.isConnected === false) return;
    const ownEpoch = epochOf(client);
    const isOlder =
      ownEpoch > 0 && epoch > 0 ? epoch > ownEpoch : ageMs < performance.now() - client.admittedAtMs;
    if (!isOlder) {
      // The other one does not know yet, or has been told and is gone.
      if (client.connection !== undefined) announce(client);
    } else if (ownEpoch > 0 && epoch > 0) {
      // Where the client has begun anew its session here has ended, and with it the delay of a will [MQTT-3.1.3-9].
      registry.lose(client, session !== undefined && session !== client.stored?.id);
    } else if (epoch === noSession && store.durable) {
      // It has begun anew there, or goes on without a session.
      registry.drop(client, 'taken-over');
    } else {
      client.connection?.close('taken-over');
    }
  }

  function tellAll(): void {
    for (const client of registry.clients()) if (client.connection?.isConnected === true) announce(client);
  }

  const unhear = telling?.hear(subject, {
    onConnected: tellAll,
    onMessage(data) {
      if (Buffer.compare(data.subarray(0, ownBytes.length), ownBytes) === 0) return;
      const entries = readEntries(data);
      if (entries === undefined)
        log.warn(
          'take_over_unreadable',
          {},
          'A replica told of connections in a form that is not understood',
        );
      else for (const entry of entries) onEntry(entry);
    },
  });
  return {
    /** The client has just connected here. */
    announce,
    close(): void {
      closed = true;
      clearTimeout(timer);
      unhear?.();
    },
  };
}

function readEntries(data: Uint8Array): readonly Entry[] | undefined {
  const { connections } = (parseTold(data) ?? {}) as { connections?: unknown };
  return Array.isArray(connections) && connections.every(isEntry) ? connections : undefined;
}

function isEntry(value: unknown): value is Entry {
  if (!Array.isArray(value)) return false;
  const [key, ageMs, epoch, session] = value as unknown[];
  const isTold = typeof key === 'string' && Number.isFinite(ageMs) && Number.isSafeInteger(epoch);
  return isTold && (session === undefined || typeof session === 'string');
}
