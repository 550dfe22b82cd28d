import { defaultPageLimit, refer } from '../../../api/schema.js';
import {
  SessionPageResponse,
  SessionParams,
  SessionQuery,
  SessionResponse,
} from '../../../api/session-schema.js';
import type { LiveSessions } from '../../live.js';
import { decodeCursor, encodeCursor } from '../cursor.js';
import { createProblem, ProblemError } from '../problem.js';
import { listProblems } from '../responses.js';
import type { TypedApp } from '../typed-app.js';

const tags = ['sessions'];

/** Adds the routes of the sessions that outlive their connection. */
export function addSessionRoutes(app: TypedApp, sessions: LiveSessions): void {
  for (const schema of [SessionResponse, SessionPageResponse]) app.addSchema(schema);

  app.get(
    '/sessions',
    {
      config: { role: 'viewer' },
      schema: {
        tags,
        operationId: 'listSessions',
        summary: 'List sessions',
        description:
          'Lists the sessions that outlive their connection, in order of their ids, a page at a time: those of all replicas, or, where sessions are in memory, of this one. 503 while NATS, which has them, is away.',
        querystring: SessionQuery,
        response: { 200: refer(SessionPageResponse, { description: 'One page' }), ...listProblems(400) },
      },
    },
    async (request, reply) => {
      const {
        device = [],
        device_prefix: devicePrefix = '',
        cursor,
        limit = defaultPageLimit,
      } = request.query;
      const after = cursor === undefined ? undefined : decodeCursor(cursor);
      const page = await sessions.list({ devices: [device].flat(), devicePrefix, after, limit });
      const next = page.next === undefined ? null : encodeCursor(page.next);
      return reply.code(200).send({ sessions: page.sessions, next_cursor: next });
    },
  );

  app.get(
    '/sessions/:id',
    {
      config: { role: 'viewer' },
      schema: {
        tags,
        operationId: 'getSession',
        summary: 'Show a session',
        description: 'Shows a session that outlives its connection, as it is stored.',
        params: SessionParams,
        response: {
          200: refer(SessionResponse, { description: 'The session' }),
          ...listProblems(400, 404),
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const found = await sessions.find(id);
      if (found === undefined) throw new ProblemError(createUnknownProblem(id));
      return reply.code(200).send(found);
    },
  );

  app.delete(
    '/sessions/:id',
    {
      config: { role: 'operator' },
      schema: {
        tags,
        operationId: 'endSession',
        summary: 'End a session',
        description:
          'Ends a session with its subscriptions and what waits for it, also one that cannot be read. A client that is connected is disconnected, and may come back with a new session.',
        params: SessionParams,
        response: { 204: { type: 'null', description: 'The session is ended' }, ...listProblems(400, 404) },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      if ((await sessions.end(id, request.actor)) === undefined)
        throw new ProblemError(createUnknownProblem(id));
      return reply.code(204).send(null);
    },
  );
}

function createUnknownProblem(id: string) {
  const shown = JSON.stringify(id.length > 64 ? `${id.slice(0, 64)}…` : id);
  return createProblem('SESSION_NOT_FOUND', `There is no session with the id ${shown}`);
}
