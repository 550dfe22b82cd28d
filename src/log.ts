import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';
import pretty from 'pino-pretty';

export type Log = Logger;

/** Fields that never reach a log line, wherever an object carrying them is logged. */
const secretFields = ['password', 'secret', 'token', 'mqtt_password', 'authorization', 'seed', 'databaseUrl'];

/**
 * Opens the process's log. It goes to stderr, so that stdout carries results only: JSON lines, or, with format
 * `pretty` (and with `auto` on a terminal), lines for people.
 */
export function openLog(options: {
  level: string;
  format: 'auto' | 'json' | 'pretty';
  destination?: DestinationStream;
}): Log {
  const readable =
    options.format === 'pretty' || (options.format === 'auto' && process.stderr.isTTY === true);
  const destination =
    options.destination ??
    (readable
      ? pretty({ destination: 2, sync: true, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss.l' })
      : pino.destination({ dest: 2, sync: true }));
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      redact: { paths: secretFields.flatMap((field) => [field, `*.${field}`]), censor: '[secret]' },
    },
    destination,
  );
}
