import { setTimeout as delay } from 'node:timers/promises';
import type { DeviceCredentials } from '../../../../db/devices/device-credentials.js';
import { messageOf } from '../../../../errors.js';
import type { LimitedLog } from '../../../../log.js';
import type { Policy } from '../../admission/authorize.js';
import type { CloseReason } from '../../protocol/close-reason.js';
import { partFilter } from '../../protocol/topics.js';
import type { Client } from '../client.js';
import { ClientSession, type SessionServices } from '../client-session.js';
import { ReceivedGenerations } from '../received-generations.js';
import type { Registry } from '../registry.js';
import {
  type DeviceMark,
  disown,
  type SessionRecord,
  type StoredSubscription,
} from '../store/session-record.js';
import { type SessionStore, type StoredRecord, StoreError } from '../store/session-store.js';
import type { SessionWriter } from '../store/session-writer.js';
import { newTerms, type SessionState, StoredSession } from '../store/stored-session.js';
import { openTakingTurns, type Turn, type TurnRequest } from './taking-turns.js';

/** What CONNECT asks for. */
export interface TakeRequest extends TurnRequest {
  readonly cleanStart: boolean;
  /** 0: the session ends with the connection; infinite: it never expires. */
  readonly sessionExpirySec: number;
  /** The client goes on with a session that this replica has in memory. */
  readonly sessionPresent: boolean;
  policy(): Policy;
  readonly device: DeviceCredentials;
}

export type Taken = { readonly sessionPresent: boolean } | { readonly refused: CloseReason };

export type SessionTaking = ReturnType<typeof openSessionTaking>;

const pauseMs = 100;
const emptyState: SessionState = {
  subscriptions: [],
  cursors: { commands: 0, messages: 0 },
  unacked: [],
  received: { generation: 0, completed: [], open: [] },
};

