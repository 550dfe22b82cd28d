import type { Config } from '../../config.js';
import { openFilesAdvice, SvcMqttError } from '../../errors.js';
import { type Log, limitLog } from '../../log.js';
import { checkForwarderSettings } from '../forward/start-forwarder.js';
import { holdAddress } from '../http/listener.js';
import { holdPorts, planListeners } from '../mqtt/transport/listeners.js';
import { type OpenFileShares, readOpenFilesLimit, shareOpenFiles } from './open-files.js';

/** What the settings and the system leave a replica. */
export interface StartPlan {
  readonly planned: ReturnType<typeof planListeners>['planned'];
  readonly openFiles: OpenFileShares;
  /** Most connections: MAX_CONNECTIONS, or what the limit of open files allows. */
  readonly maxConnections: number;
}

/**
 * Looks whether the settings make sense together, before anything is begun.
 *
 * @param withTls the broker has a certificate.
 * @throws SvcMqttError CONFIG_INVALID, LISTEN_FAILED.
 */
export function planStart(config: Config, withTls: boolean): StartPlan {
  const { planned } = planListeners(config, withTls);
  checkForwarderSettings(config);
  const openFiles = shareOpenFiles(readOpenFilesLimit() ?? Number.POSITIVE_INFINITY, config);
  const maxConnections = Math.min(config.maxConnections, openFiles.mqtt);
  if (maxConnections < 1) {
    const detail = 'The limit of open files leaves no room for connections of devices';
    throw new SvcMqttError('LISTEN_FAILED', detail, { suggestion: openFilesAdvice });
  }
  return { planned, openFiles, maxConnections };
}

/** Fewer connections than this are less than anybody expects; else the setting is only its default. */
const fewConnections = 10_000;

/** Says when the limit of open files is what bounds the connections. */
export function tellOfOpenFiles(
  { maxConnections: connections }: StartPlan,
  { maxConnections }: Config,
  log: Log,
): void {
  if (connections >= maxConnections) return;
  log[connections < fewConnections ? 'warn' : 'info'](
    { event: 'open_files_low', connections, maxConnections },
    `The limit of open files leaves room for ${connections} connections of devices, not ${maxConnections} (MAX_CONNECTIONS): raise it (ulimit -n, LimitNOFILE in systemd)`,
  );
}

/**
 * Takes every port for a moment. Nobody is let in before everything else is up, and what asks on the port of the API whether
 * the process lives takes the answer for ready; so they are not kept.
 *
 * @throws SvcMqttError LISTEN_FAILED.
 */
export async function requirePorts(config: Config, { planned }: StartPlan, log: Log): Promise<void> {
  const limitedLog = limitLog(log);
  try {
    const letHttpGo = await holdAddress(config.listenAddr);
    try {
      const letMqttGo = await holdPorts(config, planned, limitedLog);
      await letMqttGo();
    } finally {
      letHttpGo();
    }
  } finally {
    limitedLog.close();
  }
}
