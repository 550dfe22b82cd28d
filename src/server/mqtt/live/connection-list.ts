import {
  type ConnectionDetailsJson,
  type ConnectionJson,
  replicaOf,
  sampleStep,
} from '../../../api/connection.js';
import type { Log } from '../../../log.js';
import type { EventFeed } from '../../event-feed.js';
import type { LiveConnections } from '../../live.js';
import type { Connection } from '../connection.js';
import { formatCode } from '../connection-report.js';
import { closeReasons, type Reason } from '../protocol/close-reason.js';
import type { ConnectionMeters } from './connection-meters.js';
import { type Entry, inFlightOf, openConnectionOrders, subscriptionsOf, toKey } from './connection-order.js';
import type { ConnectionRoll } from './connection-roll.js';
import { limitNames } from './limit-names.js';

const noOutgoing = { waiting: 0, waitingBytes: 0, unacknowledged: 0, dropped: 0 };

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

  function summarize(connection: Connection): ConnectionJson {
    const { id, device, socket, lastMessageMs } = connection;
    const [qos0, qos1, qos2] = connection.received;
    const rate = meters.rateOf(connection);
    return {
      id,
      replica: replicaOf(id),
      device: device?.id ?? '',
      type: device?.type ?? '',
      client: connection.clientId,
      address: socket.address,
      transport: connection.accepted.transport,
      protocol: connection.protocol,
      received: { qos0, qos1, qos2 },
      rate: rate === undefined ? null : Math.round(rate * 100) / 100,
      bytes_in: socket.bytesIn,
      bytes_out: socket.bytesOut,
      in_flight: inFlightOf(connection),
      subscriptions: subscriptionsOf(connection),
      connected_at: toTime(connection.openedAtMs),
      last_message_at: lastMessageMs === 0 ? null : toTime(lastMessageMs),
    };
  }

  function lastErrorOf(connection: Connection): ConnectionDetailsJson['last_error'] {
    const { lastRefusal } = connection.report;
    if (lastRefusal !== undefined) return describeError(lastRefusal);
    const ended = events.findLast(
      ({ kind, device, client, connection: id }) =>
        kind === 'disconnected' &&
        device === connection.device?.id &&
        client === connection.clientId &&
        id !== connection.id,
    );
    const reason = ended?.reason;
    if (ended === undefined || reason === undefined || reason === 'client-disconnect') return null;
    const why = (closeReasons as Readonly<Record<string, Reason>>)[reason]?.why ?? '';
    const code = formatCode(ended.code);
    const detail = `the connection before this one ended: ${reason}${code}, ${why}`;
    return describeError({ atMs: ended.atMs, detail });
  }

  return {
    count: () => connections.connected,

    list(request) {
      const { offset, limit } = request;
      const entries = orders.of(request);
      const page = entries.slice(offset, offset + limit);
      return {
        at: new Date().toISOString(),
        total: connections.connected,
        matching: entries.length,
        connections: page.map(({ connection }) => summarize(connection)),
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
      const { waiting, waitingBytes, unacknowledged, dropped } = session?.outgoing ?? noOutgoing;
      const expirySec = client?.sessionExpirySec ?? 0;
      return {
        ...summarize(connection),
        at: new Date().toISOString(),
        keepalive_seconds: Math.round(connection.silence.keepaliveMs / 1_500),
        persistent_session: expirySec > 0,
        session_expiry_seconds: Number.isFinite(expirySec) ? expirySec : null,
        receive_maximum: connection.clientLimits.receiveMaximum,
        topic_alias_maximum: connection.clientLimits.topicAliasMaximum,
        will: will === undefined ? null : { topic: will.topic, qos: will.qos, retain: will.retain },
        held: socket.held,
        waits: waitsOf(connection),
        unsent_bytes: socket.unsentBytes,
        outgoing: { waiting, waiting_bytes: waitingBytes, unacknowledged, dropped },
        subscribed_to: [...(session?.subscriptions ?? [])],
        last_topics: [...(connection.uplink?.routing.topics ?? [])],
        last_error: lastErrorOf(connection),
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

/**
 * Why messages of a client wait, the cause before what follows from it: NATS does not store them, NATS has not answered its
 * SUBSCRIBE, or a bound is reached. Null when nothing waits, or is merely under way.
 */
function waitsOf({ client, intake, commands }: Connection): ConnectionDetailsJson['waits'] {
  const trouble = client?.lane.trouble;
  if (trouble !== undefined) {
    const { cause, detail, subject = null, sinceMs } = trouble;
    return { cause, detail, subject, since: toTime(sinceMs) };
  }
  if (intake.parked.isEmpty) return null;
  if (commands.isMade) {
    const detail = 'NATS has not answered the subscription to the commands of the device';
    return { cause: 'subscription', detail, subject: null, since: toTime(commands.sinceMs) };
  }
  const { limit, sinceMs } = intake.room;
  return limit === undefined
    ? null
    : { cause: limit, detail: limitNames[limit], subject: null, since: toTime(sinceMs) };
}

function describeError({ atMs, detail }: { readonly atMs: number; readonly detail: string }) {
  return { at: new Date(atMs).toISOString(), detail };
}

/** A time of `performance.now()` by the wall clock as it goes now. */
function toTime(ms: number): string {
  return new Date(Math.round(Date.now() - (performance.now() - ms))).toISOString();
}
