import { join } from 'node:path';
import type { Config } from '../../config.js';
import { makeOwnDirectory } from '../../data-directory.js';
import { adviseOnMemory, fileReasonOf, messageOf } from '../../errors.js';
import { isShownAtStart, type Log, openLog } from '../../log.js';
import { type LogFile, openLogFile } from '../../log-file.js';
import { StartAborted } from '../../server/start/start-wait.js';
import type { RunningServer } from '../../server/start.js';
import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { readCliActor } from '../store/actor.js';
import { type CommandIo, canDraw } from '../terminal/io.js';
import { describeFailure } from '../terminal/report.js';
import { escapeControls } from '../terminal/text.js';
import { type Served, startServed } from './served.js';
import { toWelcome, welcomes } from './welcome.js';

/** No screen is higher. */
const shownLogLines = 200;

/**
 * Runs a replica, or with WORKERS several, until a signal comes, then drains it. A signal during the start ends a wait for PostgreSQL or NATS and
 * lets everything else end first, so that nothing half-made is left; a second signal, which `main` handles, exits at once. Where there are certificates,
 * SIGHUP has their files read again instead.
 *
 * @throws SvcMqttError as `startServer` and `startWorkers`; USAGE.
 */
export async function serve({ config, options, io }: Call<{ readonly tui?: boolean }>): Promise<void> {
  if (options.tui === true && config.workers > 1) {
    throw usageError(
      '--tui shows the connections of one process',
      'Leave out --tui or --workers, and look with svc-mqtt top',
    );
  }
  const file = options.tui === true ? openScreenLog(config, io) : undefined;
  let quiet = file === undefined && welcomes(config, io);
  const log = openLog({
    level: config.logLevel,
    format: config.logFormat,
    shows: quiet ? (line) => !quiet || isShownAtStart(line) : undefined,
    ...(file === undefined ? {} : { destination: file }),
  });
  // What runs on after a defect cannot be trusted with messages: what supervises the process starts it again.
  let starting = true;
  io.onDefect((error) => {
    if (starting && adviseOnMemory(messageOf(error)) !== undefined)
      io.stderr.write(describeFailure(error, { withStack: false }).text);
    else tellDefect(log, error);
  });
  let served: Served | undefined;
  // Whoever renews certificates does not know that the server is starting: it has just read them, or does at its next check.
  if (config.tlsCert !== undefined || config.httpTlsCert !== undefined)
    io.onHangUp(() => void served?.reloadCertificates());
  served = await startServed(config, log, {
    signal: io.signal,
    // The log is not seen where the screen will be.
    onWaiting: file === undefined ? undefined : (line) => io.stderr.write(`${escapeControls(line)}\n`),
    quiet,
  }).catch((error: unknown) => {
    if (!(error instanceof StartAborted)) throw error;
    log.info({ event: 'serve_stopped' }, 'Stopped while it waited');
    return undefined;
  });
  if (served === undefined) return;
  starting = false;
  const { mqtt, mqtts, ws, wss, http } = served.ports;
  const listening = Object.entries({ MQTT: mqtt, MQTTS: mqtts, WS: ws, WSS: wss, 'HTTP API': http })
    .filter(([, port]) => port !== undefined)
    .map(([name, port]) => `${name} on port ${port}`);
  log.info(
    { event: 'serve_ready', mqttPort: mqtt, mqttsPort: mqtts, wsPort: ws, wssPort: wss, httpPort: http },
    `Ready: ${listening.join(', ')}`,
  );
  if (quiet) {
    const where = await served.readWhereabouts();
    quiet = false;
    served.show();
    io.stderr.write(toWelcome(config, { ports: served.ports, ...where }, io.env));
  }
  const failure = await untilOver(served, file, log, io);
  log.info(
    { event: 'serve_stopping', signal: io.signal.aborted ? String(io.signal.reason) : 'none' },
    'Stopping; a second signal exits at once',
  );
  await served.close();
  log.info({ event: 'serve_stopped' }, 'Stopped');
  if (failure !== undefined) throw failure.error;
}

/** Waits for a signal, the operator at the screen, or workers that cannot be kept running; answers what failed. */
async function untilOver(
  served: Served,
  file: LogFile | undefined,
  log: Log,
  io: CommandIo,
): Promise<{ error: unknown } | undefined> {
  if (file !== undefined && served.server !== undefined) {
    await showOwnScreen(served.server, file, log, io);
    return undefined;
  }
  const failed = served.failed.catch((error: unknown) => ({ error }));
  return await Promise.race([failed, untilAborted(io.signal).then(() => undefined)]);
}

function tellDefect(log: Log, error: unknown): void {
  log.fatal({ event: 'uncaught_exception', err: error }, 'A defect ends the process');
}

/** Where the log goes while the terminal shows the screen. */
function openScreenLog(config: Config, io: CommandIo): LogFile {
  if (!canDraw(io.stdout, io.env) || io.stdin.isTTY !== true) {
    throw usageError('--tui needs a terminal', 'Leave it out, and look with svc-mqtt top');
  }
  const path = join(config.dataDir, 'serve.log');
  try {
    makeOwnDirectory(config.dataDir);
    const file = openLogFile(path);
    io.stderr.write(`Starting; the log goes to ${escapeControls(path)}\n`);
    return file;
  } catch (error) {
    throw usageError(`${path} cannot be written: ${fileReasonOf(error)}`, 'Choose another DATA_DIR');
  }
}

/** Shows the screen of `svc-mqtt top` until the operator stops the server or a signal comes. */
async function showOwnScreen(server: RunningServer, file: LogFile, log: Log, io: CommandIo): Promise<void> {
  const [{ showScreen }, { followLocally, openLocalApi }, { toLogText }] = await Promise.all([
    import('../top/top.js'),
    import('../top/local-api.js'),
    import('../top/log-text.js'),
  ]);
  const screen = showScreen(
    {
      api: openLocalApi(server, readCliActor()),
      follow: followLocally(server),
      where: 'this server',
      request: { filter: '', sort: 'rate', descending: true },
      readLog: () => file.recent().slice(-shownLogLines).map(toLogText),
      onDefect: (error) => tellDefect(log, error),
    },
    io,
  );
  await screen.catch(async (error: unknown) => {
    // Devices must not lose their server to a screen.
    log.error({ event: 'screen_failed', err: error }, 'The screen failed; the server goes on');
    io.stderr.write('The screen failed, as the log says; the server goes on until Ctrl-C\n');
    await untilAborted(io.signal);
  });
  io.stderr.write('Stopping; Ctrl-C once more exits at once\n');
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
