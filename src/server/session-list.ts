import type { SessionSummary } from '../api/session.js';
import { SvcMqttError } from '../errors.js';
import type { LiveSessions } from './live.js';
import { clientOfKey, deviceOfKey, keyPrefix } from './mqtt/sessions/session-key.js';
import type { SessionRecord } from './mqtt/sessions/session-record.js';
import { type SessionStore, type StoredRecord, StoreError } from './mqtt/sessions/session-store.js';

/** Records that are read at the same time. */
const readAtOnce = 32;

/**
 * Lists, shows and ends the sessions that the store has: of the fleet, or without JetStream of this replica.
 *
 * @param options.drop ends what this replica has of a session, and its connection here.
 */
export function openSessionList({
  store,
  drop,
}: {
  store: SessionStore;
  drop(key: string): void;
}): LiveSessions {
  async function load(key: string): Promise<SessionSummary | undefined> {
    const found = await store.load(key).catch(fail);
    return found === undefined ? undefined : summarize(key, found);
  }

  return {
    async list({ device, after, limit }) {
      const prefix = device === undefined ? '' : keyPrefix(device);
      const keys = firstOf(store.keys(), prefix, after, limit + 1);
      const page = keys.slice(0, limit);
      const sessions: SessionSummary[] = [];
      for (let at = 0; at < page.length; at += readAtOnce) {
        const read = await Promise.all(page.slice(at, at + readAtOnce).map(load));
        // One that has ended meanwhile is left out.
        sessions.push(...read.flatMap((each) => each ?? []));
      }
      return { sessions, next: keys.length > limit ? page.at(-1) : undefined };
    },

    find: load,

    async end(key) {
      if ((await store.load(key).catch(fail)) === undefined) return undefined;
      drop(key);
      await store.remove(key, undefined).catch(fail);
      return { deviceId: deviceOfKey(key), clientId: clientOfKey(key) };
    },
  };
}

/** The first keys in order behind one, without sorting all that there are. */
function firstOf(keys: Iterable<string>, prefix: string, after: string | undefined, limit: number): string[] {
  const kept: string[] = [];
  let last: string | undefined;
  for (const key of keys) {
    if (!key.startsWith(prefix) || (after !== undefined && key <= after)) continue;
    if (last !== undefined && key >= last) continue;
    kept.push(key);
    if (kept.length < 2 * limit) continue;
    kept.sort();
    kept.length = limit;
    last = kept.at(-1);
  }
  return kept.sort().slice(0, limit);
}

function summarize(key: string, { record }: StoredRecord): SessionSummary {
  const names = { id: key, deviceId: deviceOfKey(key), clientId: clientOfKey(key) };
  return { ...names, stored: typeof record === 'string' ? record : describe(record) };
}

function describe({ owner, awaySinceMs, expirySec, subscriptions, unacked }: SessionRecord) {
  return {
    connected: owner !== undefined,
    awaySinceMs,
    expirySec,
    subscriptions: subscriptions.map(({ name, qos }) => ({ filter: name, qos })),
    unacknowledged: unacked.length,
  };
}

function fail(error: unknown): never {
  if (!(error instanceof StoreError)) throw error;
  const code = error.away ? 'NATS_UNREACHABLE' : 'NATS_STREAM';
  throw new SvcMqttError(code, `The sessions cannot be reached: ${error.message}`, { cause: error });
}
