import { type ConnectionDetails, type ConnectionSummary, sampleStep } from '../../../api/connection.js';
import type { Log } from '../../../log.js';
import type { EventFeed } from '../../event-feed.js';
import type { LiveConnections } from '../../live.js';
import type { Connection } from '../connection.js';
import { formatCode } from '../connection-report.js';
import { closeReasons, type Reason } from '../protocol/close-reason.js';
import type { ConnectionMeters } from './connection-meters.js';
import { inFlightOf, openConnectionOrders, subscriptionsOf, toKey } from './connection-order.js';
import { whyWaiting } from './waiting-reason.js';

/** Lists, shows and ends the connections of this replica. */
export function openConnectionList(options: {
  connections: ReadonlySet<Connection>;
  meters: ConnectionMeters;
  events: EventFeed;
  log: Log;
}): LiveConnections {
  const { connections, meters, events, log } = options;
  const orders = openConnectionOrders(connections, meters);

  function findConnection(id: string): Connection | undefined {
    for (const connection of connections)
      if (connection.isConnected && connection.id === id) return connection;
    return undefined;
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
      const { offset, limit } = request;
      const { total, entries } = orders.of(request);
      const page = entries.slice(offset, offset + limit);
      return {
        atMs: Date.now(),
        total,
        matching: entries.length,
        rows: page.map(({ connection }) => summarize(connection)),
      };
    },

    keys(request) {
      const { offset, limit, samples } = request;
      // Who asks for a part in the middle has just been told where it is.
      const { total, entries } = orders.of(request, offset > 0);
      const step = samples === undefined ? 1 : sampleStep(entries.length, samples);
      const picked =
        samples === undefined
          ? entries.slice(offset, offset + limit)
          : entries.filter((_entry, at) => (at + 1) % step === 0);
      return { total, matching: entries.length, keys: picked.map((entry) => toKey(request.sort, entry)) };
    },

    rows(ids) {
      const found: ConnectionSummary[] = [];
      for (const connection of connections) {
        if (!connection.isConnected || !ids.has(connection.id)) continue;
        found.push(summarize(connection));
        if (found.length === ids.size) break;
      }
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

function waitsOf(connection: Connection): ConnectionDetails['waits'] {
  const why = whyWaiting(connection);
  return (
    why && { cause: why.cause, detail: why.detail, subject: why.subject, sinceAtMs: toWallClock(why.sinceMs) }
  );
}

/** A time of `performance.now()` as wall-clock milliseconds, by the clock as it goes now. */
function toWallClock(ms: number): number {
  return Math.round(Date.now() - (performance.now() - ms));
}
