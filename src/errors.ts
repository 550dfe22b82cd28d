/**
 * Every failure an operator or an API client can meet, in one closed table: what a command exits with and what
 * the HTTP API answers. `docs/errors.md` documents each code; a test fails when one is missing there.
 */
export const errorCodes = {
  /** The command line is wrong: unknown option, missing value, unknown subcommand. */
  USAGE: { exit: 2, http: 500 },
  /** A setting has a value that it cannot take. */
  CONFIG_INVALID: { exit: 2, http: 500 },
  /** The database does not answer. */
  DATABASE_UNREACHABLE: { exit: 1, http: 503 },
  /** The database answers and refuses user, password or database name. */
  DATABASE_REFUSED: { exit: 1, http: 503 },
  /** The database answers and takes no changes: a standby, or set to read-only. */
  DATABASE_READ_ONLY: { exit: 1, http: 503 },
  /** The data directory of the embedded database cannot be used. */
  DATABASE_EMBEDDED: { exit: 1, http: 503 },
  /** The database's schema is older or newer than this program. */
  DATABASE_SCHEMA: { exit: 1, http: 503 },
  /** NATS does not answer. */
  NATS_UNREACHABLE: { exit: 1, http: 503 },
  /** NATS answers and refuses the credentials. */
  NATS_REFUSED: { exit: 1, http: 503 },
  /** No nats-server program was found or it could not be started. */
  NATS_EMBEDDED: { exit: 1, http: 503 },
  /** The stream cannot be used or created. */
  NATS_STREAM: { exit: 1, http: 503 },
  /** An acknowledgement would be worth less than ACK_LEVEL promises, or that is not known. */
  ACK_LEVEL: { exit: 1, http: 503 },
  /** A port to listen on is taken or not allowed. */
  LISTEN_FAILED: { exit: 1, http: 500 },
  /** A worker of `serve --workers` ends before it takes devices. */
  WORKER_FAILED: { exit: 1, http: 500 },
  /** A named device does not exist. */
  DEVICE_NOT_FOUND: { exit: 1, http: 404 },
  /** A device with this id exists already. */
  DEVICE_EXISTS: { exit: 1, http: 409 },
  /** A device cannot be removed, because rows of another table refer to it. */
  DEVICE_IN_USE: { exit: 1, http: 409 },
  /** A device is revoked, connected nowhere, or does not take what it is asked. */
  DEVICE_UNAVAILABLE: { exit: 1, http: 409 },
  /** A device did not answer in time. */
  DEVICE_SILENT: { exit: 1, http: 504 },
  /** A command of this sequence is not stored for the device. */
  COMMAND_NOT_FOUND: { exit: 1, http: 404 },
  /** A command is not in its stream any more. */
  COMMAND_GONE: { exit: 1, http: 410 },
  /** The HTTP API that a command asks does not answer, or something else answers in its place. */
  API_UNREACHABLE: { exit: 1, http: 503 },
  /** A named connection does not exist, or not any more. */
  CONNECTION_NOT_FOUND: { exit: 1, http: 404 },
  /** The replica that is asked for something of its own does not answer the others. */
  REPLICA_UNAVAILABLE: { exit: 1, http: 503 },
  /** A named session does not exist, or has ended. */
  SESSION_NOT_FOUND: { exit: 1, http: 404 },
  /** A device type has no policy of its own. */
  POLICY_NOT_FOUND: { exit: 1, http: 404 },
  /** A claim does not exist, or what was shown is not its secret. */
  CLAIM_NOT_FOUND: { exit: 1, http: 404 },
  /** A claim can make no device any more. */
  CLAIM_GONE: { exit: 1, http: 410 },
  /** A request or an argument breaks a rule that its message names. */
  INPUT_INVALID: { exit: 2, http: 400 },
  /** A request body is over the limit. */
  BODY_TOO_LARGE: { exit: 1, http: 413 },
  /** A request lacks a valid key or token. */
  UNAUTHENTICATED: { exit: 1, http: 401 },
  /** The role of the key that calls is too low for the route. */
  FORBIDDEN: { exit: 1, http: 403 },
  /** More attempts or requests than one caller may make in a time. */
  TOO_MANY_REQUESTS: { exit: 1, http: 429 },
  /** A named API key does not exist. */
  API_KEY_NOT_FOUND: { exit: 1, http: 404 },
  /** An API key of this name is in use. */
  API_KEY_EXISTS: { exit: 1, http: 409 },
  /** A web page of another site, or a host name that is not this machine's, stands behind a request. */
  ORIGIN_REFUSED: { exit: 1, http: 403 },
  /** No such route. */
  ROUTE_NOT_FOUND: { exit: 1, http: 404 },
  /** The route exists and does not take this method. */
  METHOD_NOT_ALLOWED: { exit: 1, http: 405 },
  /** A defect of this program. */
  INTERNAL: { exit: 1, http: 500 },
} as const;

export type ErrorCode = keyof typeof errorCodes;

/** A failure with a stable code, one sentence saying what happened, and one saying what to do about it. */
export class SvcMqttError extends Error {
  override readonly name = 'SvcMqttError';
  readonly code: ErrorCode;
  readonly suggestion: string | undefined;
  /** The field of the input that is at fault, with whose name the detail begins. */
  readonly field: string | undefined;
  /** It may pass without anybody changing a setting, so that it makes sense to try again. */
  readonly mayPass: boolean;

  constructor(
    code: ErrorCode,
    detail: string,
    options: { suggestion?: string; field?: string; mayPass?: boolean; cause?: unknown } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.suggestion = options.suggestion;
    this.field = options.field;
    this.mayPass = options.mayPass ?? false;
  }

  get exitStatus(): number {
    return errorCodes[this.code].exit;
  }

  get httpStatus(): number {
    return errorCodes[this.code].http;
  }

  /** One line for a terminal: what happened, then what to do. */
  toLine(): string {
    return oneLine(this.suggestion === undefined ? this.message : `${this.message}. ${this.suggestion}`);
  }
}

/** The message of anything thrown, on one line, without a stack. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0]);
  if (error instanceof Error) return oneLine(error.message || error.name);
  return oneLine(String(error));
}

/** Why a file cannot be used, without the call and the path that Node.js appends: who tells it has named the path. */
export function fileReasonOf(error: unknown): string {
  return messageOf(error).replace(/, [a-z]+( '.*')?$/s, '');
}

/**
 * What to do about memory that the system refuses, undefined when something else went wrong. A limit of the address space
 * is met long before the memory is in use: WebAssembly, which Node.js itself is built with, reserves gigabytes.
 */
export function adviseOnMemory(reason: string): string | undefined {
  if (!/out of memory|(cannot|could not) allocate|allocation failed|ENOMEM/i.test(reason)) return undefined;
  return 'Lift the limit of the address space (ulimit -v, LimitAS= of systemd), and bound memory by the container or MemoryMax= instead';
}

/** What to do when a process may open too few files. */
export const openFilesAdvice =
  'Raise the limit of open files (ulimit -n, LimitNOFILE= of systemd, --ulimit nofile of a container) to 1024 or more';

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ').trim();
}
