import type { AddressInfo } from 'node:net';
import type { Config } from '../../config.js';
import type { Database } from '../../db/connection/open.js';
import type { ChangeFeed } from '../../db/feed/change-feed.js';
import type { Log } from '../../log.js';
import { plainAddress } from '../peer-address.js';
import { type AppOptions, createApp } from './app.js';
import type { AccessSettings } from './auth.js';
import { openKeyDirectory } from './key-directory.js';
import { defaultHttpLimits, type HttpLimits } from './limits.js';
import { requireListening, trackRequests } from './listener.js';
import { bindQueries, type RisksOf } from './queries.js';

export type { PartReadiness, Readiness, ReadReadiness } from './resources/health.js';

export type HttpConfig = AccessSettings & Pick<Config, 'listenAddr'>;

/** The HTTP API, listening. */
export interface RunningHttp {
  readonly port: number;
  /**
   * Stops to listen, answers the requests under way, at most until the limit for that, and ends every connection.
   * Idempotent: every call answers the same promise.
   */
  close(): Promise<void>;
}

type HttpOptions = Omit<AppOptions, 'access' | 'keyDirectory' | 'limits'> & {
  /** Tells of changes of keys. */
  readonly feed: ChangeFeed;
  readonly config: HttpConfig;
  readonly limits?: Partial<HttpLimits>;
};

/**
 * Starts the HTTP API. A failed start undoes what it began.
 *
 * @throws SvcMqttError LISTEN_FAILED.
 */
export async function startHttp(
  options: Omit<HttpOptions, 'queries'> & {
    db: Database;
    /** The database for what every request waits for; `db` when it is not given. */
    urgent?: Database;
    /** What a policy allows that should be intended. */
    policyRisks: RisksOf;
  },
): Promise<RunningHttp> {
  const { db, urgent = db, policyRisks, view } = options;
  return startHttpWith({
    ...options,
    queries: bindQueries(db, urgent, { risksOf: policyRisks, readLedger: view.readLedger }),
  });
}

/** The same on queries of the caller's choice. */
export async function startHttpWith(options: HttpOptions): Promise<RunningHttp> {
  const { config } = options;
  // Whatever a line is about, an IPv4 address stands in it in its own form, as it does everywhere else.
  const log = options.log.child({}, { serializers: { remoteAddress: plainAddress } });
  const limits = { ...defaultHttpLimits, ...options.limits };
  const keyDirectory = openKeyDirectory(options.queries.keys, options.feed, log);
  // Without an answer to this nobody could be let in as local, so the start waits for it.
  const keysExist = await keyDirectory.exist().catch((error: unknown) => {
    keyDirectory.close();
    throw error;
  });
  const app = await createApp({ ...options, access: config, keyDirectory, log, limits });
  const requests = trackRequests(app.server);
  try {
    await requireListening((address) => app.listen(address), config.listenAddr);
  } catch (error) {
    await app.close();
    throw error;
  }
  const { address, port } = app.server.address() as AddressInfo;
  warnOfAccess(config, keysExist, log);
  const scheme = options.certificates === undefined ? 'http' : 'https';
  log.info({ event: 'http_listening', address, port, scheme }, 'The HTTP API listens');

  let closing: Promise<void> | undefined;
  return {
    port,
    close() {
      closing ??= (async () => {
        const closed = app.close();
        await requests.settle(limits.closeTimeoutMs);
        requests.cutOff();
        await closed;
        log.info({ event: 'http_closed' }, 'The HTTP API is closed');
      })();
      return closing;
    },
  };
}

function warnOfAccess(config: HttpConfig, keysExist: boolean, log: Log): void {
  if (!config.apiAllowUnauthenticated) return;
  if (config.apiToken !== undefined || keysExist) {
    const what = config.apiToken === undefined ? 'There are API keys' : 'API_TOKEN is set';
    const message = `${what}, so API_ALLOW_UNAUTHENTICATED=true changes nothing: a key or the token is required`;
    log.warn({ event: 'http_unauthenticated_ignored' }, message);
    return;
  }
  const message =
    'Anyone who reaches the HTTP API can add and revoke devices (API_ALLOW_UNAUTHENTICATED=true)';
  log.warn({ event: 'http_unauthenticated' }, message);
}
