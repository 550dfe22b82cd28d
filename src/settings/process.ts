import { count, oneOf, setting, textOf } from './setting.js';

/** The process and its log. */
export const processSettings = {
  workers: setting({
    schema: count(1, 64),
    default: 1,
    help: 'Processes that serve devices behind the same ports, about one for each core; each is a replica, and limits hold for each, MEMORY_BUDGET_MIB for all of them. One that ends is started again',
  }),
  startWait: setting({
    flag: 'wait',
    schema: textOf({
      pattern: '^(0|[1-9][0-9]{0,4}[smh])$',
      description: '0, or a whole number with the unit s, m or h, such as 60s',
    }),
    default: '60s',
    help: 'Longest wait at the start for PostgreSQL and NATS that do not answer, such as 60s or 10m; 0: they are tried once. What is wrong for good, such as a password, ends the start at once',
  }),
  shutdownTimeoutSec: setting({
    schema: count(0, 600),
    default: 15,
    help: 'Longest wait at shutdown for messages to be stored and acknowledged',
  }),
  logLevel: setting({
    schema: oneOf('trace', 'debug', 'info', 'warn', 'error', 'silent'),
    default: 'info',
    help: 'Least severe log lines written',
  }),
  logFormat: setting({
    schema: oneOf('auto', 'json', 'pretty'),
    default: 'auto',
    help: 'json, pretty, or auto: pretty on a terminal',
  }),
} as const;
