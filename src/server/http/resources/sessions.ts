import { defaultPageLimit } from '../../../api/schema.js';
import {
  SessionPageResponse,
  SessionParams,
  SessionQuery,
  SessionResponse,
} from '../../../api/session-schema.js';
import type { LiveSessions } from '../../live.js';
import { answer, answerDone, operation } from '../operation.js';
import { decodeCursor, encodeCursor } from '../paging.js';
import { ProblemError, shorten } from '../problem.js';
import type { TypedApp } from '../typed-app.js';

const tags = ['sessions'];

/** Adds the routes of the sessions that outlive their connection. */
export function addSessionRoutes(app: TypedApp, sessions: LiveSessions): void {
  for (const schema of [SessionResponse, SessionPageResponse]) app.addSchema(schema);

  app.get(
    '/sessions',
    operation('viewer', {
      tags,
      operationId: 'listSessions',
      summary: 'List sessions',
      description:
        'Lists the sessions that outlive their connection, in order of their ids, a page at a time: those of all replicas, or, where sessions are in memory, of this one. 503 while NATS, which has them, is away.',
      querystring: SessionQuery,
      response: answer(SessionPageResponse, 'One page', 400),
    }),
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
    operation('viewer', {
      tags,
      operationId: 'getSession',
      summary: 'Show a session',
      description: 'Shows a session that outlives its connection, as it is stored.',
      params: SessionParams,
      response: answer(SessionResponse, 'The session', 400, 404),
    }),
    async (request, reply) => {
      const { id } = request.params;
      const found = await sessions.find(id);
      if (found === undefined) throw unknown(id);
      return reply.code(200).send(found);
    },
  );

  app.delete(
    '/sessions/:id',
    operation('operator', {
      tags,
      operationId: 'endSession',
      summary: 'End a session',
      description:
        'Ends a session with its subscriptions and what waits for it, also one that cannot be read. A client that is connected is disconnected, and may come back with a new session.',
      params: SessionParams,
      response: answerDone('The session is ended', 400, 404),
    }),
    async (request, reply) => {
      const { id } = request.params;
      if ((await sessions.end(id, request.actor)) === undefined) throw unknown(id);
      return reply.code(204).send(null);
    },
  );
}

function unknown(id: string): ProblemError {
  return new ProblemError(
    'SESSION_NOT_FOUND',
    `There is no session with the id ${JSON.stringify(shorten(id))}`,
  );
}
