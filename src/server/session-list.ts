import type { SessionSummary } from '../api/session.js';
import { SvcMqttError } from '../errors.js';
import type { LiveSessions } from './live.js';
import { clientOfKey, deviceOfKey, keyPrefix } from './mqtt/sessions/session-key.js';
import type { SessionRecord } from './mqtt/sessions/session-record.js';
import { type SessionStore, type StoredRecord, StoreError } from './mqtt/sessions/session-store.js';
import { findPosition, type PendingCommands, readOldestMs } from './session-pending.js';

/** So many commands that wait for a session are counted, and no more. */
const mostPending = 1_000;
/** Records that are read at the same time. */
const readAtOnce = 32;

/**
 * Lists, shows and ends the sessions that the store has: of the fleet, or without JetStream of this replica.
 *
 * @param options.commands undefined: commands are not stored.
 * @param options.drop ends what this replica has of a session, and its connection here.
 */
export function openSessionList({
  store,
  commands,
  drop,
}: {
  store: SessionStore;
  commands(): Commands;
  drop(key: string): void;
}): LiveSessions {
  async function load(key: string): Promise<SessionSummary | undefined> {
    const found = await store.load(key).catch(fail);
    return found === undefined ? undefined : await summarize(key, found, commands());
  }

  return {
    async list({ devices, devicePrefix, after, limit }) {
      const begin = devicePrefix === '' ? '' : keyPrefix(devicePrefix).slice(0, -1);
      const wanted = devices.length === 0 ? undefined : new Set(devices.map(keyPrefix));
      const isWanted = (key: string) =>
        key.startsWith(begin) && (wanted === undefined || wanted.has(key.slice(0, key.indexOf('.') + 1)));
      const keys = firstOf(store.keys(), isWanted, after, limit + 1);
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

type Commands = PendingCommands | undefined;

async function summarize(key: string, { record }: StoredRecord, commands: Commands): Promise<SessionSummary> {
  const names = { id: key, deviceId: deviceOfKey(key), clientId: clientOfKey(key) };
  return {
    ...names,
    stored: typeof record === 'string' ? record : await describe(record, names.deviceId, commands),
  };
}

async function describe(record: SessionRecord, deviceId: string, commands: Commands) {
  const { owner, awaySinceMs, expirySec, subscriptions, unacked } = record;
  const had = commands && findPosition(record, deviceId, commands);
  const pending = commands && (had === undefined ? 0 : commands.countAfter(deviceId, had, mostPending));
  return {
    pending,
    oldestPendingMs: pending ? await readOldestMs(deviceId, had ?? 0, commands) : undefined,
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
