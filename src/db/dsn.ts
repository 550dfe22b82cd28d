import { SvcMqttError } from '../errors.js';

export const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
export type SslMode = (typeof sslModes)[number];

/** A PostgreSQL server and how to reach it, as read from a URL or a DSN. */
export interface DatabaseAddress {
  /** Host name, address, or, beginning with `/`, the directory of a unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly database: string | undefined;
  readonly sslMode: SslMode;
  /** Files: certificate authority, or `system` for the public ones; client certificate and its key. */
  readonly sslRootCert: string | undefined;
  readonly sslCert: string | undefined;
  readonly sslKey: string | undefined;
  readonly applicationName: string;
  /** Longest wait for a connection, seconds; undefined: the program's own limit. */
  readonly connectTimeoutSec: number | undefined;
  /** Server command-line options, as `-c search_path=devices`. */
  readonly options: string | undefined;
  /** `postgres://host:port/name`, for messages: no user, no password. */
  readonly where: string;
}

/** What other clients of PostgreSQL write into a DSN and what makes no difference here. */
const harmlessKeywords = new Set([
  'channel_binding',
  'client_encoding',
  'default_query_exec_mode',
  'description_cache_capacity',
  'fallback_application_name',
  'gssdelegation',
  'gssencmode',
  'gsslib',
  'keepalives',
  'keepalives_count',
  'keepalives_idle',
  'keepalives_interval',
  'krbsrvname',
  'load_balance_hosts',
  'max_protocol_version',
  'min_protocol_version',
  'plan_cache_mode',
  'pool_health_check_period',
  'pool_max_conn_idle_time',
  'pool_max_conn_lifetime',
  'pool_max_conn_lifetime_jitter',
  'pool_max_conns',
  'pool_min_conns',
  'prefer_simple_protocol',
  'require_auth',
  'requirepeer',
  'requiressl',
  'ssl_max_protocol_version',
  'ssl_min_protocol_version',
  'sslcertmode',
  'sslcompression',
  'sslcrl',
  'sslcrldir',
  'sslnegotiation',
  'sslsni',
  'statement_cache_capacity',
  'statement_cache_mode',
  'target_session_attrs',
  'tcp_user_timeout',
  'timezone',
]);

/** Parameters of the session that are given to the server as `-c name=value`. */
const sessionKeywords = new Set(['search_path', 'role']);

const knownKeywords = new Set([
  'application_name',
  'connect_timeout',
  'database',
  'dbname',
  'host',
  'hostaddr',
  'options',
  'password',
  'port',
  'sslcert',
  'sslkey',
  'sslmode',
  'sslrootcert',
  'user',
]);

const suggestion =
  "Write postgres://user:password@host:5432/name or host=… user=… password=… dbname=… (quote values with spaces: password='a b')";

function invalid(problem: string): SvcMqttError {
  return new SvcMqttError('CONFIG_INVALID', `DATABASE_URL ${problem}`, { suggestion });
}

function severalHosts(): SvcMqttError {
  return invalid('names several hosts; give one, or one address that leads to the right host');
}

/**
 * Reads where the database is: a `postgres://` or `postgresql://` URL, or a keyword/value DSN as libpq and GORM
 * take it.
 *
 * @throws SvcMqttError CONFIG_INVALID saying what is wrong; it never repeats a value, which might be the password.
 * @see https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
 */
