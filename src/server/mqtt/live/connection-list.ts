import type {
  ConnectionDetails,
  ConnectionKey,
  ConnectionRequest,
  ConnectionSummary,
  SortField,
  SortKey,
} from '../../../api/connection.js';
import type { Log } from '../../../log.js';
import type { EventFeed } from '../../event-feed.js';
import type { LiveConnections } from '../../live.js';
import type { Connection } from '../connection.js';
import { formatCode } from '../connection-report.js';
import { closeReasons, type Reason } from '../protocol/close-reason.js';
import { type ConnectionMeters, countOf } from './connection-meters.js';
import { openPageSelection } from './select-page.js';
import { whyWaiting } from './waiting-reason.js';

/** Lists, shows and ends the connections of this replica. */
export function openConnectionList(options: {
  connections: ReadonlySet<Connection>;
  meters: ConnectionMeters;
  events: EventFeed;
  log: Log;
}): LiveConnections {
  const { connections, meters, events, log } = options;

  function findConnection(id: string): Connection | undefined {
    for (const connection of connections)
      if (connection.isConnected && connection.id === id) return connection;
    return undefined;
  }

  function select(request: ConnectionRequest) {
    meters.watch();
    const matches = filterOf(request, meters);
    const key = keyOf(request.sort, meters);
    const selection = openPageSelection(comparatorOf(request.descending), request.offset, request.limit);
    let total = 0;
    let matching = 0;
    let entry: Entry | undefined;
    for (const connection of connections) {
      if (!connection.isConnected) continue;
      total += 1;
      if (matches !== undefined && !matches(connection)) continue;
      matching += 1;
      // Most are on no page, and so are looked at in the same object.
      if (entry === undefined) entry = { connection, key: key(connection) };
      else {
        entry.connection = connection;
        entry.key = key(connection);
      }
      if (selection.offer(entry)) entry = undefined;
    }
    return { total, matching, page: selection.page() };
  }

  function summarize(connection: Connection): ConnectionSummary {
    const { device, socket, lastMessageMs } = connection;
    return {
      id: connection.id,
      deviceId: device?.id ?? '',
      deviceType: device?.type ?? '',
      clientId: connection.clientId,
      address: socket.address,
      transport: connection.accepted.transport,
      protocol: connection.protocol,
      received: [...connection.received],
      messagesPerSecond: meters.rateOf(connection),
      bytesIn: socket.bytesIn,
      bytesOut: socket.bytesOut,
      inFlight: inFlightOf(connection),
      subscriptions: subscriptionsOf(connection),
      connectedAtMs: toWallClock(connection.openedAtMs),
      lastMessageAtMs: lastMessageMs === 0 ? undefined : toWallClock(lastMessageMs),
    };
  }

  function lastErrorOf(connection: Connection): ConnectionDetails['lastError'] {
    const { lastRefusal } = connection.report;
    if (lastRefusal !== undefined) return lastRefusal;
    const ended = events.findLast(
      ({ kind, device, client, connection: id }) =>
        kind === 'disconnected' &&
        device === connection.device?.id &&
        client === connection.clientId &&
        id !== connection.id,
    );
    const reason = ended?.reason;
    if (ended === undefined || reason === undefined || reason === 'client-disconnect') return undefined;
    const why = (closeReasons as Readonly<Record<string, Reason>>)[reason]?.why ?? '';
    const code = formatCode(ended.code);
    return { atMs: ended.atMs, detail: `the connection before this one ended: ${reason}${code}, ${why}` };
  }

  return {
    count() {
      let count = 0;
      for (const { isConnected } of connections) if (isConnected) count += 1;
      return count;
    },

    list(request) {
      const { total, matching, page } = select(request);
      return {
        atMs: Date.now(),
        total,
        matching,
        rows: page.map(({ connection }) => summarize(connection)),
      };
    },

    keys(request) {
      const { total, matching, page } = select(request);
      return { total, matching, keys: page.map((entry) => toKey(request.sort, entry)) };
    },

    rows(ids) {
      const found: ConnectionSummary[] = [];
      for (const connection of connections)
        if (connection.isConnected && ids.has(connection.id)) found.push(summarize(connection));
      return found;
    },

    find(id) {
      meters.watch();
      const connection = findConnection(id);
      if (connection === undefined) return undefined;
      const { will, socket, client } = connection;
      const session = client?.session?.describe();
      return {
        ...summarize(connection),
        atMs: Date.now(),
        keepaliveSec: Math.round(connection.keepaliveMs / 1_500),
        persistentSession: (client?.sessionExpirySec ?? 0) > 0,
        sessionExpirySec: client?.sessionExpirySec ?? 0,
        receiveMaximum: connection.clientLimits.receiveMaximum,
        topicAliasMaximum: connection.clientLimits.topicAliasMaximum,
        will: will === undefined ? undefined : { topic: will.topic, qos: will.qos, retain: will.retain },
        held: socket.held,
        waits: waitsOf(connection),
        unsentBytes: socket.unsentBytes,
        outgoing: session?.outgoing ?? { waiting: 0, waitingBytes: 0, unacknowledged: 0, dropped: 0 },
        subscribedTo: session?.subscriptions ?? [],
        lastTopics: connection.uplink?.routing.topics ?? [],
        lastError: lastErrorOf(connection),
      };
    },

    kick(id, actor) {
      const connection = findConnection(id);
      if (connection === undefined) return undefined;
      const { clientId } = connection;
      const deviceId = connection.device?.id ?? '';
      connection.close('kicked');
      log.info(
        { event: 'connection_kicked', connection: id, device: deviceId, client: clientId, actor: actor.name },
        'A connection was ended by an operator',
      );
      return { deviceId, clientId };
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

function waitsOf(connection: Connection): ConnectionDetails['waits'] {
  const why = whyWaiting(connection);
  return (
    why && { cause: why.cause, detail: why.detail, subject: why.subject, sinceAtMs: toWallClock(why.sinceMs) }
  );
}

function inFlightOf({ client }: Connection): number {
  return client?.lane.inFlight ?? 0;
}

function subscriptionsOf({ client }: Connection): number {
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

/** A connection with what it is sorted by. */
interface Entry {
  connection: Connection;
  key: string | number;
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
function toKey(sort: SortField, { connection, key }: Entry): ConnectionKey {
  return [toSharedKey(sort, key), Math.round(performance.timeOrigin + connection.openedAtMs), connection.id];
}

function toSharedKey(sort: SortField, key: string | number): SortKey {
  if (typeof key === 'string') return key.slice(0, comparedCharacters);
  if (!Number.isFinite(key)) return null;
  return sort === 'connected' || sort === 'last_message' ? Math.round(key - performance.timeOrigin) : key;
}

/** A time of `performance.now()` as wall-clock milliseconds, by the clock as it goes now. */
function toWallClock(ms: number): number {
  return Math.round(Date.now() - (performance.now() - ms));
}
