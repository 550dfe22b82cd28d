import { once } from 'node:events';
import { messageOf, SvcMqttError } from '../../errors.js';
import { isShownAtStart, openLog } from '../../log.js';
import { loadStart } from '../start/load-start.js';
import { StartAborted } from '../start/start-wait.js';
import type { FromWorker, ToWorker, WorkerBeginning } from './messages.js';
import { openPeers } from './peers.js';

/**
 * A worker of `serve --workers`: a replica in a process of its own, which starts and stops as the process that started it
 * says, and ends with it.
 */

const stop = new AbortController();
// A terminal sends them to the whole process group; the primary decides.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {});
// Who ends one worker has it drained; the primary starts it again.
process.on('SIGTERM', () => end('SIGTERM'));

let begun = false;
let quiet = false;
let take: (message: ToWorker) => void = () => {};
process.on('message', (message: ToWorker) => {
  if (message.type === 'begin') void run(message);
  else if (message.type === 'show') quiet = false;
  else if (message.type === 'stop') end(message.signal);
  else if (message.type === 'pulse') void send({ type: 'pulse' });
  else take(message);
});

/** One that has not begun has nothing to drain. */
function end(signal: string): void {
  if (begun) stop.abort(signal);
  else process.exit(0);
}

/** Resolves when the message has left; without a primary there is nobody to tell, and the process ends. */
function send(message: FromWorker): Promise<void> {
  return new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });
}

void send({ type: 'listening' });

async function run(beginning: WorkerBeginning): Promise<void> {
  begun = true;
  const { config, number } = beginning;
  quiet = beginning.quiet;
  const log = openLog({
    level: config.logLevel,
    format: config.logFormat,
    shows: quiet ? (line) => !quiet || isShownAtStart(line) : undefined,
  }).child({ worker: number });
  process.on('uncaughtException', (error) => {
    try {
      log.fatal({ event: 'uncaught_exception', err: error }, 'A defect ends the process');
    } finally {
      process.exit(1);
    }
  });
  const { peers, take: takeForPeers } = openPeers(beginning, (message) => void send(message));
  take = takeForPeers;
  try {
    const { startServer } = await loadStart();
    const server = await startServer(config, log, {
      signal: stop.signal,
      onWaiting: (line) => void send({ type: 'waiting', line }),
      peers,
    });
    take = (message) => {
      if (message.type === 'reload-certificates') void server.reloadCertificates();
      else takeForPeers(message);
    };
    const { nats, database } = await server.view.readStats();
    await send({ type: 'ready', ports: server.ports, nats: nats.detail, database: database.detail });
    if (!stop.signal.aborted) await once(stop.signal, 'abort');
    await server.close();
  } catch (error) {
    if (!(error instanceof StartAborted)) await fail(error);
  }
  process.exit(0);
}

async function fail(error: unknown): Promise<never> {
  // What is not expected is a defect: it is told with its stack, and ends the process.
  if (!(error instanceof SvcMqttError)) {
    setImmediate(() => {
      throw error;
    });
    return await new Promise(() => {});
  }
  const { code, suggestion, mayPass } = error;
  await send({ type: 'failed', code, detail: messageOf(error), suggestion, mayPass });
  process.exit(error.exitStatus);
}
