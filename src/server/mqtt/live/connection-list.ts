import { type ConnectionDetails, type ConnectionSummary, sampleStep } from '../../../api/connection.js';
import type { Log } from '../../../log.js';
import type { EventFeed } from '../../event-feed.js';
import type { LiveConnections } from '../../live.js';
import type { Connection } from '../connection.js';
import { formatCode } from '../connection-report.js';
import { closeReasons, type Reason } from '../protocol/close-reason.js';
import type { ConnectionMeters } from './connection-meters.js';
import { type Entry, inFlightOf, openConnectionOrders, subscriptionsOf, toKey } from './connection-order.js';
import type { ConnectionRoll } from './connection-roll.js';
import { whyWaiting } from './waiting-reason.js';

/** Lists, shows and ends the connections of this replica. */
export function openConnectionList(options: {
  connections: ConnectionRoll<Connection>;
  meters: ConnectionMeters;
  events: EventFeed;
  log: Log;
}): LiveConnections {
  const { connections, meters, events, log } = options;
  const orders = openConnectionOrders(connections, meters);

  function findConnection(id: string): Connection | undefined {
    const connection = connections.find(id);
    return connection?.isConnected ? connection : undefined;
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
    count: () => connections.connected,

    list(request) {
      const { offset, limit } = request;
      const entries = orders.of(request);
      const page = entries.slice(offset, offset + limit);
      return {
        atMs: Date.now(),
        total: connections.connected,
        matching: entries.length,
        rows: page.map(({ connection }) => summarize(connection)),
      };
    },

    keys(request) {
      const { offset, limit, samples } = request;
      // Who asks for a part in the middle has just been told where it is.
      const entries = orders.of(request, offset > 0);
      const picked = samples === undefined ? entries.slice(offset, offset + limit) : sample(entries, samples);
      return {
        total: connections.connected,
        matching: entries.length,
        keys: picked.map((entry) => toKey(request.sort, entry)),
      };
    },

    rows(ids) {
      return ids.flatMap((id) => {
        const connection = findConnection(id);
        return connection === undefined ? [] : [summarize(connection)];
      });
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

function sample(entries: readonly Entry[], samples: number): Entry[] {
  const step = sampleStep(entries.length, samples);
  const picked: Entry[] = [];
  for (let at = step - 1; at < entries.length; at += step) picked.push(entries[at] as Entry);
  return picked;
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
