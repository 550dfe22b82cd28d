import type { FastifySchema } from 'fastify';
import Type, { type TSchema } from 'typebox';
import { Problem } from '../../api/problem-schema.js';
import { refer } from '../../api/schema.js';
import type { Role } from './auth.js';
import { problemMediaType } from './problem.js';

/** An operation of the API, as its route has it: the lowest role that may call it, what it takes and what it answers. */
export function operation<Schema extends FastifySchema>(role: Role | 'any', schema: Schema) {
  return { config: { role }, schema };
}

/** Answers 200, or one of these problems. */
export function answer<S extends TSchema>(schema: S, description: string, ...problems: ProblemStatus[]) {
  return { 200: refer(schema, { description }), ...listProblems(...problems) };
}

/** Answers 201, or one of these problems. */
export function answerMade<S extends TSchema>(schema: S, description: string, ...problems: ProblemStatus[]) {
  return { 201: refer(schema, { description }), ...listProblems(...problems) };
}

/** Answers 204, or one of these problems. */
export function answerDone(description: string, ...problems: ProblemStatus[]) {
  return { 204: Type.Null({ description }), ...listProblems(...problems) };
}

/** Answers a stream of events, or one of these problems. */
export function answerEvents(...problems: ProblemStatus[]) {
  return {
    200: { description: 'The stream', content: { 'text/event-stream': { schema: Type.String() } } },
    ...listProblems(...problems),
  };
}

const descriptions = {
  400: 'A field or parameter is missing, wrong or unknown; `errors` names each',
  401: 'There is no key or token, or a wrong one; or there is none to show, and the request comes from another machine',
  403: 'The role of the key is too low; or a web page of another site, or a foreign host name, stands behind the request',
  404: 'There is no such thing; `detail` names it',
  410: 'It is used up; `detail` says what to do',
  413: 'The body is over the limit: 16 KiB, unless the route says otherwise',
  409: 'It cannot be as things stand; `detail` says why and what to do',
  429: 'Too many requests, or too many attempts to log in; `Retry-After` says when to try again',
  504: 'The device did not answer in time',
  500: 'The server failed; its log says why',
  503: 'The database, or NATS where it is asked, does not answer or takes no changes, as `code` says; `Retry-After` says when to try again',
} as const;

type ProblemStatus = keyof typeof descriptions;

const headers: Partial<Record<ProblemStatus, object>> = {
  401: { 'WWW-Authenticate': { type: 'string', description: 'The scheme to use: Bearer' } },
  429: { 'Retry-After': { type: 'integer', description: 'Seconds to wait' } },
  503: { 'Retry-After': { type: 'integer', description: 'Seconds to wait' } },
};

/** Documents the problems that a route may answer with, besides those that every protected route may. */
export function listProblems(...statuses: readonly ProblemStatus[]): Record<number, object> {
  return listPublicProblems(...statuses, 401, 403);
}

/** The same for a route that asks for no key. */
export function listPublicProblems(...statuses: readonly ProblemStatus[]): Record<number, object> {
  const all = [...statuses, 429, 500, 503] as const;
  return Object.fromEntries(
    all.map((status) => [
      status,
      {
        description: descriptions[status],
        ...(headers[status] === undefined ? {} : { headers: headers[status] }),
        content: { [problemMediaType]: { schema: refer(Problem) } },
      },
    ]),
  );
}
