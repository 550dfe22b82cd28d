import type { Config } from '../../config.js';
import type { RunningServer } from '../../server/start.js';
import { readVersion } from '../../version.js';
import { reachable } from '../store/own-server.js';
import type { CommandIo } from '../terminal/io.js';
import { escapeControls } from '../terminal/text.js';

/** What a server that has started says to the people who see its terminal, in place of the log of its start. */

/** Whether somebody sees it, who has not asked for a form or level of the log. */
export function welcomes(config: Pick<Config, 'logLevel' | 'logFormat'>, io: CommandIo): boolean {
  return io.stderr.isTTY === true && config.logFormat === 'auto' && config.logLevel === 'info';
}

export interface Whereabouts {
  readonly ports: RunningServer['ports'];
  /** Where they are, as `/stats` says. */
  readonly nats: string;
  readonly database: string;
}

/** What runs, where, and what to do next. */
export function toWelcome(
  config: Pick<Config, 'mqttHost' | 'listenAddr' | 'httpTlsCert' | 'natsUrl' | 'databaseUrl' | 'dataDir'>,
  { ports, nats, database }: Whereabouts,
  env: CommandIo['env'],
): string {
  const host = reachable(config.mqttHost);
  const everywhere = ['::', '0.0.0.0', ''].includes(config.mqttHost) ? ', and on every other address' : '';
  const mqtt = [
    ['mqtt', ports.mqtt, ''],
    ['mqtts', ports.mqtts, ''],
    ['ws', ports.ws, '/mqtt'],
    ['wss', ports.wss, '/mqtt'],
  ] as const;
  const addresses = mqtt.flatMap(([scheme, port, path]) =>
    port === undefined ? [] : [`${scheme}://${host}:${port}${path}`],
  );
  const apiHost = reachable(config.listenAddr.replace(/:?\d+$/, '').replace(/^\[(.*)\]$/, '$1'));
  const api = `${config.httpTlsCert === undefined ? 'http' : 'https'}://${apiHost}:${ports.http}`;
  const rows = [
    ...addresses.map((address, index) => [index === 0 ? 'MQTT' : '', `${address}${everywhere}`]),
    ['HTTP API', api],
    ['console', `${api}/`],
    ['documentation', `${api}/docs`],
    ['NATS', `${nats}${config.natsUrl === undefined ? ', a server of its own' : ''}`],
    ['database', config.databaseUrl === undefined ? `${config.dataDir}, embedded` : database],
  ] as const;
  const bold =
    (env.NO_COLOR ?? '') === '' ? (text: string) => `\x1b[1m${text}\x1b[22m` : (text: string) => text;
  // npm and npx say so to what they start, and there the command has no shorter name.
  const command = env.npm_command === undefined ? 'svc-mqtt' : 'npx svc-mqtt';
  const where = config.databaseUrl === undefined ? ', from this directory' : '';
  return [
    '',
    bold(`svc-mqtt ${readVersion()} is ready`),
    ...rows.map(([name, value]) => `  ${(name ?? '').padEnd(13)}  ${escapeControls(value ?? '')}`),
    '',
    `Next: add a device, in another terminal${where}`,
    `  ${bold(`${command} device add --type sensor`)}`,
    '',
    'Ctrl-C stops the server. Its log follows.',
    '',
    '',
  ].join('\n');
}
