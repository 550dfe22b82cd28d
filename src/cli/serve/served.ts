import type { Config } from '../../config.js';
import type { Log } from '../../log.js';
import { loadStart, loadStartWorkers } from '../../server/start/load-start.js';
import type { ServerPorts } from '../../server/start/server-ports.js';
import type { RunningServer } from '../../server/start.js';

/** What `serve` runs: a replica in this process, or workers. */
export interface Served {
  readonly ports: ServerPorts;
  /** The replica in this process. */
  readonly server?: RunningServer;
  reloadCertificates(): unknown;
  /** Where NATS and the database are, as `/stats` says. */
  readWhereabouts(): Promise<{ readonly nats: string; readonly database: string }>;
  /** The log of workers is shown whole from now on. */
  show(): void;
  /** Rejects when workers cannot be kept running; never resolves. */
  readonly failed: Promise<never>;
  close(): Promise<void>;
}

/**
 * Starts what WORKERS says.
 *
 * @param options.quiet of the log of workers only what tells why one has to wait is shown, until `show`.
 * @throws SvcMqttError as `startServer` and `startWorkers`; StartAborted.
 */
export async function startServed(
  config: Config,
  log: Log,
  options: {
    readonly signal: AbortSignal;
    readonly onWaiting: ((line: string) => void) | undefined;
    readonly quiet: boolean;
  },
): Promise<Served> {
  if (config.workers > 1) {
    const { startWorkers } = await loadStartWorkers();
    const workers = await startWorkers(config, log, options);
    return {
      ...workers,
      readWhereabouts: async () => ({ nats: workers.nats, database: workers.database }),
    };
  }
  const { startServer } = await loadStart();
  const server = await startServer(config, log, options);
  return {
    ports: server.ports,
    server,
    reloadCertificates: () => server.reloadCertificates(),
    async readWhereabouts() {
      const { nats, database } = await server.view.readStats();
      return { nats: nats.detail, database: database.detail };
    },
    show() {},
    failed: new Promise(() => {}),
    close: () => server.close(),
  };
}
