import type { Config } from '../../config.js';
import { readDurationMs } from '../../duration.js';
import type { Log } from '../../log.js';
import { startOwnNats } from '../forward/start-forwarder.js';
import { type Releasers, releaseOnFailure } from '../start/releasers.js';
import { bringSchemaUpToDate, startDatabase } from '../start/start-database.js';
import { planStart, requirePorts } from '../start/start-plan.js';
import { openStartWait, orAborted, StartAborted } from '../start/start-wait.js';
import { openServerCertificates } from '../tls/server-certificates.js';
import { startSupervisor } from './supervisor.js';

export interface StartWorkersOptions {
  /** Ends the start. */
  readonly signal: AbortSignal;
  readonly onWaiting?: ((line: string) => void) | undefined;
  /** Of the log only what tells why one has to wait is shown, until `show`. */
  readonly quiet: boolean;
}

/**
 * Starts the workers of `serve --workers`, each a replica in a process of its own, behind the same ports.
 * Does once what replicas would each do, and starts them: looks whether the ports are free, brings the schema up to date, starts
 * what is embedded. A failed start undoes what it began.
 *
 * @throws SvcMqttError as `startServer`, and WORKER_FAILED; StartAborted.
 */
export async function startWorkers(config: Config, log: Log, options: StartWorkersOptions) {
  return await releaseOnFailure(log, (releasers) => start(config, log, releasers, options));
}

async function start(
  config: Config,
  log: Log,
  releasers: Releasers,
  { signal, onWaiting, quiet }: StartWorkersOptions,
) {
  // The workers read them for themselves.
  const certificates = await openServerCertificates(config, log);
  certificates.close();
  await requirePorts(config, planStart(config, certificates.mqtt !== undefined), log);
  const wait = openStartWait({ timeMs: readDurationMs(config.startWait) ?? 0, log, signal, onWaiting });
  const db = releasers.add('database', await startDatabase(config, wait, log));
  await bringSchemaUpToDate(config, db, log);
  if (config.databaseUrl !== undefined) await db.close();

  const startNats = () => wait.once((signal) => startOwnNats(config, log, signal));
  const nats = releasers.add('NATS server', config.natsUrl === undefined ? await startNats() : undefined);

  if (signal.aborted) throw new StartAborted();
  let hidden = quiet;
  const supervisor = await startSupervisor({
    count: config.workers,
    begin: (number) => ({ type: 'begin', number, config, embeddedNatsPort: nats?.port, quiet: hidden }),
    onWaiting: (line) => onWaiting?.(line),
    onNeedsRoom: (standstill) => nats?.makeRoom(standstill),
    shutdownTimeoutSec: config.shutdownTimeoutSec,
    log,
  });
  const workers = releasers.add('workers', supervisor);
  const { ports, nats: natsDetail, database } = await orAborted(workers.ready, signal);
  return {
    ports,
    /** Where they are, as `/stats` says. */
    nats: natsDetail,
    database,
    /** Has every worker read the certificate files now. */
    reloadCertificates: (): void => workers.tellAll({ type: 'reload-certificates' }),
    /** Of the log everything is shown from now on. */
    show(): void {
      hidden = false;
      workers.tellAll({ type: 'show' });
    },
    /** Rejects when a worker ends at once again and again. */
    failed: workers.failed,
    /** Drains and stops all. Idempotent. */
    close: () => releasers.releaseAll(),
  };
}
