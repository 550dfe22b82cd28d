import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Problem } from '../../api/problem.js';
import { maskSecrets } from '../../db/secrets.js';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import { pathOf } from './routes.js';

/** Writes one line for an answered request. Headers and queries are left out. */
export function logRequest(log: Log, request: FastifyRequest, reply: FastifyReply): void {
  log.debug(
    {
      event: 'http_request',
      method: request.method,
      path: maskSecrets(pathOf(request.url)),
      status: reply.statusCode,
      durationMs: Math.round(reply.elapsedTime * 10) / 10,
      remoteAddress: request.ip,
    },
    'An HTTP request was answered',
  );
}

/** A log for what a request has done, such as `A device was added`. */
export function logFor(log: Log, request: FastifyRequest) {
  return {
    info: (fields: { event: string; [name: string]: unknown }, what: string): void =>
      log.info({ ...fields, remoteAddress: request.ip }, `${what} through the HTTP API`),
  };
}

/** Writes one line for a request that the server failed to answer as asked. */
export function logFailure(log: Log, request: FastifyRequest, problem: Problem, error: unknown): void {
  const cause = rootCause(error);
  log.error(
    {
      event: 'http_request_failed',
      method: request.method,
      path: maskSecrets(pathOf(request.url)),
      status: problem.status,
      code: problem.code,
      remoteAddress: request.ip,
      reason: messageOf(cause),
      // A defect is looked for by its place; an absent database needs none.
      ...(problem.code === 'INTERNAL' ? { frames: framesOf(cause) } : {}),
    },
    'An HTTP request failed',
  );
}

/** The innermost error: those around it may quote a statement with its values, secrets among them. */
function rootCause(error: unknown): unknown {
  let cause = error;
  for (let depth = 0; depth < 10 && cause instanceof Error && cause.cause !== undefined; depth += 1) {
    cause = cause.cause;
  }
  return cause;
}

function framesOf(error: unknown): string[] {
  if (!(error instanceof Error)) return [];
  const lines = (error.stack ?? '').split('\n');
  return lines.filter((line) => /^\s+at /.test(line)).map((line) => line.trim());
}
