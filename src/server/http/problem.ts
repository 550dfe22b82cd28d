import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply } from 'fastify';
import Type, { type Static } from 'typebox';
import { maskSecrets } from '../../db/secrets.js';
import { type ErrorCode, errorCodes, SvcMqttError } from '../../errors.js';

const FieldProblem = Type.Object(
  {
    field: Type.String({ description: 'The field or parameter; `body` for the body as a whole' }),
    problem: Type.String({ description: 'What is wrong with it, in words that follow its name' }),
  },
  { additionalProperties: false },
);

/** An error as RFC 9457 problem details, with the error's code and, for bad input, each field at fault. */
export const Problem = Type.Object(
  {
    type: Type.String({
      format: 'uri',
      description: 'Identifies the kind of problem: `urn:svc-mqtt:error:` and the code',
    }),
    title: Type.String({ description: 'The kind of problem, the same for every occurrence' }),
    status: Type.Integer({ description: 'The HTTP status' }),
    detail: Type.String({ description: 'What happened this time' }),
    suggestion: Type.Optional(
      Type.String({ description: 'What to do about it, where `detail` does not say so already' }),
    ),
    code: Type.String({ description: 'The code of the error, stable between releases' }),
    errors: Type.Optional(Type.Array(FieldProblem, { description: 'Each field or parameter at fault' })),
  },
  {
    $id: 'Problem',
    description: 'An error, as RFC 9457 problem details',
    examples: [
      {
        type: 'urn:svc-mqtt:error:INPUT_INVALID',
        title: 'The request is invalid',
        status: 400,
        detail: 'type is missing',
        code: 'INPUT_INVALID',
        errors: [{ field: 'type', problem: 'is missing' }],
      },
      {
        type: 'urn:svc-mqtt:error:DEVICE_EXISTS',
        title: 'The device exists already',
        status: 409,
        detail: 'A device with the id roof-7 exists already',
        suggestion: 'Choose another id, or leave it out to have one generated',
        code: 'DEVICE_EXISTS',
      },
    ],
  },
);

export type Problem = Static<typeof Problem>;
export type FieldProblem = Static<typeof FieldProblem>;

const titles: Partial<Record<ErrorCode, string>> = {
  DEVICE_NOT_FOUND: 'The device does not exist',
  CONNECTION_NOT_FOUND: 'The connection does not exist',
  DEVICE_EXISTS: 'The device exists already',
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

export const problemMediaType = 'application/problem+json';

/**
 * Describes an error for a client. `status` narrows what the table of codes gives. A detail often repeats what was sent,
 * and a key or claim that got there by mistake is not repeated with it. `suggestion` says what to do, as a sentence
 * without its full stop.
 */
export function createProblem(
  code: ErrorCode,
  detail: string,
  options: {
    status?: number | undefined;
    suggestion?: string | undefined;
    errors?: readonly FieldProblem[] | undefined;
  } = {},
): Problem {
  const status = options.status ?? errorCodes[code].http;
  return {
    type: `urn:svc-mqtt:error:${code}`,
    title: titles[code] ?? STATUS_CODES[status] ?? 'Error',
    status,
    detail: maskSecrets(detail),
    ...(options.suggestion === undefined ? {} : { suggestion: options.suggestion }),
    code,
    ...(options.errors === undefined
      ? {}
      : { errors: options.errors.map(({ field, problem }) => ({ field: maskSecrets(field), problem })) }),
  };
}

/** Describes bad input, one field at fault after the other. */
export function createInputProblem(errors: readonly FieldProblem[], suggestion?: string): Problem {
  const detail = errors.map((error) => `${error.field} ${error.problem}`).join('; ');
  return createProblem('INPUT_INVALID', detail, { errors, suggestion });
}

/** Carries a problem to the error handler from where nothing but a throw gets there. */
export class ProblemError extends Error {
  readonly problem: Problem;
  /** For the header Retry-After. */
  readonly retryAfterSec: number | undefined;

  constructor(problem: Problem, options: { retryAfterSec?: number } = {}) {
    super(problem.detail);
    this.problem = problem;
    this.retryAfterSec = options.retryAfterSec;
  }
}

/** The answer to more requests than a caller may make: 429, with the time to wait. */
export function tooManyRequests(detail: string, waitMs: number): ProblemError {
  return new ProblemError(createProblem('TOO_MANY_REQUESTS', detail), {
    retryAfterSec: Math.max(1, Math.ceil(waitMs / 1_000)),
  });
}

/**
 * Describes anything thrown while a request was handled. What failed inside the server is named by its code
 * alone: its message may hold addresses and statements, which belong in the log.
 */
export function describeFailure(error: unknown): Problem {
  if (error instanceof ProblemError) return error.problem;
  if (error instanceof SvcMqttError) {
    const { code, suggestion } = error;
    if (error.httpStatus < 500) return createProblem(code, error.message, { suggestion });
    if (error.httpStatus === 503) return createProblem(code, `${unavailable(code)}; try again later`);
  }
  const status = statusOf(error);
  if (status === 413) {
    return createProblem('BODY_TOO_LARGE', 'The body is over the limit of 16 KiB; nothing was stored');
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
