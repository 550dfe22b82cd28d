import type { ConnectionKey, ConnectionRequest, SortField, SortKey } from '../../../api/connection.js';
import type { Connection } from '../connection.js';
import { type ConnectionMeters, countOf } from './connection-meters.js';
import type { ConnectionRoll } from './connection-roll.js';

/** A connection with what it is sorted by. */
export interface Entry {
  readonly connection: Connection;
  readonly openedAtMs: number;
  key: string | number;
}

/** The connections that a filter lets through, sorted. */
interface Kept {
  readonly entries: Entry[];
  /** Of the newcomers so many were looked at; undefined: not even the others were. */
  seen: number | undefined;
  sortedAtMs: number;
  /** Samples of the meters, and connections that had ended, when it was sorted. */
  samples: number;
  ended: number;
}

/** What does not change while a connection lives. */
const lasting: ReadonlySet<SortField> = new Set<SortField>([
  'device',
  'client',
  'address',
  'protocol',
  'transport',
  'connected',
]);

/** Orders that are kept: who watches asks for the same again and again. */
const maxKept = 8;
/** When more have come since the last look, the next one is at all connections. */
const maxNewcomers = 50_000;
/** One that nobody has asked for since is dropped, with the connections in it that have ended. */
const droppedAfterMs = 10_000;
/** An order is good for the second question about one page. */
const goodForMs = 500;

/**
 * Sorts connections for those who watch. From one second to the next few change places and few come: of those that were there
 * it is only looked whether their keys have changed.
 */
export function openConnectionOrders(connections: ConnectionRoll<Connection>, meters: ConnectionMeters) {
  /** The one that was used last is the last. */
  const kept = new Map<string, Kept>();
  /** Those that have come and that not every order has. */
  let newcomers: Connection[] = [];

  const forget = () => {
    kept.clear();
    newcomers = [];
  };
  meters.onForgotten = forget;
  connections.onConnected = (connection) => {
    if (kept.size === 0) return;
    if (newcomers.length >= maxNewcomers) forget();
    else newcomers.push(connection);
  };

  function take({ text, device, type, sort, descending }: ConnectionRequest): Kept {
    const name = JSON.stringify([text, device, type, sort, descending]);
    const order = kept.get(name) ?? {
      entries: [],
      seen: undefined,
      sortedAtMs: Number.NEGATIVE_INFINITY,
      samples: 0,
      ended: 0,
    };
    kept.delete(name);
    for (const other of kept.keys()) if (kept.size >= maxKept) kept.delete(other);
    kept.set(name, order);
    return order;
  }

  function prune(nowMs: number): void {
    let seenByAll = newcomers.length;
    for (const [name, { seen = 0, sortedAtMs }] of kept) {
      if (nowMs - sortedAtMs > droppedAfterMs) kept.delete(name);
      else seenByAll = Math.min(seenByAll, seen);
    }
    if (seenByAll === 0) return;
    newcomers.splice(0, seenByAll);
    for (const order of kept.values()) order.seen = (order.seen ?? 0) - seenByAll;
  }

  return {
    /**
     * @param again an order of a moment ago will do.
     * @returns good until the next question.
     */
    of(request: ConnectionRequest, again = false): readonly Entry[] {
      meters.watch();
      const order = take(request);
      const nowMs = performance.now();
      if (again && nowMs - order.sortedAtMs < goodForMs) return order.entries;
      const { entries, seen } = order;
      const keyIn = keys[request.sort];
      const key = (connection: Connection) => keyIn(connection, meters);
      const matches = filterOf(request, meters);
      const isLasting =
        lasting.has(request.sort) || (request.sort === 'rate' && order.samples === meters.samples);
      const isWhole = isLasting && order.ended === connections.endedCount;
      const moved = isWhole ? [] : takeMoved(entries, isLasting ? undefined : key);
      for (const connection of seen === undefined ? connections : newcomers.slice(seen)) {
        if (!connection.isConnected || matches?.(connection) === false) continue;
        moved.push({ connection, openedAtMs: connection.openedAtMs, key: key(connection) });
      }
      order.seen = newcomers.length;
      order.sortedAtMs = nowMs;
      order.samples = meters.samples;
      order.ended = connections.endedCount;
      const compare = comparatorOf(request.descending);
      mergeInto(entries, moved.sort(compare), compare);
      prune(nowMs);
      return entries;
    },
  };
}

