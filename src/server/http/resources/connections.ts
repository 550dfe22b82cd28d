import {
  ConnectionDetailsResponse,
  ConnectionPageResponse,
  ConnectionParams,
  ConnectionQuery,
  ConnectionResponse,
  defaultConnectionPage,
  ReplicaResponse,
} from '../../../api/connection-schema.js';
import type { FleetConnections } from '../../live.js';
import { answer, answerDone, operation } from '../operation.js';
import { ProblemError, shorten } from '../problem.js';
import { openTurns } from '../turns.js';
import type { TypedApp } from '../typed-app.js';

const tags = ['connections'];

/**
 * Adds the routes of the connections of all replicas. A list reads every connection in one go, so that lists of a large
 * fleet take turns, with rests in which devices are served.
 */
export function addConnectionRoutes(
  app: TypedApp,
  connections: FleetConnections,
  maxWaitingLists: number,
): void {
  const turns = openTurns(maxWaitingLists);
  for (const schema of [
    ReplicaResponse,
    ConnectionResponse,
    ConnectionPageResponse,
    ConnectionDetailsResponse,
  ])
    app.addSchema(schema);

  app.get(
    '/connections',
    operation('viewer', {
      tags,
      operationId: 'listConnections',
      summary: 'List live connections',
      description:
        'Lists the connections of all replicas, filtered and sorted, a page at a time. They change while one pages. A replica that does not answer within half a second is named in `replicas` with `ok` false, and its connections are left out. Lists take turns; 429: too many wait.',
      querystring: ConnectionQuery,
      response: answer(ConnectionPageResponse, 'One page', 400, 429),
    }),
    async (request, reply) => {
      const { q, device, type, replica, sort, order, offset, limit } = request.query;
      const isGone = () => reply.raw.destroyed;
      const page = await connections.list(
        {
          text: q,
          device,
          type,
          replica,
          sort: sort ?? 'rate',
          descending: (order ?? 'desc') === 'desc',
          offset: offset ?? 0,
          limit: limit ?? defaultConnectionPage,
        },
        (work) => turns.take(request.caller, isGone, work),
      );
      return reply.code(200).send(page);
    },
  );

  app.get(
    '/connections/:id',
    operation('viewer', {
      tags,
      operationId: 'getConnection',
      summary: 'Show a connection',
      description:
        'Shows a connection, whichever replica has it, with its subscriptions, last topics and last error.',
      params: ConnectionParams,
      response: answer(ConnectionDetailsResponse, 'The connection', 400, 404),
    }),
    async (request, reply) => {
      const { id } = request.params;
      const details = await connections.find(id);
      if (details === undefined) throw unknown(id);
      return reply.code(200).send(details);
    },
  );

  app.delete(
    '/connections/:id',
    operation('operator', {
      tags,
      operationId: 'kickConnection',
      summary: 'End a connection',
      description:
        'Ends a connection, whichever replica has it. The client may connect again at once: to keep a device out, revoke it.',
      params: ConnectionParams,
      response: answerDone('The connection is ended', 400, 404),
    }),
    async (request, reply) => {
      const { id } = request.params;
      if (!(await connections.kick(id, request.actor))) throw unknown(id);
      return reply.code(204).send(null);
    },
  );
}

function unknown(id: string): ProblemError {
  return new ProblemError(
    'CONNECTION_NOT_FOUND',
    `No replica has a connection with the id ${JSON.stringify(shorten(id))}`,
  );
}
