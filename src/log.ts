import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';
import pretty from 'pino-pretty';
import { openLogOutput, openLogStream } from './log-output.js';
import { replaceUnsafe, unicodeEscape } from './unsafe-text.js';

export type Log = Logger;

/** Fields that never reach a log line, wherever an object carrying them is logged. */
const secretFields = [
  'password',
  'secret',
  'token',
  'key',
  'mqtt_password',
  'authorization',
  'seed',
  'databaseUrl',
];

/**
 * Opens the process's log. It goes to stderr, so that stdout carries results only: JSON lines, or, with format
 * `pretty` (and with `auto` on a terminal), lines for people. What a client has sent cannot drive the terminal that
 * shows them.
 */
export function openLog(options: {
  level: string;
  format: 'auto' | 'json' | 'pretty';
  destination?: DestinationStream;
  /** Which lines people are shown, each as JSON; all of them unless given. */
  shows?: ((line: string) => boolean) | undefined;
}): Log {
  const readable =
    options.format === 'pretty' || (options.format === 'auto' && process.stderr.isTTY === true);
  // pino-pretty reads the line as JSON and would undo a single escape.
  const escapeUnsafe = readable && options.destination === undefined ? escapeTwice : unicodeEscape;
  const destination =
    options.destination ??
    (readable
      ? showTo(
          pretty({
            destination: openLogStream(2),
            ignore: 'pid,hostname',
            translateTime: 'SYS:HH:MM:ss.l',
            singleLine: true,
            // Yellow cannot be read on a light ground, nor gray and blue on a dark one.
            customColors: 'warn:magenta,info:green,debug:reset,trace:reset,message:reset,greyMessage:reset',
          }),
          options.shows,
        )
      : openLogOutput(2));
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      // JSON escapes those below U+0020 only.
      hooks: { streamWrite: (line) => `${replaceUnsafe(line.trimEnd(), escapeUnsafe)}\n` },
      redact: { paths: secretFields.flatMap((field) => [field, `*.${field}`]), censor: '[secret]' },
    },
    destination,
  );
}

function showTo(
  stream: DestinationStream,
  shows: ((line: string) => boolean) | undefined,
): DestinationStream {
  if (shows === undefined) return stream;
  return {
    write(line) {
      if (shows(line)) stream.write(line);
    },
  };
}

/** The events of a start that tell why one has to wait. */
const waits: ReadonlySet<string> = new Set(['embedded_database_creating', 'nats_server_install']);

/** Whether a line of the log is shown while the server starts: warnings, errors, and what takes long. */
export function isShownAtStart(line: string): boolean {
  const { level, event } = JSON.parse(line) as { level: number; event?: string };
  return level > 30 || waits.has(event ?? '');
}

function escapeTwice(character: string): string {
  return `\\${unicodeEscape(character)}`;
}

/** Fields of a log line. */
type Fields = Record<string, unknown>;

export type LimitedLog = ReturnType<typeof limitLog>;

/**
 * A log for events that clients cause, so that none of them can flood it: passes at most `maxLines` lines of each event in
 * `windowMs`; how many were left out is said when the window ends.
 */
export function limitLog(log: Log, { maxLines = 20, windowMs = 10_000 } = {}) {
  const written = new Map<string, number>();
  const timer = setInterval(() => {
    for (const [event, lines] of written) {
      const leftOut = lines - maxLines;
      if (leftOut > 0)
        log.warn({ event: 'log_lines_left_out', of: event, count: leftOut }, 'Log lines were left out');
    }
    written.clear();
  }, windowMs);
  timer.unref();

  function writer(level: 'debug' | 'info' | 'warn' | 'error') {
    return (event: string, fields: Fields, message: string): void => {
      if (!log.isLevelEnabled(level)) return;
      const lines = (written.get(event) ?? 0) + 1;
      written.set(event, lines);
      if (lines <= maxLines) log[level]({ event, ...fields }, message);
    };
  }

  return {
    debug: writer('debug'),
    info: writer('info'),
    warn: writer('warn'),
    error: writer('error'),
    close: (): void => clearInterval(timer),
  };
}
