import type { Static } from 'typebox';
import type { ConnectionDetails, ConnectionPage, ConnectionSummary, LiveConnections } from '../live.js';
import {
  ConnectionDetailsResponse,
  ConnectionPageResponse,
  ConnectionParams,
  ConnectionQuery,
  ConnectionResponse,
  defaultConnectionPage,
} from './connection-schemas.js';
import { createProblem, ProblemError } from './problem.js';
import { listProblems, refer } from './responses.js';
import { openTurns } from './turns.js';
import type { TypedApp } from './typed-app.js';

const tags = ['connections'];

/**
 * Adds the routes of the connections of this replica. A list reads every connection in one go, so that lists of a large
 * fleet take turns, with rests in which devices are served.
 */
export function addConnectionRoutes(app: TypedApp, live: LiveConnections, maxWaitingLists: number): void {
  const turns = openTurns(maxWaitingLists);
  for (const schema of [ConnectionResponse, ConnectionPageResponse, ConnectionDetailsResponse])
    app.addSchema(schema);

  app.get(
    '/connections',
    {
      config: { role: 'viewer' },
      schema: {
        tags,
        operationId: 'listConnections',
        summary: 'List live connections',
        description:
          'Lists the connections of this replica, filtered and sorted here, a page at a time. They change while one pages. Lists take turns; 429: too many wait.',
        querystring: ConnectionQuery,
        response: {
          200: refer(ConnectionPageResponse, { description: 'One page' }),
          ...listProblems(400, 429),
        },
      },
    },
    async (request, reply) => {
      const { q, device, type, sort, order, offset, limit } = request.query;
      const isGone = () => reply.raw.destroyed;
      const page = await turns.take(request.caller, isGone, () =>
        showPage(
          live.list({
            text: q,
            device,
            type,
            sort: sort ?? 'rate',
            descending: (order ?? 'desc') === 'desc',
            offset: offset ?? 0,
            limit: limit ?? defaultConnectionPage,
          }),
        ),
      );
      return reply.code(200).send(page);
    },
  );

  app.get(
    '/connections/:id',
    {
      config: { role: 'viewer' },
      schema: {
        tags,
        operationId: 'getConnection',
        summary: 'Show a connection',
        description: 'Shows a connection of this replica with its subscriptions, last topics and last error.',
        params: ConnectionParams,
        response: {
          200: refer(ConnectionDetailsResponse, { description: 'The connection' }),
          ...listProblems(400, 404),
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const details = live.find(id);
      if (details === undefined) throw new ProblemError(createUnknownProblem(id));
      return reply.code(200).send(showDetails(details));
    },
  );

  app.delete(
    '/connections/:id',
    {
      config: { role: 'operator' },
      schema: {
        tags,
        operationId: 'kickConnection',
        summary: 'End a connection',
        description:
          'Ends a connection of this replica. The client may connect again at once: to keep a device out, revoke it.',
        params: ConnectionParams,
        response: {
          204: { type: 'null', description: 'The connection is ended' },
          ...listProblems(400, 404),
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      if (live.kick(id, request.actor) === undefined) throw new ProblemError(createUnknownProblem(id));
      return reply.code(204).send(null);
    },
  );
}

function createUnknownProblem(id: string) {
  const shown = JSON.stringify(id.length > 64 ? `${id.slice(0, 64)}…` : id);
  return createProblem('CONNECTION_NOT_FOUND', `This replica has no connection with the id ${shown}`);
}

/** A page as the API shows it. */
export function showPage(page: ConnectionPage): Static<typeof ConnectionPageResponse> {
  return {
    at: new Date(page.atMs).toISOString(),
    total: page.total,
    matching: page.matching,
    connections: page.rows.map(showSummary),
  };
}

function showSummary(connection: ConnectionSummary): Static<typeof ConnectionResponse> {
  const { received, messagesPerSecond, lastMessageAtMs } = connection;
  return {
    id: connection.id,
    device: connection.deviceId,
    type: connection.deviceType,
    client: connection.clientId,
    address: connection.address,
    transport: connection.transport,
    protocol: connection.protocol,
    received: { qos0: received[0], qos1: received[1], qos2: received[2] },
    rate: messagesPerSecond === undefined ? null : Math.round(messagesPerSecond * 100) / 100,
    bytes_in: connection.bytesIn,
    bytes_out: connection.bytesOut,
    in_flight: connection.inFlight,
    subscriptions: connection.subscriptions,
    connected_at: new Date(connection.connectedAtMs).toISOString(),
    last_message_at: lastMessageAtMs === undefined ? null : new Date(lastMessageAtMs).toISOString(),
  };
}

/** A connection as the API shows it. */
export function showDetails(details: ConnectionDetails): Static<typeof ConnectionDetailsResponse> {
  const { will, outgoing, lastError, waits } = details;
  return {
    ...showSummary(details),
    at: new Date(details.atMs).toISOString(),
    keepalive_seconds: details.keepaliveSec,
    persistent_session: details.persistentSession,
    will: will === undefined ? null : { topic: will.topic, qos: will.qos, retain: will.retain },
    held: details.held,
    waits:
      waits === undefined
        ? null
        : {
            cause: waits.cause,
            detail: waits.detail,
            subject: waits.subject ?? null,
            since: new Date(waits.sinceAtMs).toISOString(),
          },
    unsent_bytes: details.unsentBytes,
    outgoing: {
      waiting: outgoing.waiting,
      waiting_bytes: outgoing.waitingBytes,
      unacknowledged: outgoing.unacknowledged,
      dropped: outgoing.dropped,
    },
    subscribed_to: details.subscribedTo.map(({ filter, qos }) => ({ filter, qos })),
    last_topics: [...details.lastTopics],
    last_error:
      lastError === undefined
        ? null
        : { at: new Date(lastError.atMs).toISOString(), detail: lastError.detail },
  };
}
