import { SvcMqttError } from '../../errors.js';
import { describeUnkept, isDemand } from './dsn-demands.js';

export const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;
export type SslMode = (typeof sslModes)[number];
const tlsVersions = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const;
export type TlsVersion = (typeof tlsVersions)[number];

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
  /** Bounds of the TLS version; undefined: TLSv1.2, and the latest. */
  readonly minTlsVersion: TlsVersion | undefined;
  readonly maxTlsVersion: TlsVersion | undefined;
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
  'client_encoding',
  'default_query_exec_mode',
  'description_cache_capacity',
  'fallback_application_name',
  'gssdelegation',
  'gsslib',
  'keepalives',
  'keepalives_count',
  'keepalives_idle',
  'keepalives_interval',
  'krbsrvname',
  'load_balance_hosts',
  'max_protocol_version',
  'plan_cache_mode',
  'pool_health_check_period',
  'pool_max_conn_idle_time',
  'pool_max_conn_lifetime',
  'pool_max_conn_lifetime_jitter',
  'pool_max_conns',
  'pool_min_conns',
  'prefer_simple_protocol',
  'sslcompression',
  'statement_cache_capacity',
  'statement_cache_mode',
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
  'requiressl',
  'ssl_max_protocol_version',
  'ssl_min_protocol_version',
  'sslcert',
  'sslkey',
  'sslmode',
  'sslrootcert',
  'user',
]);

const suggestion =
  "Write postgres://user:password@host:5432/name or host=… user=… password=… dbname=… (quote values with spaces: password='a b')";

function invalid(problem: string, todo: string = suggestion): SvcMqttError {
  return new SvcMqttError('CONFIG_INVALID', `DATABASE_URL ${problem}`, { suggestion: todo });
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
    const name = keyword.toLowerCase();
    const todo = describeUnkept(name, value);
    if (todo !== undefined) throw invalid(`demands with ${name} what svc-mqtt does not do`, todo);
    if (sessionKeywords.has(keyword)) session.push(`-c ${keyword}=${value.replace(/([\\ ])/g, '\\$1')}`);
    else if (!knownKeywords.has(keyword) && !harmlessKeywords.has(name) && !isDemand(name)) {
      throw invalid(`has the unknown keyword "${keyword}"`);
    }
  }
  const text = (keyword: string) => values.get(keyword) || undefined;
  const host = text('host') ?? text('hostaddr') ?? 'localhost';
  if (host.includes(',')) throw severalHosts();
  const port = wholeNumber('port', text('port') ?? '5432', 1, 65_535);
  const sslRootCert = text('sslrootcert');
  const sslMode = readSslMode(text('sslmode'), sslRootCert, readRequireSsl(text('requiressl')));
  const minTlsVersion = readTlsVersion('ssl_min_protocol_version', text('ssl_min_protocol_version'));
  const maxTlsVersion = readTlsVersion('ssl_max_protocol_version', text('ssl_max_protocol_version'));
  if (maxTlsVersion !== undefined && maxTlsVersion < (minTlsVersion ?? 'TLSv1.2')) {
    throw invalid(
      `has an ssl_max_protocol_version below ${minTlsVersion === undefined ? 'TLSv1.2, the least without ssl_min_protocol_version' : 'its ssl_min_protocol_version'}`,
    );
  }
  // A certificate is sent only when it is named, so leaving it out is all that `disable` asks for.
  const sendsCertificate = text('sslcertmode')?.toLowerCase() !== 'disable';
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
    sslCert: sendsCertificate ? text('sslcert') : undefined,
    sslKey: sendsCertificate ? text('sslkey') : undefined,
    minTlsVersion,
    maxTlsVersion,
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
function readSslMode(given: string | undefined, rootCert: string | undefined, required: boolean): SslMode {
  const mode = given ?? (rootCert === 'system' ? 'verify-full' : required ? 'require' : 'prefer');
  const known = sslModes.find((each) => each === mode);
  if (known === undefined) throw invalid(`has an unknown sslmode; it can be ${sslModes.join(', ')}`);
  if (rootCert === 'system' && mode !== 'verify-full') {
    throw invalid(
      `has sslrootcert=system with sslmode=${mode}, which does not verify the name of the server; set sslmode to verify-full, or leave it out`,
    );
  }
  return known;
}

/** What old clients have for sslmode, which wins over it. */
function readRequireSsl(value: string | undefined): boolean {
  if (value === undefined || value === '0' || value === '1') return value === '1';
  throw invalid('has a requiressl that is neither 0 nor 1; write sslmode=require');
}

function readTlsVersion(keyword: string, value: string | undefined): TlsVersion | undefined {
  const version = tlsVersions.find((each) => each.toLowerCase() === value?.toLowerCase());
  if (value !== undefined && version === undefined) {
    throw invalid(`has an unknown ${keyword}; it can be ${tlsVersions.join(', ')}`);
  }
  return version;
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
  // Told before anything of it is taken for a host, which messages show.
  if (path.includes('@')) {
    throw invalid(
      'has an "@" behind a "/"',
      'Write "/" as %2F and "@" as %40 in the user, the password and the name of the database',
    );
  }
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