export function parseDatabaseUrl(text: string): DatabaseAddress {
  const trimmed = text.trim();
  return toAddress(/^postgres(ql)?:\/\//i.test(trimmed) ? readUrl(trimmed) : readKeywords(trimmed));
}

function toAddress(values: Map<string, string>): DatabaseAddress {
  const session: string[] = [];
  for (const [keyword, value] of values) {
    if (sessionKeywords.has(keyword)) session.push(`-c ${keyword}=${value.replace(/([\\ ])/g, '\\$1')}`);
    else if (!knownKeywords.has(keyword) && !harmlessKeywords.has(keyword.toLowerCase())) {
      throw invalid(`has the unknown keyword "${keyword}"`);
    }
  }
  const text = (keyword: string) => values.get(keyword) || undefined;
  const host = text('host') ?? text('hostaddr') ?? 'localhost';
  if (host.includes(',')) throw severalHosts();
  const port = wholeNumber('port', text('port') ?? '5432', 1, 65_535);
  const sslRootCert = text('sslrootcert');
  const sslMode = readSslMode(text('sslmode'), sslRootCert);
  const timeout = text('connect_timeout');
  const options = [text('options'), ...session].filter((part) => part !== undefined).join(' ');
  const database = text('dbname') ?? text('database');
  const shownHost = host.includes(':') ? `[${host}]` : host;
  const shownName = encodeURIComponent(database ?? '');
  return {
    host,
    port,
    user: text('user'),
    password: text('password'),
    database,
    sslMode,
    sslRootCert,
    sslCert: text('sslcert'),
    sslKey: text('sslkey'),
    applicationName: text('application_name') ?? 'svc-mqtt',
    connectTimeoutSec:
      timeout === undefined ? undefined : wholeNumber('connect_timeout', timeout, 0, 3_600) || undefined,
    options: options === '' ? undefined : options,
    where: host.startsWith('/')
      ? `postgres:///${shownName}?host=${host}&port=${port}`
      : `postgres://${shownHost}:${port}/${shownName}`,
  };
}

/**
 * As in libpq, the public authorities (`sslrootcert=system`) go with `verify-full` only: everybody gets a certificate of
 * them, for a name of their own, so without a look at the name it proves nothing.
 */
function readSslMode(given: string | undefined, rootCert: string | undefined): SslMode {
  const mode = given ?? (rootCert === 'system' ? 'verify-full' : 'prefer');
  if (!isSslMode(mode)) throw invalid(`has an unknown sslmode; it can be ${sslModes.join(', ')}`);
  if (rootCert === 'system' && mode !== 'verify-full') {
    throw invalid(
      `has sslrootcert=system with sslmode=${mode}, which does not verify the name of the server; set sslmode to verify-full, or leave it out`,
    );
  }
  return mode;
}

function isSslMode(value: string): value is SslMode {
  return (sslModes as readonly string[]).includes(value);
}

function wholeNumber(keyword: string, value: string, least: number, most: number): number {
  const number = /^[0-9]{1,6}$/.test(value) ? Number(value) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw invalid(`has a ${keyword} that is not a whole number from ${least} to ${most}`);
}

/** `postgres://user:password@host:port/name?keyword=value&…`; the host may be a percent-encoded directory. */
function readUrl(url: string): Map<string, string> {
  const rest = url.slice(url.indexOf('://') + 3);
  const [, authority = '', path = '', query = ''] = /^([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s.exec(rest) ?? [];
  const values = new Map<string, string>();
  const put = (keyword: string, value: string | undefined) => {
    if (value !== undefined && value !== '') values.set(keyword, decode(keyword, value));
  };
  const at = authority.lastIndexOf('@');
  if (at >= 0) {
    const [, user, password] = /^([^:]*)(?::(.*))?$/s.exec(authority.slice(0, at)) ?? [];
    put('user', user);
    put('password', password);
  }
  if (authority.slice(at + 1).includes(',')) throw severalHosts();
  const place = /^(?:\[([^\]]*)\]|([^:]*))(?::(.*))?$/s.exec(authority.slice(at + 1));
  if (place === null)
    throw invalid('has a host and port that cannot be told apart; write an IPv6 address as [::1]:5432');
  put('host', place[1] ?? place[2]);
  put('port', place[3]);
  put('dbname', path);
  for (const pair of query === '' ? [] : query.split('&')) {
    const equals = pair.indexOf('=');
    if (equals < 1) throw invalid('has a parameter after "?" that is not keyword=value');
    const keyword = decode('parameter', pair.slice(0, equals));
    if (keyword === 'ssl' && pair.slice(equals + 1) === 'true') values.set('sslmode', 'require');
    else put(keyword, pair.slice(equals + 1));
  }
  return values;
}

function decode(what: string, text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid(`has a ${what} with a broken percent-encoding; write a "%" in it as %25`);
  }
}

/** `keyword = value keyword='value with spaces'`; a backslash takes the next character literally. */
function readKeywords(dsn: string): Map<string, string> {
  const values = new Map<string, string>();
  const pair =
    /\s*([^\s=']+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'(?=\s|$)|((?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*|(?=\s|$)))/sy;
  let end = 0;
  while (dsn.slice(end).trim() !== '') {
    pair.lastIndex = end;
    const match = pair.exec(dsn);
    if (match === null) {
      throw invalid(
        values.size === 0
          ? 'is neither a postgres:// URL nor keyword=value pairs'
          : `cannot be read after the value of "${[...values.keys()].at(-1)}": quotes do not match or a "=" is missing`,
      );
    }
    const [, keyword = '', quoted, plain] = match;
    values.set(keyword, (quoted ?? plain ?? '').replace(/\\(.)/gs, '$1'));
    end = pair.lastIndex;
  }
  if (values.size === 0) throw invalid('is empty');
  return values;
}
