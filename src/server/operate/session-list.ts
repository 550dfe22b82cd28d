import { setImmediate as nextTurn } from 'node:timers/promises';
import type { SessionJson } from '../../api/session.js';
import { SvcMqttError } from '../../errors.js';
import type { MessageFilters } from '../forward/state/message-index.js';
import type { LiveSessions } from '../live.js';
import { clientOfKey, deviceOfKey, isSessionKey, keyPrefix } from '../mqtt/sessions/store/session-key.js';
import type { SessionRecord } from '../mqtt/sessions/store/session-record.js';
import { type SessionStore, type StoredRecord, StoreError } from '../mqtt/sessions/store/session-store.js';
import { findMessagePosition, findPosition, type Pending, readOldestMs } from './session-pending.js';

/** So many messages that wait for a session are counted, and no more. */
const mostPending = 1_000;
/** Records that are read at the same time. */
const readAtOnce = 32;

/**
 * Lists, shows and ends the sessions that the store has: of the fleet, or without JetStream of this replica.
 *
 * @param options.commands undefined: commands are not stored.
 * @param options.messages those between devices; undefined: they are not stored.
 * @param options.drop ends what this replica has of a session, and its connection here.
 */
export function openSessionList({
  store,
  commands,
  messages,
  drop,
}: {
  store: SessionStore;
  commands(): Pending<string> | undefined;
  messages(): Pending<MessageFilters> | undefined;
  drop(key: string): void;
}): LiveSessions {
  async function load(key: string): Promise<SessionJson | undefined> {
    const found = await store.load(key).catch(failOnStore);
    return found === undefined ? undefined : await summarize(key, found);
  }

  async function summarize(key: string, { record }: StoredRecord): Promise<SessionJson> {
    const names = { id: key, device: deviceOfKey(key), client: clientOfKey(key) };
    if (typeof record === 'string') return { ...names, ...unreadable, problem: record };
    return { ...names, ...(await describe(record, names.device)), problem: null };
  }

  async function describe(record: SessionRecord, deviceId: string) {
    const { owner, awaySinceMs, expirySec, subscriptions, unacked } = record;
    const backlogs = [await findCommands(record, deviceId), await findMessages(record, deviceId)];
    const known = backlogs.filter((backlog) => backlog !== undefined);
    const waiting = known.reduce((sum, { count }) => sum + count, 0);
    const times = known.flatMap(({ oldestMs }) => oldestMs ?? []);
    const expires = Number.isFinite(expirySec);
    return {
      connected: owner !== undefined,
      away_since: toTime(awaySinceMs),
      expires_at: toTime(awaySinceMs !== undefined && expires ? awaySinceMs + expirySec * 1_000 : undefined),
      expiry_seconds: expires ? expirySec : null,
      subscriptions: subscriptions.map(({ name, qos }) => ({ filter: name, qos })),
      unacknowledged: unacked.length,
      pending: known.length === 0 ? null : Math.min(mostPending, waiting),
      oldest_pending_at: toTime(times.length === 0 ? undefined : Math.min(...times)),
    };
  }

  async function findCommands(record: SessionRecord, deviceId: string): Promise<Backlog | undefined> {
    const stored = commands();
    if (stored === undefined) return undefined;
    const had = findPosition(record, deviceId, stored);
    return had === undefined ? { count: 0 } : await readBacklog(stored, deviceId, had);
  }

  async function findMessages(record: SessionRecord, deviceId: string): Promise<Backlog | undefined> {
    const stored = messages();
    if (stored === undefined) return undefined;
    const found = findMessagePosition(record, deviceId, stored);
    if (found === undefined) return { count: 0 };
    // A session that was away for long may have a million to look at.
    await nextTurn();
    return await readBacklog(stored, found.filters, found.had);
  }

  return {
    async list({ devices, devicePrefix, after, limit }) {
      const begin = devicePrefix === '' ? '' : keyPrefix(devicePrefix).slice(0, -1);
      const wanted = devices.length === 0 ? undefined : new Set(devices.map(keyPrefix));
      const isWanted = (key: string) =>
        key.startsWith(begin) && (wanted === undefined || wanted.has(key.slice(0, key.indexOf('.') + 1)));
      const keys = firstOf(store.keys(), isWanted, after, limit + 1);
      const page = keys.slice(0, limit);
      // One that has ended meanwhile is left out.
      const sessions = (await readEach(page, load)).flatMap((each) => each ?? []);
      return { sessions, next: keys.length > limit ? page.at(-1) : undefined };
    },

    async find(key) {
      return isSessionKey(key) ? await load(key) : undefined;
    },

    async end(key) {
      if (!isSessionKey(key) || (await store.load(key).catch(failOnStore)) === undefined) return undefined;
      drop(key);
      await store.remove(key, undefined).catch(failOnStore);
      return { deviceId: deviceOfKey(key), clientId: clientOfKey(key) };
    },
  };
}

/** What is shown of a session whose record cannot be read. */
const unreadable = {
  connected: false,
  away_since: null,
  expires_at: null,
  expiry_seconds: null,
  subscriptions: [],
  unacknowledged: 0,
  pending: null,
  oldest_pending_at: null,
};

function toTime(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString();
}

/** The first keys in order behind one, without sorting all that there are. */
function firstOf(
  keys: Iterable<string>,
  isWanted: (key: string) => boolean,
  after: string | undefined,
  limit: number,
): string[] {
  const kept: string[] = [];
  let last: string | undefined;
  for (const key of keys) {
    if ((after !== undefined && key <= after) || (last !== undefined && key >= last)) continue;
    if (!isWanted(key)) continue;
    kept.push(key);
    if (kept.length < 2 * limit) continue;
    kept.sort();
    kept.length = limit;
    last = kept.at(-1);
  }
  return kept.sort().slice(0, limit);
}

/** What waits for a session in one stream. */
interface Backlog {
  readonly count: number;
  readonly oldestMs?: number | undefined;
}

async function readBacklog<K>(stored: Pending<K>, key: K, had: number): Promise<Backlog> {
  const count = stored.countAfter(key, had, mostPending);
  return { count, oldestMs: count === 0 ? undefined : await readOldestMs(key, had, stored) };
}

/** Reads something of each session, of some at the same time. */
export async function readEach<T>(keys: readonly string[], read: (key: string) => Promise<T>): Promise<T[]> {
  const found: T[] = [];
  for (let at = 0; at < keys.length; at += readAtOnce)
    found.push(...(await Promise.all(keys.slice(at, at + readAtOnce).map(read))));
  return found;
}

/** Says of an error of the store of sessions what is away. */
export function failOnStore(error: unknown): never {
  if (!(error instanceof StoreError)) throw error;
  const code = error.away ? 'NATS_UNREACHABLE' : 'NATS_STREAM';
  throw new SvcMqttError(code, `The sessions cannot be reached: ${error.message}`, { cause: error });
}
