import type { Config } from '../../config.js';
import { type Log, openLog } from '../../log.js';

/**
 * The log of a command that is not a server: warnings and worse, since its results and errors are on its streams,
 * unless a more talkative level was asked for.
 */
export function openCommandLog(config: Config): Log {
  return openLog({ level: config.logLevel === 'info' ? 'warn' : config.logLevel, format: config.logFormat });
}
