import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import type { CommandStore } from '../forward/commands/command-store.js';
import { compileFilters, type MessageFilters } from '../forward/state/message-index.js';
import type { Presence } from '../forward/state/presence.js';
import type { StoredMessage, StoredMessages } from '../forward/stored/stored-messages.js';
import { partFilter } from '../mqtt/protocol/topics.js';
import { isOwn } from '../mqtt/sessions/commands/command-topics.js';
import { deviceOfKey } from '../mqtt/sessions/store/session-key.js';
import type { SessionRecord } from '../mqtt/sessions/store/session-record.js';
import type { SessionStore } from '../mqtt/sessions/store/session-store.js';

/** What is asked of a stream that keeps something for sessions: commands by their device, messages between devices by filters. */
export type Pending<K> = Pick<StoredMessages<K, StoredMessage>, 'incarnation' | 'countAfter' | 'readAfter'>;

/** A message whose time is to be told is waited for so long. */
const readWithinMs = 2_000;

/** Up to where the session has had the commands of its device, those that none of its filters matches too; undefined: it takes none. */
export function findPosition(
  { subscriptions, cursors }: SessionRecord,
  deviceId: string,
  commands: Pick<Pending<string>, 'incarnation'>,
): number | undefined {
  const own = subscriptions.filter(({ name }) => name.startsWith(`cmd/${deviceId}/`));
  if (own.length === 0) return undefined;
  // Of a stream that was made anew nothing has been had.
  const isSame = cursors.commandStream === commands.incarnation;
  return isSame ? Math.max(cursors.commands, Math.min(...own.map(({ from }) => from))) : 0;
}

/** What the session looks for among the messages between devices, and behind which one; undefined: it takes none. */
export function findMessagePosition(
  { subscriptions, cursors }: SessionRecord,
  deviceId: string,
  messages: Pick<Pending<MessageFilters>, 'incarnation'>,
): { readonly filters: MessageFilters; readonly had: number } | undefined {
  // One that takes messages before their stream is known takes those from then on.
  if (cursors.messageStream === undefined) return undefined;
  const taken = subscriptions.flatMap(({ name, fromMessages = 0 }) => {
    const parts = partFilter(name);
    if (parts === undefined || parts.shareName !== undefined || isOwn(parts, deviceId)) return [];
    return { filter: parts.filter, from: fromMessages };
  });
  if (taken.length === 0) return undefined;
  const isSame = cursors.messageStream === messages.incarnation;
  return {
    filters: compileFilters(taken.map(({ filter }) => filter)),
    had: isSame ? Math.max(cursors.messages, Math.min(...taken.map(({ from }) => from))) : 0,
  };
}

/** When the first message of a key behind a sequence was stored; undefined: there is none, or NATS does not say in time. */
export async function readOldestMs<K>(
  key: K,
  after: number,
  stored: Pending<K>,
): Promise<number | undefined> {
  if (stored.countAfter(key, after, 1) === 0) return undefined;
  const ended = new AbortController();
  const late = delay(readWithinMs, undefined, { signal: ended.signal, ref: false }).catch(() => undefined);
  const reading = stored.readAfter(key, after, 1, () => !ended.signal.aborted).catch(() => undefined);
  const batch = await Promise.race([reading, late]);
  ended.abort();
  return batch?.messages[0]?.storedAtMs;
}

/** How long commands wait for sessions that are away. */
export type PendingWatch = ReturnType<typeof startPendingWatch>;

const roundMs = 15_000;
/** Sessions that are known to have something pending; of more those found first. */
const maxKnown = 10_000;
/** Of them so many are looked at again in a round: the oldest. */
const maxVerified = 64;
/** So many records are read, then there is a rest. */
const readsInARow = 32;
const restMs = 200;
/** Keys looked through in a turn of the event loop. */
const keysInATurn = 2_000;

/**
 * Finds the oldest command that waits for a session that is away: on one replica of the fleet, in the background. A record is read
 * only when its device was sent something since the round before, or has left since; of those that are known to wait only the oldest are read
 * again, since nothing of the others can make the age larger.
 */
export function startPendingWatch(options: {
  store: SessionStore;
  commands(): (Pending<string> & Pick<CommandStore, 'end' | 'isCaughtUp' | 'hasAfter'>) | undefined;
  presence: Pick<Presence, 'known' | 'isFirst'> | undefined;
  /** Its client is connected to this replica. */
  isConnected(key: string): boolean;
  log: Log;
}) {
  const { store, presence, isConnected, log } = options;
  const closing = new AbortController();
  const { signal } = closing;
  /** By key of the session, when the first command that it lacks was stored. */
  const known = new Map<string, number>();
  let oldestMs: number | undefined;
  let seenUpTo = 0;
  /** Those that were connected in the round before. */
  let connected = new Set<string>();
  let incarnation = '';

  const isOurs = () => store.durable && store.caughtUp && presence?.known === true && presence.isFirst;
  const isAway = (key: string) => store.has(key) && !store.owned().has(key) && !isConnected(key);

  async function look(key: string, commands: Pending<string>): Promise<void> {
    const found = await store.load(key);
    const record = found?.record;
    known.delete(key);
    if (record === undefined || typeof record === 'string' || record.owner !== undefined) return;
    const deviceId = deviceOfKey(key);
    const had = findPosition(record, deviceId, commands);
    const atMs = had === undefined ? undefined : await readOldestMs(deviceId, had, commands);
    if (atMs !== undefined && known.size < maxKnown) known.set(key, atMs);
  }

  async function round(): Promise<void> {
    const commands = options.commands();
    if (commands === undefined || !commands.isCaughtUp || !isOurs()) {
      oldestMs = undefined;
      return;
    }
    if (incarnation !== commands.incarnation) {
      known.clear();
      seenUpTo = 0;
    }
    incarnation = commands.incarnation;
    const { end } = commands;
    let keys = 0;
    let reads = 0;
    const connectedNow = new Set<string>();
    for (const key of store.keys()) {
      keys += 1;
      if (keys % keysInATurn === 0) await nextTurn();
      if (signal.aborted) return;
      if (!isAway(key)) {
        connectedNow.add(key);
        continue;
      }
      // One that has left since then may not have had all of before.
      const after = connected.has(key) ? 0 : seenUpTo;
      if (known.has(key) || !commands.hasAfter(deviceOfKey(key), after)) continue;
      await look(key, commands);
      reads += 1;
      if (reads % readsInARow === 0) await delay(restMs, undefined, { signal, ref: false });
    }
    seenUpTo = end;
    connected = connectedNow;
    oldestMs = await verify(commands);
  }

  /** The oldest of those that are known to wait, and still do. */
  async function verify(commands: Pending<string>): Promise<number> {
    for (let reads = 0; reads < maxVerified; reads += 1) {
      let first: string | undefined;
      for (const [key, atMs] of known) {
        if (!isAway(key)) known.delete(key);
        else if (first === undefined || atMs < (known.get(first) as number)) first = key;
      }
      if (first === undefined) return 0;
      const before = known.get(first);
      await look(first, commands);
      if (before !== undefined && known.get(first) === before) return before;
    }
    return Math.min(...known.values());
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      await delay(roundMs, undefined, { signal, ref: false });
      await round().catch((error: unknown) => {
        if (!signal.aborted)
          log.debug({ event: 'pending_watch_waits', reason: messageOf(error) }, 'tried again');
      });
    }
  }
  run().catch(() => {});

  return {
    /** `Date.now()` when the oldest was stored, 0 when none waits; undefined: another replica says it, or it is not known yet. */
    get oldestMs() {
      return oldestMs;
    },
    close: () => closing.abort(),
  };
}
