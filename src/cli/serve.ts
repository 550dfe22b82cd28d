import type { Config } from '../config.js';
import { openLog } from '../log.js';
import { startServer } from '../server/start.js';
import type { CommandIo } from './io.js';

/**
 * Runs a replica until a signal comes, then drains it. A signal during the start lets the start end first, so
 * that nothing half-made is left; a second signal, which `main` handles, exits at once. Where there are certificates,
 * SIGHUP has their files read again instead.
 *
 * @throws SvcMqttError as `startServer`.
 */
export async function serve(
  config: Config,
  io: Pick<CommandIo, 'signal' | 'onDefect' | 'onHangUp'>,
): Promise<void> {
  const log = openLog({ level: config.logLevel, format: config.logFormat });
  // What runs on after a defect cannot be trusted with messages: what supervises the process starts it again.
  io.onDefect((error) => log.fatal({ event: 'uncaught_exception', err: error }, 'A defect ends the process'));
  const server = await startServer(config, log);
  if (server.hasCertificates) io.onHangUp(() => void server.reloadCertificates());
  const { mqtt, mqtts, ws, wss, http } = server.ports;
  const listening = Object.entries({ MQTT: mqtt, MQTTS: mqtts, WS: ws, WSS: wss, 'HTTP API': http })
    .filter(([, port]) => port !== undefined)
    .map(([name, port]) => `${name} on port ${port}`);
  log.info(
    { event: 'serve_ready', mqttPort: mqtt, mqttsPort: mqtts, wsPort: ws, wssPort: wss, httpPort: http },
    `Ready: ${listening.join(', ')}`,
  );
  await untilAborted(io.signal);
  log.info(
    { event: 'serve_stopping', signal: String(io.signal.reason) },
    'Stopping; a second signal exits at once',
  );
  await server.close();
  log.info({ event: 'serve_stopped' }, 'Stopped');
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
