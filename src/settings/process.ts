import Type from 'typebox';
import { count, setting } from './setting.js';

/** The process and its log. */
export const processSettings = {
  shutdownTimeoutSec: setting({
    env: ['SHUTDOWN_TIMEOUT_SEC'],
    flag: 'shutdown-timeout-sec',
    schema: count(0, 600),
    default: 15,
    help: 'Longest wait at shutdown for messages to be stored and acknowledged',
  }),
  logLevel: setting({
    env: ['LOG_LEVEL'],
    flag: 'log-level',
    schema: Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']),
    default: 'info',
    help: 'Least severe log lines written',
  }),
  logFormat: setting({
    env: ['LOG_FORMAT'],
    flag: 'log-format',
    schema: Type.Enum(['auto', 'json', 'pretty']),
    default: 'auto',
    help: 'json, pretty, or auto: pretty on a terminal',
  }),
} as const;
