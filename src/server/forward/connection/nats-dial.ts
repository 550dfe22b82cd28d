import { isIP } from 'node:net';
import { messageOf, SvcMqttError } from '../../../errors.js';
import { writeChunk } from './nats-internals.js';
import {
  type ConnectionOptions,
  connect,
  type NatsConnection,
  NatsError,
  type TlsOptions,
} from './nats-library.js';
import { awaitGreeting, readRefusal } from './nats-probe.js';
import { type NatsAddress, type NatsTarget, showAddress } from './nats-settings.js';

const dialTimeoutMs = 5_000;
const noNats = 'NO_NATS';
/** The library collects messages up to this size before it writes them within a turn; larger saves system calls. */
const writeChunkBytes = 128 * 1024;

/** A connection and the server it leads to. */
export interface DialledNats {
  readonly connection: NatsConnection;
  readonly address: NatsAddress;
}

/** Tries the addresses in order; throws the error of the last one, or, sooner, what a further address cannot mend. */
export async function dialNats(
  target: NatsTarget,
  addresses: readonly NatsAddress[],
  name = 'svc-mqtt',
): Promise<DialledNats> {
  let failure: unknown;
  for (const address of addresses) {
    try {
      return { connection: await dialOne(target, address, name), address };
    } catch (error) {
      if (error instanceof SvcMqttError) throw error;
      failure = explain(error, address);
    }
  }
  throw failure;
}

async function dialOne(target: NatsTarget, address: NatsAddress, name: string): Promise<NatsConnection> {
  // The library forgets the socket of an attempt that times out, and leaves it open: a server that accepts connections
  // and is frozen would collect one for each attempt, and keep a command from ending.
  if ((await awaitGreeting(address.host, address.port, dialTimeoutMs)) === 'other') {
    throw Object.assign(new Error('no NATS server answers there'), { code: noNats });
  }
  const certificates = target.certificates();
  const authenticator = target.authenticator();
  // `host` and `servername` reach tls.connect: the library names a server only when it resolves it itself, and it
  // resolves without /etc/hosts and search domains.
  const names =
    isIP(address.tlsName) === 0
      ? { host: address.tlsName, servername: address.tlsName }
      : { host: address.tlsName };
  const tls = { ...certificates, ...names } as TlsOptions;
  const options: ConnectionOptions = {
    servers: [showAddress(address)],
    name,
    timeout: dialTimeoutMs,
    resolve: false,
    // The link reconnects by itself: the library keeps what is published meanwhile without a bound, gives up after
    // two refusals, and waits for ever for the write buffer of a frozen server before it drops the connection.
    reconnect: false,
    ignoreClusterUpdates: true,
    noAsyncTraces: true,
    ...writeChunk(writeChunkBytes),
    inboxPrefix: target.inboxPrefix,
    ...(authenticator === undefined ? {} : { authenticator }),
    ...(target.tls ? { tls } : {}),
  };
  return connect(options).catch(async (error: NodeJS.ErrnoException) => {
    // The library has written to a connection that the server ended, and tells of that alone.
    const isEnded = error.code === 'EPIPE' || error.code === 'ECONNRESET';
    const refusal = isEnded ? await readRefusal(address.host, address.port) : undefined;
    throw refusal === undefined ? error : new Error(refusal);
  });
}

function explain(error: unknown, address: NatsAddress): SvcMqttError {
  const where = showAddress(address);
  // Of the server, or of the account.
  if (/connections exceeded/i.test(messageOf(error)))
    return away(
      `NATS at ${where} takes no more connections: ${messageOf(error)}`,
      error,
      'Raise max_connections of the NATS server, or the limit of the account, or end connections that nobody needs',
    );
  const code = error instanceof NatsError ? error.code : (error as NodeJS.ErrnoException | undefined)?.code;
  switch (code) {
    case 'AUTHORIZATION_VIOLATION':
    case 'AUTHENTICATION_EXPIRED':
    case 'ACCOUNT_EXPIRED':
    case 'BAD_AUTHENTICATION':
      return new SvcMqttError('NATS_REFUSED', `NATS at ${where} refused the credentials`, {
        suggestion:
          'Check NATS_URL, NATS_USER and NATS_PASSWORD, NATS_TOKEN, NATS_NKEY_FILE or NATS_CREDS_FILE',
        cause: error,
      });
    case 'AUTHENTICATION_TIMEOUT':
      // It has not looked at the credentials: this machine, or who decides for the server, was too slow.
      return away(
        `NATS at ${where} was not shown the credentials in time`,
        error,
        'See whether this machine is overloaded, or give the authorization of the NATS server a longer timeout',
      );
    case 'SERVER_OPT_NA':
      return unreachable(
        `NATS at ${where} does not offer TLS, which the settings require`,
        error,
        'Use nats:// and unset NATS_TLS_*, or turn TLS on in the NATS server',
      );
    case noNats:
      return away(
        `What listens at ${where} does not answer as NATS does`,
        error,
        'Check NATS_URL, and that the NATS server there is not stuck',
      );
    case 'ECONNREFUSED':
    case 'CONNECTION_REFUSED':
      return away(`NATS at ${where} refuses connections`, error);
    case 'TIMEOUT':
    case 'CONNECTION_TIMEOUT':
      return away(`NATS at ${where} did not answer within ${dialTimeoutMs / 1000} s`, error);
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return away(`NATS at ${where}: the host name is not known`, error, 'Check NATS_URL');
    case 'ECONNRESET':
    case 'EPIPE':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'ETIMEDOUT':
    case 'CONNECTION_CLOSED':
      return away(`NATS at ${where} cannot be reached: ${messageOf(error)}`, error);
    default:
      return unreachable(
        `Cannot connect to NATS at ${where}: ${error === undefined ? 'the connection was closed' : messageOf(error)}`,
        error,
        'Check NATS_URL, that a NATS server listens there, and the NATS_TLS_* settings if it uses TLS',
      );
  }
}

function unreachable(detail: string, cause: unknown, suggestion: string): SvcMqttError {
  return new SvcMqttError('NATS_UNREACHABLE', detail, { suggestion, cause });
}

/** It may be starting. */
function away(
  detail: string,
  cause: unknown,
  suggestion = 'Start NATS there, or correct NATS_URL',
): SvcMqttError {
  return new SvcMqttError('NATS_UNREACHABLE', detail, { suggestion, mayPass: true, cause });
}