/**
 * Takes those out that are not where they were, and those that have ended.
 *
 * @param key undefined: the others are all where they were.
 */
function takeMoved(
  entries: Entry[],
  key: ((connection: Connection) => string | number) | undefined,
): Entry[] {
  const moved: Entry[] = [];
  let stayed = 0;
  for (const entry of entries) {
    const { connection } = entry;
    if (!connection.isConnected) continue;
    const keyNow = key === undefined ? entry.key : key(connection);
    if (keyNow === entry.key) {
      entries[stayed] = entry;
      stayed += 1;
    } else {
      entry.key = keyNow;
      moved.push(entry);
    }
  }
  entries.length = stayed;
  return moved;
}

/** Puts sorted ones among others that are sorted, from the last to the first, and touches none that stays where it is. */
function mergeInto(entries: Entry[], added: readonly Entry[], compare: (a: Entry, b: Entry) => number): void {
  let last = entries.length - 1;
  for (let at = added.length - 1; at >= 0; at -= 1) {
    const entry = added[at] as Entry;
    while (last >= 0 && compare(entries[last] as Entry, entry) > 0) {
      entries[last + at + 1] = entries[last] as Entry;
      last -= 1;
    }
    entries[last + at + 1] = entry;
  }
}

/** Undefined: every connection is asked for. */
function filterOf(
  { text, device, type }: ConnectionRequest,
  meters: ConnectionMeters,
): ((connection: Connection) => boolean) | undefined {
  const words = (text ?? '')
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  if (words.length === 0 && device === undefined && type === undefined) return undefined;
  return (connection) => {
    if (device !== undefined && connection.device?.id !== device) return false;
    if (type !== undefined && connection.device?.type !== type) return false;
    if (words.length === 0) return true;
    const searched = meters.searchTextOf(connection);
    return words.every((word) => searched.includes(word));
  };
}

export function inFlightOf({ client }: Connection): number {
  return client?.lane.inFlight ?? 0;
}

export function subscriptionsOf({ client }: Connection): number {
  return client?.session?.subscriptions.size ?? 0;
}

/** What each field sorts by. Of two connections alike, the older comes first, so that the order is total. */
const keys: Readonly<
  Record<SortField, (connection: Connection, meters: ConnectionMeters) => string | number>
> = {
  device: ({ device }) => device?.id ?? '',
  type: ({ device }) => device?.type ?? '',
  client: ({ clientId }) => clientId,
  address: ({ accepted }) => accepted.remoteAddress,
  protocol: ({ protocol }) => protocol,
  transport: ({ accepted }) => accepted.transport,
  // The share that is to be confirmed.
  qos: (connection) => 1 - connection.received[0] / Math.max(1, countOf(connection)),
  rate: (connection, meters) => meters.rateOf(connection) ?? -1,
  messages: countOf,
  bytes: ({ socket }) => socket.bytesIn + socket.bytesOut,
  in_flight: inFlightOf,
  subscriptions: subscriptionsOf,
  // For how long, as the list shows it.
  connected: ({ openedAtMs }) => -openedAtMs,
  // How long ago; those that never sent one come last.
  last_message: ({ lastMessageMs }) => (lastMessageMs === 0 ? Number.POSITIVE_INFINITY : -lastMessageMs),
};

function comparatorOf(descending: boolean): (a: Entry, b: Entry) => number {
  const sign = descending ? -1 : 1;
  return (a, b) => {
    if (a.key < b.key) return -sign;
    if (a.key > b.key) return sign;
    const [left, right] = [a.connection.id, b.connection.id];
    return a.openedAtMs - b.openedAtMs || (left < right ? -1 : left === right ? 0 : 1);
  };
}

/** More of a text than this is not compared with that of another replica. */
const comparedCharacters = 64;

/** The same for other replicas, whose processes began at other times. */
export function toKey(sort: SortField, { connection, openedAtMs, key }: Entry): ConnectionKey {
  return [toSharedKey(sort, key), Math.round(performance.timeOrigin + openedAtMs), connection.id];
}

function toSharedKey(sort: SortField, key: string | number): SortKey {
  if (typeof key === 'string') return key.slice(0, comparedCharacters);
  if (!Number.isFinite(key)) return null;
  return sort === 'connected' || sort === 'last_message' ? Math.round(key - performance.timeOrigin) : key;
}