/** Gives a client that connects its session, which from then on no other connection can write. */
export function openSessionTaking(options: {
  store: SessionStore;
  writer: SessionWriter;
  registry: Registry;
  /** What clients' sessions share. */
  session: SessionServices;
  maxClientsPerDevice: number;
  /** A record that cannot be read is given up, and its client begins anew. */
  renewsUnreadable: boolean;
  log: LimitedLog;
}) {
  const { store, writer, registry, maxClientsPerDevice, renewsUnreadable, log } = options;
  const services = { store, writer, owner: store.owner };
  /** Clients that go on with what this replica has, while the store is asked whether it still may. */
  const begun = new Set<Client>();
  const turns = openTakingTurns();

  store.listener = {
    onNews({ key, revision, epoch, removed }) {
      const stored = registry.find(key)?.stored;
      if (stored === undefined || (epoch < stored.epoch && !removed)) return;
      stored.onNews(revision).catch(() => {
        // The next write finds out.
      });
    },
    onCaughtUp() {
      // A store that was lost as a whole is written anew.
      for (const { key, stored } of registry.clients())
        if (stored !== undefined && !store.has(key)) void stored.persist();
    },
    onDurable() {
      registry.onDurable();
      for (const client of registry.clients()) {
        if (client.stored === undefined) continue;
        client.received = receivedOf(undefined);
        client.session?.onDurable();
        wake(client, client.stored.move());
      }
    },
  };

  /** QoS 2 waits until the session is known to be this connection's. */
  function wake(client: Client, claimed: Promise<boolean>): void {
    void claimed.then(() => client.connection?.onRoom());
  }

  /** In the memory of this replica exchanges end with it, and nobody else has to find their names. */
  function receivedOf(record: SessionRecord | undefined): ReceivedGenerations | undefined {
    return store.durable ? new ReceivedGenerations(record?.received) : undefined;
  }

  /**
   * @param turn undefined: the store does not answer. This replica has the session, and need not wait for it.
   * @returns undefined where the session has been lost to another replica meanwhile.
   */
  async function goOn(
    client: Client,
    stored: StoredSession,
    { sessionPresent, sessionExpirySec, device }: TakeRequest,
    turn: Turn | undefined,
  ): Promise<Taken | undefined> {
    if (!sessionPresent && sessionExpirySec === 0) {
      client.stored = undefined;
      stored.remove();
      if (turn !== undefined && store.reachable) await Promise.race([stored.settled(), turn.late]);
      return { sessionPresent: false };
    }
    stored.begin(sessionExpirySec, !sessionPresent, markOf(device));
    if (!sessionPresent) client.received = receivedOf(undefined);
    const written = stored.persist();
    wake(client, written);
    if (turn === undefined || !store.reachable) return { sessionPresent };
    return (await Promise.race([written, turn.late])) === false ? undefined : { sessionPresent };
  }

  async function fetch(client: Client, request: TakeRequest, turn: Turn): Promise<Taken> {
    const { key } = client;
    let problem = 'NATS does not answer';
    while (request.isWanted() && !turn.isLate) {
      try {
        await writer.find(key)?.settled();
        const taken = await tryOnce(client, request, await store.load(key));
        if (taken !== undefined) return taken;
      } catch (error) {
        problem = messageOf(error);
        if (!(error instanceof StoreError)) throw error;
        if (!error.away) break;
        await delay(pauseMs, undefined, { ref: false });
      }
    }
    return refuse(client, request, problem);
  }

  function refuse({ key }: Client, { isWanted }: TakeRequest, problem: string): Taken {
    if (isWanted())
      log.warn(
        'session_not_taken',
        { session: key, reason: problem },
        'A client is refused: its session is out of reach',
      );
    return { refused: 'sessions-away' };
  }

  /** @returns undefined when another one was quicker. */
  async function tryOnce(
    client: Client,
    { cleanStart, sessionExpirySec, policy, device, isWanted }: TakeRequest,
    found: StoredRecord | undefined,
  ): Promise<Taken | undefined> {
    const { key } = client;
    if (found !== undefined && typeof found.record === 'string' && !cleanStart) {
      log.error(
        'session_unreadable',
        { session: key, reason: found.record },
        `A stored session cannot be read; its client ${renewsUnreadable ? 'begins anew' : 'is refused'}`,
      );
      if (!renewsUnreadable) return { refused: 'session-unreadable' };
    }
    const before = found === undefined || typeof found.record === 'string' ? undefined : found.record;
    const isAllowed =
      before?.subscriptions.every((each) => allows(policy(), each)) && isSame(before.device, device);
    const kept = !cleanStart && isAllowed && before !== undefined ? disown(before) : undefined;
    if (kept === undefined && sessionExpirySec === 0) {
      if (found !== undefined && !(await store.remove(key, found.revision))) return undefined;
      return { sessionPresent: false };
    }
    if (found === undefined && !(await hasRoom(client))) return { refused: 'too-many-clients' };
    const epoch = (found?.epoch ?? 0) + 1;
    const record: SessionRecord =
      kept === undefined
        ? { ...newTerms(store.owner, sessionExpirySec, epoch, markOf(device)), ...emptyState }
        : {
            ...kept,
            ...{ epoch, owner: store.owner, expirySec: sessionExpirySec, awaySinceMs: undefined },
            device: markOf(device),
          };
    const revision = await store.write(key, record, found?.revision ?? 0, store.nextWriteId());
    if (revision === undefined) return undefined;
    const putBack = () =>
      sessionExpirySec === 0
        ? store.remove(key, revision)
        : store.write(
            key,
            { ...record, owner: undefined, awaySinceMs: Date.now() },
            revision,
            store.nextWriteId(),
          );
    if (!isWanted()) {
      // Nobody is there any more: it waits for the client to come back.
      await putBack();
      return { refused: 'connection-lost' };
    }
    const stored = new StoredSession(services, { key, record, revision }, clientOf(client));
    if (kept === undefined || restore(client, kept)) {
      client.stored = stored;
      client.received = receivedOf(kept);
      return { sessionPresent: kept !== undefined };
    }
    registry.discardSession(client);
    await putBack();
    log.warn(
      'session_not_restored',
      { session: key },
      'A client is refused: there is no room here for its subscriptions',
    );
    return { refused: 'too-many-clients' };
  }

  /** A device may have so many sessions: of those that are away, the one that was written longest ago makes room. */
  async function hasRoom({ device }: Client): Promise<boolean> {
    if (!store.durable) return true;
    const keys = await store.keysOf(device.id);
    if (keys.length < maxClientsPerDevice) return true;
    options.session.counters.limits['clients-per-device'] += 1;
    const isAway = (key: string) => !store.owned().has(key) && registry.find(key)?.connection === undefined;
    const away = keys.find(isAway);
    if (away === undefined) return false;
    const here = registry.find(away);
    if (here === undefined) await store.remove(away, undefined);
    else registry.drop(here, 'too-many-clients');
    return true;
  }

  function clientOf(client: Client) {
    return {
      collect(): SessionState {
        const { subscriptions, cursors, unacked, passed, begun } = client.session?.snapshot() ?? emptyState;
        const received = client.received?.snapshot() ?? emptyState.received;
        return { subscriptions, cursors, unacked, passed, received, begun };
      },
      onLost: (ended: boolean) => {
        if (client.stored?.isHeld === false && !begun.has(client)) registry.lose(client, ended);
      },
    };
  }

  /** @returns false when there is no room. */
  function restore(client: Client, record: SessionRecord): boolean {
    const session = new ClientSession(options.session, client, record);
    client.session = session;
    return record.subscriptions.every((each) => {
      const parts = partFilter(each.name);
      const { name, id, from: commands, fromMessages: messages = 0, ...terms } = each;
      const from = { commands, messages };
      // A filter that cannot be is nobody's.
      return parts === undefined || session.subscribe({ ...terms, ...parts, name, id }, from) !== 'full';
    });
  }

  async function takeNow(client: Client, request: TakeRequest, turn: Turn | undefined): Promise<Taken> {
    if (!request.isWanted()) return { refused: 'connection-lost' };
    const { stored } = client;
    if (stored?.isHeld === true) {
      const taken = await goOn(client, stored, request, turn);
      if (taken !== undefined) return taken;
      if (!request.isWanted()) {
        if (client.connection === undefined && client.stored === stored)
          registry.lose(client, stored.hasEnded);
        return { refused: 'taken-over' };
      }
      // Whatever session the client goes on with, it is not the one that this will was left to; one that lives is elsewhere by now.
      registry.settleWill(client, !stored.hasEnded);
    }
    begun.delete(client);
    client.stored = undefined;
    registry.discardSession(client);
    const reason = 'NATS does not answer';
    if (turn === undefined) return refuse(client, request, reason);
    const taken = await Promise.race([fetch(client, request, turn), turn.late]);
    return taken === 'late' ? refuse(client, request, reason) : taken;
  }

  return {
    /** The client has a session that outlives its connection, or is to have one; others are not made to wait. */
    concerns: ({ key, stored }: Client, sessionExpirySec: number): boolean =>
      sessionExpirySec > 0 ||
      stored !== undefined ||
      (store.size > 0 && store.has(key)) ||
      writer.find(key) !== undefined,
    /**
     * Takes the session: reads it, unless this replica has it, and makes it this connection's. Of a crowd each waits for its turn.
     *
     * @returns whether the client goes on with one, or why it is refused.
     */
    async take(client: Client, request: TakeRequest): Promise<Taken> {
      if (client.stored?.isHeld === true) begun.add(client);
      const turn =
        client.stored?.isHeld === true && !store.reachable
          ? undefined
          : (turns.begin(request) ?? (await turns.wait(request)));
      let taken: Taken | undefined;
      try {
        taken = await takeNow(client, request, turn);
        return taken;
      } finally {
        begun.delete(client);
        turn?.end(taken !== undefined && !('refused' in taken && taken.refused === 'sessions-away'));
      }
    },
  };
}

function allows(policy: Policy, { name }: StoredSubscription): boolean {
  const filter = partFilter(name)?.filter;
  return filter === undefined || policy.maySubscribe(filter);
}

function markOf({ type, secretSalt }: DeviceCredentials): DeviceMark {
  return { type, secret: nameOf(secretSalt) };
}

/** Whether a device is still as it was: of the same type, and its last rotation, if there was one since, had a grace. */
function isSame(
  mark: DeviceMark | undefined,
  { type, secretSalt, previousSecret }: DeviceCredentials,
): boolean {
  if (mark === undefined) return true;
  return mark.type === type && (previousSecret !== undefined || mark.secret === nameOf(secretSalt));
}

/** The beginning of its salt, which is random and no secret. */
function nameOf(salt: Buffer): string {
  return salt.toString('base64url', 0, 9);
}
