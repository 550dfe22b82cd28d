import type { FieldProblem, Problem } from '../../api/problem.js';
import { type ErrorCode, errorCodes, messageOf, SvcMqttError } from '../../errors.js';
import { Interrupted } from '../terminal/io.js';

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

/** One request of the API, with its body as JSON text. */
export type Send = (
  method: Method,
  path: string,
  body?: string,
) => Promise<{ readonly status: number; readonly text: string; readonly retryAfterSec?: number | undefined }>;

/**
 * Makes a request and answers the text of its answer.
 *
 * @throws SvcMqttError with the code of the problem that the API answers.
 */
export async function callApi(send: Send, method: Method, path: string, body?: string): Promise<string> {
  const { status, text } = await send(method, path, body);
  if (status >= 200 && status < 300) return text;
  throw describeProblem(status, text);
}

/** The same for an answer in JSON. */
export async function callForJson<T>(send: Send, method: Method, path: string, body?: string): Promise<T> {
  return parseAnswer<T>(await callApi(send, method, path, body));
}

/** An answer in JSON. @throws SvcMqttError API_UNREACHABLE when it is none. */
export function parseAnswer<T>(text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new SvcMqttError('API_UNREACHABLE', 'What answers is not the HTTP API of svc-mqtt', {
      suggestion: 'Check --url',
    });
  }
}

/** A problem that the API answers, as an error of the command. */
export class ApiProblem extends SvcMqttError {
  /** Of the answer. */
  readonly status: number;
  /** Each field at fault. */
  readonly faults: readonly FieldProblem[];

  constructor(
    status: number,
    code: ErrorCode,
    { detail, suggestion, errors }: Partial<Problem> & { detail: string },
  ) {
    super(code, detail, suggestion === undefined ? {} : { suggestion });
    this.status = status;
    this.faults = errors ?? [];
  }
}

/** Whether a request that failed has surely changed nothing: it was refused, or never sent. */
export function hasChangedNothing(error: unknown): boolean {
  if (error instanceof Interrupted) return true;
  if (error instanceof ApiProblem) return error.status < 500;
  if (!(error instanceof SvcMqttError)) return false;
  const { cause } = error;
  return notConnected.has(causeCodeOf(cause) ?? '') || speaksNoTls(cause) || isCertificateError(cause);
}

const notConnected = new Set([
  'EAI_AGAIN',
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** The API's problem details; the code is the API's, where this program knows it. */
function describeProblem(status: number, text: string): SvcMqttError {
  const problem = readProblem(text);
  const { code = '', detail = `The API answers with status ${status}` } = problem;
  const known = Object.hasOwn(errorCodes, code) ? (code as ErrorCode) : undefined;
  if (known === 'UNAUTHENTICATED' || (known === undefined && status === 401)) {
    const suggestion = 'Run `svc-mqtt login`, or give a key in API_KEY or API_KEY_FILE';
    return new ApiProblem(status, 'UNAUTHENTICATED', { detail, suggestion });
  }
  // What does not fit the API of this version is no defect of this program.
  const isForeign = known === undefined || known === 'ROUTE_NOT_FOUND' || known === 'INTERNAL';
  return new ApiProblem(status, isForeign ? 'API_UNREACHABLE' : known, { ...problem, detail });
}

/** What of an answer has the form of problem details; a proxy answers others. */
function readProblem(text: string): Partial<Problem> {
  let answer: Record<string, unknown> = {};
  try {
    answer = (JSON.parse(text) ?? {}) as typeof answer;
  } catch {
    // Nothing of it has.
  }
  const textOf = (name: string) => (typeof answer[name] === 'string' ? { [name]: answer[name] } : {});
  const errors = Array.isArray(answer.errors) ? answer.errors : [];
  const isFault = (each: Partial<FieldProblem> | null): each is FieldProblem =>
    typeof each?.field === 'string' && typeof each.problem === 'string';
  return { ...textOf('code'), ...textOf('detail'), ...textOf('suggestion'), errors: errors.filter(isFault) };
}

/**
 * Refuses a path that `fetch` would make another one of.
 *
 * @throws SvcMqttError INPUT_INVALID.
 */
export function requirePlainPath(path: string): void {
  const [, name] = /\/(\.\.?)(?=[/?]|$)/.exec(path) ?? [];
  if (name !== undefined) throw new SvcMqttError('INPUT_INVALID', `Nothing can be called "${name}"`);
}

/** Sends requests over HTTP; `key` is a key or token of the API. */
export function sendOverHttp(url: string, key: string | undefined, timeoutMs = 5_000): Send {
  const base = url.replace(/\/+$/, '');
  const headers: Record<string, string> = key === undefined ? {} : { authorization: `Bearer ${key}` };
  return async (method, path, text) => {
    requirePlainPath(path);
    const body = text === undefined ? {} : { body: text };
    try {
      const signal = AbortSignal.timeout(timeoutMs);
      const response = await fetch(`${base}${path}`, { method, headers, signal, redirect: 'error', ...body });
      const wait = Number(response.headers.get('retry-after') ?? Number.NaN);
      const retryAfterSec = Number.isFinite(wait) ? wait : undefined;
      return { status: response.status, text: await response.text(), retryAfterSec };
    } catch (error) {
      throw new SvcMqttError(
        'API_UNREACHABLE',
        `${base} does not answer: ${describeFetchError(error, timeoutMs)}`,
        {
          suggestion: adviseOn(error),
          cause: error,
        },
      );
    }
  };
}

function adviseOn(error: unknown): string {
  if (speaksNoTls(error)) return 'Give --url with http:// in place of https://';
  return isCertificateError(error)
    ? 'Give --url with a name that the certificate carries, and its authority in NODE_EXTRA_CA_CERTS'
    : 'Is svc-mqtt serve running there? --url names another address';
}

/** What OpenSSL says of an answer that is no TLS, such as that of HTTP. */
function speaksNoTls(error: unknown): boolean {
  const code = causeCodeOf(error);
  return code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG';
}

function causeCodeOf(error: unknown): string | undefined {
  const { code } = ((error as { cause?: unknown } | undefined)?.cause ?? {}) as { code?: unknown };
  return typeof code === 'string' ? code : undefined;
}

/** OpenSSL's words for what is wrong with a certificate, as Node.js names them, and its own for the wrong name. */
function isCertificateError(error: unknown): boolean {
  return /CERT|UNABLE_TO_VERIFY/.test(causeCodeOf(error) ?? '');
}

/** `fetch` hides what happened in the cause. */
function describeFetchError(error: unknown, timeoutMs: number): string {
  if (error instanceof Error && error.name === 'TimeoutError')
    return `no answer within ${timeoutMs / 1_000} s`;
  const { cause } = error as { cause?: unknown };
  const code = causeCodeOf(error);
  if (code === 'ECONNREFUSED') return 'the connection is refused';
  if (speaksNoTls(error)) return 'what listens there does not speak TLS';
  // OpenSSL's own message has places in its source, and more than one line.
  if (code?.startsWith('ERR_SSL_') === true) return `the TLS handshake fails (${code})`;
  return messageOf(cause ?? error);
}
