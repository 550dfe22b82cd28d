import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import type { Config } from '../../../config.js';
import { messageOf, SvcMqttError } from '../../../errors.js';
import {
  type Authenticator,
  credsAuthenticator,
  nkeyAuthenticator,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from './nats-library.js';

/** The settings that say how to reach NATS. */
export type NatsSettings = Pick<
  Config,
  | 'natsUrl'
  | 'natsUser'
  | 'natsPassword'
  | 'natsToken'
  | 'natsNkeyFile'
  | 'natsCredsFile'
  | 'natsTlsCa'
  | 'natsTlsCert'
  | 'natsTlsKey'
  | 'natsInboxPrefix'
  | 'natsJetstreamDomain'
>;

/** One server of NATS_URL. */
export interface NatsAddress {
  readonly host: string;
  readonly port: number;
  /** Name that the server's certificate must carry; of a server learned from another one, that one's name. */
  readonly tlsName: string;
}

export type NatsTarget = ReturnType<typeof readNatsTarget>;

const defaultPort = 4222;

/**
 * Reads where NATS is and who we are there, as NATS_URL and its companions say, with nothing read from files yet.
 *
 * @throws SvcMqttError CONFIG_INVALID for a URL or a combination that makes no sense.
 */
export function readNatsTarget(settings: NatsSettings) {
  const urls = (settings.natsUrl ?? `127.0.0.1:${defaultPort}`)
    .split(',')
    .map((url) => url.trim())
    .filter((url) => url !== '')
    .map(readUrl);
  const [first, ...others] = urls;
  if (first === undefined) throw invalid('NATS_URL names no server', 'Give it as nats://host:4222');
  const named = urls.filter((url) => url.user !== undefined);
  if (named.some((url) => url.user !== named[0]?.user || url.password !== named[0]?.password)) {
    throw invalid(
      'NATS_URL carries different credentials for different servers',
      'Use the same for all, or NATS_USER and NATS_PASSWORD',
    );
  }
  return {
    addresses: [first.address, ...others.map((url) => url.address)] as const,
    tls:
      urls.some((url) => url.tls) || settings.natsTlsCa !== undefined || settings.natsTlsCert !== undefined,
    /** Reads the credentials; at every attempt anew, so that rotated files are taken up. */
    authenticator: chooseCredentials(settings, named[0]),
    /** Of the subjects on which requests are answered. */
    inboxPrefix: settings.natsInboxPrefix,
    /** Reads the certificates, likewise. */
    certificates: chooseCertificates(settings),
  };
}

/** An address as it may be shown: never with credentials. */
export function showAddress(address: NatsAddress): string {
  return `nats://${isIP(address.host) === 6 ? `[${address.host}]` : address.host}:${address.port}`;
}

function readUrl(text: string) {
  const suggestion = 'Give it as nats://host:4222, several separated by commas';
  let url: URL;
  try {
    url = new URL(text.includes('://') ? text : `nats://${text}`);
  } catch {
    // The text may hold a password and is therefore not shown.
    throw invalid('NATS_URL holds something that is not a URL', suggestion);
  }
  if (url.protocol !== 'nats:' && url.protocol !== 'tls:') {
    throw invalid(`NATS_URL cannot use ${url.protocol}//, only nats:// and tls://`, suggestion);
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  if (host === '') throw invalid('NATS_URL holds a URL without a host', suggestion);
  return {
    address: { host, port: url.port === '' ? defaultPort : Number(url.port), tlsName: host },
    tls: url.protocol === 'tls:',
    user: url.username === '' ? undefined : decodePart(url.username),
    password: url.password === '' ? undefined : decodePart(url.password),
  };
}

function decodePart(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid('NATS_URL holds credentials with a bad %-escape', 'Write a % in them as %25');
  }
}

function chooseCredentials(
  settings: NatsSettings,
  url: { user: string | undefined; password: string | undefined } | undefined,
): () => Authenticator | undefined {
  const { natsUser, natsPassword, natsToken, natsNkeyFile, natsCredsFile } = settings;
  if (natsPassword !== undefined && natsUser === undefined) {
    throw invalid('NATS_PASSWORD is set without NATS_USER', 'Set both, or NATS_TOKEN for a token');
  }
  const given = Object.entries({
    NATS_USER: natsUser,
    NATS_TOKEN: natsToken,
    NATS_NKEY_FILE: natsNkeyFile,
    NATS_CREDS_FILE: natsCredsFile,
  }).filter(([, value]) => value !== undefined);
  if (given.length > 1) {
    throw invalid(
      `${given.map(([name]) => name).join(' and ')} are both set`,
      'Keep one kind of credentials',
    );
  }
  if (natsUser !== undefined) return () => usernamePasswordAuthenticator(natsUser, natsPassword);
  if (natsToken !== undefined) return () => tokenAuthenticator(natsToken);
  if (natsNkeyFile !== undefined) {
    return () =>
      checked('NATS_NKEY_FILE', natsNkeyFile, 'an nkey seed', (text) => nkeyAuthenticator(bytes(text)));
  }
  if (natsCredsFile !== undefined) {
    return () =>
      checked('NATS_CREDS_FILE', natsCredsFile, 'NATS credentials (JWT and seed)', (text) =>
        credsAuthenticator(bytes(`${text}\n`)),
      );
  }
  const user = url?.user;
  if (user === undefined) return () => undefined;
  // As in every NATS client, a URL with one name and no password carries a token.
  if (url?.password === undefined) return () => tokenAuthenticator(user);
  return () => usernamePasswordAuthenticator(user, url.password);
}

function chooseCertificates(settings: NatsSettings): () => { ca?: string; cert?: string; key?: string } {
  const { natsTlsCa, natsTlsCert, natsTlsKey } = settings;
  if ((natsTlsCert === undefined) !== (natsTlsKey === undefined)) {
    throw invalid('Only one of NATS_TLS_CERT and NATS_TLS_KEY is set', 'Set both or neither');
  }
  return () => ({
    ...(natsTlsCa === undefined ? {} : { ca: readSettingFile('NATS_TLS_CA', natsTlsCa) }),
    ...(natsTlsCert === undefined ? {} : { cert: readSettingFile('NATS_TLS_CERT', natsTlsCert) }),
    ...(natsTlsKey === undefined ? {} : { key: readSettingFile('NATS_TLS_KEY', natsTlsKey) }),
  });
}

/** Makes an authenticator and tries it, so that a file with the wrong content is named and not called refused. */
function checked(
  setting: string,
  path: string,
  expected: string,
  make: (text: string) => Authenticator,
): Authenticator {
  const text = readSettingFile(setting, path).trim();
  try {
    const authenticator = make(text);
    authenticator('nonce');
    return authenticator;
  } catch (cause) {
    throw new SvcMqttError('CONFIG_INVALID', `${setting}: ${path} does not hold ${expected}`, {
      suggestion: 'Name the file that nsc or nk wrote',
      cause,
    });
  }
}

function readSettingFile(setting: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new SvcMqttError('CONFIG_INVALID', `${setting}: cannot read ${path}: ${messageOf(cause)}`, {
      suggestion: 'Check the path and the permissions of the file',
      cause,
    });
  }
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function invalid(detail: string, suggestion: string): SvcMqttError {
  return new SvcMqttError('CONFIG_INVALID', detail, { suggestion });
}
