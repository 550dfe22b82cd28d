import type { BrokerCounters } from '../../live/counters.js';
import type { Client, DeviceClients } from '../client.js';
import type { SessionStore } from '../store/session-store.js';

/** A client that comes back within this time has its new messages stored after its earlier ones. */
const laneGraceMs = 60_000;
/** A client that comes back within this time needs nothing of NATS to go on with its session. */
const awayGraceMs = 30_000;

/** Clients without a connection, of which something is kept: how long, and whose goes first when there is too much. */
export function openAbsentClients(options: {
  maxSessions: number;
  maxDelayedWills: number;
  store: Pick<SessionStore, 'durable'>;
  counters: BrokerCounters;
  /** Ends a session. */
  discard(client: Client): void;
  /** Forgets what is here of a session that the store has. */
  leave(client: Client): void;
  /** What the client sent is settled, or has been on its way for long: it may be given up when others need the room. */
  closeLane(client: Client): void;
}) {
  const { maxSessions, maxDelayedWills, store, counters, discard, leave } = options;
  /** Persistent sessions without a connection, the one absent longest first. */
  const absent = new Set<Client>();
  /** Those of them that expire. */
  const expiring = new Set<Client>();
  /** Absent clients whose wills have a delay. */
  const delayed = new Set<Client>();
  /** Clients without a connection whose messages or wills are still on their way to NATS, and since when. */
  const unsettled = new Map<Client, number>();
  /** Absent clients whose sessions are stored, and since when: they are forgotten when nothing here needs them. */
  const leaving = new Map<Client, number>();

  function cancelWill(client: Client): void {
    client.delayedWill = undefined;
    delayed.delete(client);
  }

  /** The session has ended, and with it the delay of the will [MQTT-3.1.3-9]. */
  function publishWill(client: Client): void {
    const { delayedWill } = client;
    cancelWill(client);
    delayedWill?.publish();
  }

  /**
   * Discards sessions absent longest, first of devices that have more than their share of them. One that is stored lives on: its
   * will, which waits here alone, is not to come before its time as long as there are others.
   */
  function evict(): void {
    const counts = new Map<DeviceClients, number>();
    for (const { device } of absent) counts.set(device, (counts.get(device) ?? 0) + 1);
    const share = Math.max(1, Math.floor(maxSessions / counts.size));
    for (const sparesWills of store.durable ? [true, false] : [false])
      for (const atMost of [share, 0])
        for (const client of absent) {
          if (absent.size <= maxSessions) return;
          const count = counts.get(client.device) ?? 0;
          if (count <= atMost || (sparesWills && client.delayedWill !== undefined)) continue;
          counts.set(client.device, count - 1);
          counters.limits.sessions += 1;
          if (store.durable) leave(client);
          else discard(client);
        }
  }

  return {
    /** The client may be back: its delay does not end meanwhile. `add` sees to the will again. */
    holdWill(client: Client): void {
      delayed.delete(client);
    },
    cancelWill,
    publishWill,

    /** The session of a client that has gone is kept. @param parked when the store has it. */
    add(client: Client, parked: Promise<boolean>): void {
      void parked.then((isStored) => {
        if (isStored && store.durable && absent.has(client)) leaving.set(client, performance.now());
      });
      absent.add(client);
      if (client.sessionExpirySec !== Number.POSITIVE_INFINITY) {
        client.expiresAtMs = performance.now() + client.sessionExpirySec * 1_000;
        expiring.add(client);
      }
      if (client.delayedWill !== undefined) {
        delayed.add(client);
        if (delayed.size > maxDelayedWills) {
          counters.limits['delayed-wills'] += 1;
          publishWill(client);
        }
      }
      if (!isSettled(client)) unsettled.set(client, performance.now());
    },

    /** The session has ended: the client is kept while something that it sent is on its way. */
    addUnsettled(client: Client): void {
      unsettled.set(client, performance.now());
    },

    /** The client is back, or its session has ended; its will is seen to apart. */
    delete(client: Client): void {
      absent.delete(client);
      expiring.delete(client);
      unsettled.delete(client);
      leaving.delete(client);
    },

    publishWills(): void {
      for (const client of [...delayed]) publishWill(client);
    },

    /** Sessions outlive this process from now on: what is absent is forgotten here once it is stored. */
    onDurable(): void {
      const nowMs = performance.now();
      for (const client of absent) leaving.set(client, nowMs);
    },

    sweep(): void {
      const nowMs = performance.now();
      for (const client of delayed) if ((client.delayedWill?.dueAtMs ?? 0) <= nowMs) publishWill(client);
      for (const client of expiring) if (client.expiresAtMs <= nowMs) discard(client);
      for (const [client, sinceMs] of unsettled) {
        if (!isSettled(client) && sinceMs >= nowMs - laneGraceMs) continue;
        unsettled.delete(client);
        options.closeLane(client);
      }
      for (const [client, sinceMs] of leaving) {
        if (sinceMs > nowMs - awayGraceMs) break;
        leaving.delete(client);
        if (mayLeave(client)) leave(client);
        else leaving.set(client, nowMs);
      }
      if (absent.size > maxSessions) evict();
    },
  };
}

export function isSettled({ lane, wills }: Client): boolean {
  return lane.inFlight === 0 && wills.length === 0;
}

/** The store has everything of an absent client that somebody could ask for. */
function mayLeave(client: Client): boolean {
  const { session, exchanges, delayedWill, stored } = client;
  if (!isSettled(client) || exchanges.size > 0 || delayedWill !== undefined) return false;
  return stored?.isDirty === false && (session === undefined || session.mayLeave);
}
