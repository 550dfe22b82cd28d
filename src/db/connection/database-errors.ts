import { messageOf, SvcMqttError } from '../../errors.js';

/** System errors and SQLSTATEs that mean: nobody answers there, now. */
const unreachableCodes = new Set([
  'EAI_AGAIN',
  'EACCES',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
  'ENOTFOUND',
  'EPERM',
  'EPIPE',
  'ETIMEDOUT',
  '53300',
  '53400',
  '55P03',
  '57014',
]);
const unreachableMessages =
  /connection terminated|client has encountered a connection error|socket disconnected/i;
/** What the driver and the server say when DATABASE_TIMEOUT_MS has passed. */
const lateMessages =
  /connection timeout|timeout expired|timeout exceeded|query read timeout|statement timeout/i;
const tlsMessages =
  /does not support ssl|ssl connection|certificate|self[- ]signed|altname|tls|wrong version number/i;

/** SQLSTATE read_only_sql_transaction: a standby, or a session that may not write. */
export const readOnlyCode = '25006';
export const readOnlyAdvice =
  'Name the primary server in DATABASE_URL, or switch default_transaction_read_only off';

/** An error and its causes, five at most. */
function* causesOf(error: unknown): Generator<Error> {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth += 1) yield at;
}

/** The SQLSTATE of a PostgreSQL error, or the code of a system error, wherever it is in the chain of causes. */
export function codeOf(error: unknown): string | undefined {
  for (const at of causesOf(error)) {
    if (at instanceof AggregateError && at.errors.length > 0) return codeOf(at.errors[0]);
    if ('code' in at && typeof at.code === 'string' && !(at instanceof SvcMqttError)) return at.code;
  }
  return undefined;
}

/** The last error of the chain of causes: drizzle wraps the driver's error in one that quotes the query. */
function rootOf(error: unknown): unknown {
  return [...causesOf(error)].at(-1) ?? error;
}

/** The table whose rows refer to what was to be deleted; undefined when the error is another one. */
export function referringTableOf(error: unknown): string | undefined {
  // foreign_key_violation, and restrict_violation, which PostgreSQL 18 says of ON DELETE RESTRICT.
  if (!['23503', '23001'].includes(codeOf(error) ?? '')) return undefined;
  return (rootOf(error) as { table?: string }).table ?? 'of an unknown name';
}

/**
 * Says in one sentence what is wrong with the database, where, and what to do. An error that is about neither
 * reaching it nor being let in is answered as the driver made it.
 */
export function toDatabaseError(error: unknown, where: string): unknown {
  if (error instanceof SvcMqttError) return error;
  const code = codeOf(error) ?? '';
  const reason = messageOf(rootOf(error));
  const fail = (
    kind: 'DATABASE_UNREACHABLE' | 'DATABASE_REFUSED' | 'DATABASE_READ_ONLY' | 'DATABASE_SCHEMA',
    detail: string,
    suggestion: string,
    mayPass = false,
  ) => new SvcMqttError(kind, detail, { suggestion, mayPass, cause: error });
  switch (code) {
    case '28P01':
    case '28000':
      return fail(
        'DATABASE_REFUSED',
        `The database at ${where} refuses the user: ${reason}`,
        'Check user and password in DATABASE_URL, and pg_hba.conf of the server',
      );
    case '3D000':
      return fail(
        'DATABASE_REFUSED',
        `The server at ${where} has no such database: ${reason}`,
        'Create it (createdb NAME) or correct the name in DATABASE_URL',
      );
    case '42501':
      return fail(
        'DATABASE_REFUSED',
        `The database at ${where} does not allow this to the user: ${reason}`,
        'Grant the user of DATABASE_URL the right, or use the owner of the tables',
      );
    case readOnlyCode:
      return fail(
        'DATABASE_READ_ONLY',
        `The database at ${where} takes no changes: ${reason}`,
        readOnlyAdvice,
      );
    case '40P01':
      return fail(
        'DATABASE_UNREACHABLE',
        `The database at ${where} undid the change, which waited for another transaction as that one for it: ${reason}`,
        'Try again; transactions that change the devices in one order, by id, do not meet so',
        true,
      );
    case '42P01':
    case '42703':
      return fail(
        'DATABASE_SCHEMA',
        `The schema of the database at ${where} is not up to date: ${reason}`,
        'Run svc-mqtt migrate',
      );
  }
  if (/SASL|password must be a string|password authentication/i.test(reason) && code === '') {
    return fail(
      'DATABASE_REFUSED',
      `The database at ${where} wants a password and DATABASE_URL has none or a wrong one`,
      'Put user and password in DATABASE_URL',
    );
  }
  if (isAboutTls(error)) {
    return fail(
      'DATABASE_UNREACHABLE',
      `The connection to the database at ${where} cannot be encrypted as asked: ${reason}`,
      'Correct sslmode or sslrootcert in DATABASE_URL, or the certificate of the server',
    );
  }
  if (isLate(error)) {
    return fail(
      'DATABASE_UNREACHABLE',
      `The database at ${where} did not answer within DATABASE_TIMEOUT_MS`,
      'Check that it runs and can be reached from here; one that is far away or slow needs a longer DATABASE_TIMEOUT_MS',
      true,
    );
  }
  if (isAway(error)) {
    return fail(
      'DATABASE_UNREACHABLE',
      `The database at ${where} does not answer: ${reason}`,
      'Check that it runs and can be reached from here, and host and port in DATABASE_URL',
      // Who may not use a socket now may not later.
      code !== 'EACCES' && code !== 'EPERM',
    );
  }
  return rootOf(error);
}

/** A time limit has passed, of this program or of the server on its behalf. */
function isLate(error: unknown): boolean {
  return [...causesOf(error)].some(({ message }) => lateMessages.test(message));
}

/**
 * The connection has ended, which says nothing about the database: an operator ended its backend, a pooler its server
 * connection, or the server was started anew since the connection was last used.
 */
export function isConnectionLost(error: unknown): boolean {
  const code = codeOf(error) ?? '';
  if (code !== '') return /^(08|57P0[12])/.test(code) || code === 'ECONNRESET' || code === 'EPIPE';
  // The driver's end of a connection that was not made in time is none that was lost.
  if (isLate(error)) return false;
  return /^connection terminated|encountered a connection error/i.test(messageOf(rootOf(error)));
}

/** The error says that the database cannot be reached or cannot work now; trying again later may succeed. */
function isAway(error: unknown): boolean {
  const code = codeOf(error) ?? '';
  if (unreachableCodes.has(code) || /^(08|57P)/.test(code)) return true;
  return unreachableMessages.test(messageOf(rootOf(error))) || isAboutTls(error);
}

/** Errors of Node.js about certificates have codes of their own; the driver's have none. */
function isAboutTls(error: unknown): boolean {
  const code = codeOf(error) ?? '';
  return (
    !/^[0-9A-Z]{5}$/.test(code) && !unreachableCodes.has(code) && tlsMessages.test(messageOf(rootOf(error)))
  );
}
