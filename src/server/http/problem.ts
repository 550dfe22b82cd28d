import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply } from 'fastify';
import type { FieldProblem, Problem } from '../../api/problem.js';
import { maskSecrets } from '../../db/secrets.js';
import { type ErrorCode, errorCodes, SvcMqttError } from '../../errors.js';

const titles: Partial<Record<ErrorCode, string>> = {
  DEVICE_NOT_FOUND: 'The device does not exist',
  CONNECTION_NOT_FOUND: 'The connection does not exist',
  SESSION_NOT_FOUND: 'The session does not exist',
  REPLICA_UNAVAILABLE: 'The replica does not answer',
  DEVICE_EXISTS: 'The device exists already',
  DEVICE_IN_USE: 'The device is in use',
  DEVICE_UNAVAILABLE: 'The device is not available',
  DEVICE_SILENT: 'The device does not answer',
  COMMAND_NOT_FOUND: 'The command does not exist',
  COMMAND_GONE: 'The command is not stored any more',
  POLICY_NOT_FOUND: 'The policy does not exist',
  CLAIM_NOT_FOUND: 'The claim does not exist',
  CLAIM_GONE: 'The claim is used up',
  INPUT_INVALID: 'The request is invalid',
  BODY_TOO_LARGE: 'The body is too large',
  UNAUTHENTICATED: 'The request is not authenticated',
  FORBIDDEN: 'The role is too low',
  TOO_MANY_REQUESTS: 'There were too many requests',
  API_KEY_NOT_FOUND: 'The API key does not exist',
  API_KEY_EXISTS: 'An API key of this name is in use',
  ORIGIN_REFUSED: 'The origin of the request is refused',
  ROUTE_NOT_FOUND: 'There is no such route',
  METHOD_NOT_ALLOWED: 'The route does not take this method',
  DATABASE_READ_ONLY: 'The database takes no changes',
  INTERNAL: 'The server failed',
};

interface ProblemOptions {
  /** Narrows what the table of codes gives. */
  readonly status?: number | undefined;
  /** What to do, as a sentence without its full stop. */
  readonly suggestion?: string | undefined;
  readonly errors?: readonly FieldProblem[] | undefined;
}

export const problemMediaType = 'application/problem+json';

/**
 * Describes an error for a client. A detail often repeats what was sent, and a key or claim that got there by mistake is
 * not repeated with it.
 */
export function createProblem(
  code: ErrorCode,
  detail: string,
  { status = errorCodes[code].http, suggestion, errors }: ProblemOptions = {},
): Problem {
  return {
    type: `urn:svc-mqtt:error:${code}`,
    title: titles[code] ?? STATUS_CODES[status] ?? 'Error',
    status,
    detail: maskSecrets(detail),
    ...(suggestion !== undefined && { suggestion }),
    code,
    ...(errors && { errors: errors.map(({ field, problem }) => ({ field: maskSecrets(field), problem })) }),
  };
}

/** Carries a problem to the error handler from where nothing but a throw gets there: a check of our own, and no defect. */
export class ProblemError extends SvcMqttError {
  readonly problem: Problem;
  /** For the header Retry-After. */
  readonly retryAfterSec: number | undefined;

  constructor(code: ErrorCode, detail: string, options: ProblemOptions & { retryAfterSec?: number } = {}) {
    const problem = createProblem(code, detail, options);
    super(code, problem.detail);
    this.problem = problem;
    this.retryAfterSec = options.retryAfterSec;
  }
}

/** What was sent, as far as an answer repeats it. */
export function shorten(text: string): string {
  return text.length > 64 ? `${text.slice(0, 64)}…` : text;
}

/** Bad input, one field at fault after the other. */
export function invalidInput(errors: readonly FieldProblem[], suggestion?: string): ProblemError {
  const detail = errors.map((error) => `${error.field} ${error.problem}`).join('; ');
  return new ProblemError('INPUT_INVALID', detail, { errors, suggestion });
}

/** Bad input in one field; `problem` says what is wrong, in words that follow its name. */
export function invalidField(field: string, problem: string): ProblemError {
  return invalidInput([{ field, problem }]);
}

/** The answer to more requests than a caller may make: 429, with the time to wait. */
export function tooManyRequests(detail: string, waitMs: number): ProblemError {
  return new ProblemError('TOO_MANY_REQUESTS', detail, {
    retryAfterSec: Math.max(1, Math.ceil(waitMs / 1_000)),
  });
}

/**
 * Describes anything thrown while a request was handled. What failed inside the server is named by its code
 * alone: its message may hold addresses and statements, which belong in the log.
 *
 * @param maxBodyBytes the limit of the route.
 */
export function describeFailure(error: unknown, maxBodyBytes: number): Problem {
  if (error instanceof ProblemError) return error.problem;
  if (error instanceof SvcMqttError) {
    const { code, suggestion } = error;
    if (error.httpStatus < 500 || code === 'REPLICA_UNAVAILABLE')
      return createProblem(code, error.message, { suggestion });
    if (error.httpStatus === 503) return createProblem(code, `${unavailable(code)}; try again later`);
  }
  const status = statusOf(error);
  if (status === 413) {
    const detail = `The body is over the limit of ${Math.floor(maxBodyBytes / 1_024)} KiB; nothing was stored`;
    return createProblem('BODY_TOO_LARGE', detail);
  }
  if ((error as { code?: unknown }).code === 'FST_ERR_BAD_URL') {
    return createProblem(
      'INPUT_INVALID',
      'The address has a % that no two hexadecimal digits of UTF-8 follow',
    );
  }
  if (status === 414) return createProblem('INPUT_INVALID', 'The address is too long', { status });
  if (status !== undefined && status < 500) {
    return createProblem('INPUT_INVALID', 'The request is not well-formed HTTP', { status });
  }
  return createProblem('INTERNAL', 'The server failed to answer; its log says why');
}

function unavailable(code: ErrorCode): string {
  if (code === 'DATABASE_READ_ONLY')
    return 'The database takes no changes: it is a standby, or set to read-only';
  if (code.startsWith('DATABASE_')) return 'The database cannot be used at the moment';
  return code.startsWith('NATS_')
    ? 'NATS cannot be used at the moment'
    : 'The service is not available at the moment';
}

function statusOf(error: unknown): number | undefined {
  const status = (error as { statusCode?: unknown } | null | undefined)?.statusCode;
  return typeof status === 'number' && status >= 400 && status < 600 ? status : undefined;
}

/** Answers a request with a problem. */
export function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  if (problem.status === 503) reply.header('retry-after', '5');
  return reply
    .code(problem.status)
    .header('cache-control', 'no-store')
    .header('content-type', problemMediaType)
    .send(JSON.stringify(problem));
}

/** Answers, on the bare socket, bytes of which no request could be made, and closes the connection. */
export function refuseBytes(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const problem = createProblem('INPUT_INVALID', ...describeBytes(error.code));
  const body = JSON.stringify(problem);
  socket.end(
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? ''}\r\n` +
      `Content-Type: ${problemMediaType}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
      `Cache-Control: no-store\r\nConnection: close\r\n\r\n${body}`,
  );
  // A peer that never reads its answer, nor closes its side, would keep the socket.
  socket.destroySoon();
}

function describeBytes(code: string | undefined): [string, { status: number }] {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return ['The request did not arrive in time', { status: 408 }];
  if (code === 'HPE_HEADER_OVERFLOW') return ['The header of the request is too large', { status: 431 }];
  return ['The request is not well-formed HTTP', { status: 400 }];
}
