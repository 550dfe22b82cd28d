import type { ConnectionKey, ConnectionRequest, SortField, SortKey } from '../../../api/connection.js';
import type { Connection } from '../connection.js';
import { type ConnectionMeters, countOf } from './connection-meters.js';

/** A connection with what it is sorted by. */
export interface Entry {
  readonly connection: Connection;
  /** That of its meter: a connection has another one when it was not watched meanwhile. */
  readonly number: number;
  key: string | number;
}

export interface Order {
  /** Those that the filter lets through, sorted. */
  readonly entries: readonly Entry[];
  /** Connections, filtered or not. */
  readonly total: number;
}

interface Kept extends Order {
  entries: Entry[];
  total: number;
  /** The number of the newest meter that it knows. */
  newest: number;
  sortedAtMs: number;
}

/** Orders that are kept: who watches asks for the same again and again. */
const maxKept = 8;
/** An order is good for the second question about one page. */
const goodForMs = 500;

/**
 * Sorts connections for those who watch. From one second to the next few change places, so that sorting what was sorted
 * before is little more than looking at each once; a filter looks at new ones only.
 */
export function openConnectionOrders(connections: ReadonlySet<Connection>, meters: ConnectionMeters) {
  /** The one that was used last is the last. */
  const kept = new Map<string, Kept>();
  meters.onForgotten = () => kept.clear();

  function take({ text, device, type, sort, descending }: ConnectionRequest): Kept {
    const name = JSON.stringify([text, device, type, sort, descending]);
    const order = kept.get(name) ?? {
      entries: [],
      total: 0,
      newest: 0,
      sortedAtMs: Number.NEGATIVE_INFINITY,
    };
    kept.delete(name);
    for (const other of kept.keys()) if (kept.size >= maxKept) kept.delete(other);
    kept.set(name, order);
    return order;
  }

  return {
    /** @param again an order of a moment ago will do. */
    of(request: ConnectionRequest, again = false): Order {
      meters.watch();
      const order = take(request);
      const nowMs = performance.now();
      if (again && nowMs - order.sortedAtMs < goodForMs) return order;
      const key = keyOf(request.sort, meters);
      const matches = filterOf(request, meters);
      const entries: Entry[] = [];
      for (const entry of order.entries) {
        const { connection, number } = entry;
        if (!connection.isConnected || connection.meter?.number !== number) continue;
        entry.key = key(connection);
        entries.push(entry);
      }
      order.total = 0;
      for (const connection of connections) {
        if (!connection.isConnected) continue;
        order.total += 1;
        const { number } = meters.of(connection);
        if (number > order.newest && matches?.(connection) !== false)
          entries.push({ connection, number, key: key(connection) });
      }
      order.newest = meters.newest;
      order.entries = entries.sort(comparatorOf(request.descending));
      order.sortedAtMs = nowMs;
      return order;
    },
  };
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
  return client?.session?.subscriptionCount ?? 0;
}

/** What each field sorts by. Of two connections alike, the older comes first, so that the order is total. */
function keyOf(field: SortField, meters: ConnectionMeters): (connection: Connection) => string | number {
  switch (field) {
    case 'device':
      return ({ device }) => device?.id ?? '';
    case 'type':
      return ({ device }) => device?.type ?? '';
    case 'client':
      return ({ clientId }) => clientId;
    case 'address':
      return ({ accepted }) => accepted.remoteAddress;
    case 'protocol':
      return ({ protocol }) => protocol;
    case 'transport':
      return ({ accepted }) => accepted.transport;
    case 'qos':
      // The share that is to be confirmed.
      return (connection) => 1 - connection.received[0] / Math.max(1, countOf(connection));
    case 'rate':
      return (connection) => meters.rateOf(connection) ?? -1;
    case 'messages':
      return countOf;
    case 'bytes':
      return ({ socket }) => socket.bytesIn + socket.bytesOut;
    case 'in_flight':
      return inFlightOf;
    case 'subscriptions':
      return subscriptionsOf;
    case 'connected':
      // For how long, as the list shows it.
      return ({ openedAtMs }) => -openedAtMs;
    case 'last_message':
      // How long ago; those that never sent one come last.
      return ({ lastMessageMs }) => (lastMessageMs === 0 ? Number.POSITIVE_INFINITY : -lastMessageMs);
  }
}

function comparatorOf(descending: boolean): (a: Entry, b: Entry) => number {
  const sign = descending ? -1 : 1;
  return (a, b) => {
    if (a.key < b.key) return -sign;
    if (a.key > b.key) return sign;
    const [left, right] = [a.connection, b.connection];
    return left.openedAtMs - right.openedAtMs || (left.id < right.id ? -1 : left.id === right.id ? 0 : 1);
  };
}

/** More of a text than this is not compared with that of another replica. */
const comparedCharacters = 64;

/** The same for other replicas, whose processes began at other times. */
export function toKey(sort: SortField, { connection, key }: Entry): ConnectionKey {
  return [toSharedKey(sort, key), Math.round(performance.timeOrigin + connection.openedAtMs), connection.id];
}

function toSharedKey(sort: SortField, key: string | number): SortKey {
  if (typeof key === 'string') return key.slice(0, comparedCharacters);
  if (!Number.isFinite(key)) return null;
  return sort === 'connected' || sort === 'last_message' ? Math.round(key - performance.timeOrigin) : key;
}
