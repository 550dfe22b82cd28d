import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, SvcMqttError } from '../../errors.js';
import {
  AckPolicy,
  DeliverPolicy,
  type MsgHdrs,
  type NatsConnection,
  nanos,
} from '../../server/forward/connection/nats-library.js';
import { connectNats, type NatsLink } from '../../server/forward/connection/nats-link.js';
import { apiOptions, manageStreams } from '../../server/forward/stream/stream.js';
import { covers } from '../../server/forward/stream/subject-match.js';
import { readTopicHeader } from '../../server/forward/subject.js';
import type { Call } from '../command/command.js';
import { openCommandLog } from '../command/command-log.js';
import { findSubjectTemplate } from '../device/subject.js';
import { chooseNatsUrl } from '../store/nats.js';
import { type CommandIo, Interrupted, whenAborted, write } from '../terminal/io.js';
import { escapeControls, formatCount } from '../terminal/text.js';
import { openBoundedQueue } from './bounded-queue.js';
import { chooseSubject } from './subject.js';
import { openLineFormat, type TailMessage } from './tail-line.js';

interface TailOptions {
  readonly count?: number;
  /** How far back to start, in milliseconds. */
  readonly since?: number;
  /** After how long to end, in milliseconds. */
  readonly timeout?: number;
  readonly device?: string;
  readonly full?: boolean;
}

/** Messages fetched from a stream at a time: what is held while stdout is slow. */
const batchSize = 256;
const fetchTimeMs = 10_000;
/** How long NATS keeps the consumer of a command that was killed. */
const abandonedAfterMs = 30_000;
const retryPauseMs = 1_000;
const liveLimits = { maxItems: 10_000, maxBytes: 67_108_864 };

/** Where the messages come from and how far they are shown. */
interface Cursor {
  readonly subject: string;
  /** The JetStream domain. */
  readonly domain: string | undefined;
  /** Start with what was stored since then. */
  since: Date | undefined;
  /** The stream, and the number of its last message that was shown or was there before the start. */
  stream: { name: string; seq: number } | undefined;
}

/**
 * Shows the messages of a subject as they come: from the stream that covers it, so that none is missed when NATS
 * goes away for a while, or live when no stream does. Ends after `count` messages, at a signal, and when stdout
 * is closed, and after `timeout`; reconnects for as long as it takes.
 *
 * @returns the exit status: 1 when the time was over before `count` messages had come.
 * @throws SvcMqttError USAGE, DEVICE_NOT_FOUND, NATS_UNREACHABLE, NATS_REFUSED, NATS_STREAM, CONFIG_INVALID.
 */
export async function tailNats(call: Call<TailOptions>): Promise<number> {
  const { config, options, io } = call;
  const { timeout, count, device } = options;
  const subject = await chooseSubject(call.args[0], device, (id) => findSubjectTemplate(config, id, io));
  const since = options.since === undefined ? undefined : new Date(Date.now() - options.since);
  const natsUrl = chooseNatsUrl(config);
  // Losing and finding NATS again is told below, in words; the log is for who asks for it.
  const log = openCommandLog({ ...config, logLevel: config.logLevel === 'info' ? 'error' : config.logLevel });
  const aborted = whenAborted(io.signal);
  const timeUp = timeout === undefined ? undefined : AbortSignal.timeout(timeout);
  const connecting = connectNats({ ...config, natsUrl }, log);
  try {
    const link = await Promise.race([connecting, aborted.promise]);
    const shown = await follow(
      link,
      { subject, domain: config.natsJetstreamDomain, since, stream: undefined },
      options,
      io,
      timeUp,
    );
    if (timeUp?.aborted !== true || count === undefined || shown >= count) return 0;
    io.stderr.write(`The time is over, and ${formatCount(shown, 'message')} of ${count} came.\n`);
    return 1;
  } catch (error) {
    // Ctrl-C is how one leaves this command.
    if (!(error instanceof Interrupted)) throw error;
    return 0;
  } finally {
    aborted.release();
    await connecting.then((link) => link.close()).catch(() => {});
  }
}

/** Shows messages over one connection after the other until the command ends. @returns how many. */
async function follow(
  link: NatsLink,
  cursor: Cursor,
  options: Call<TailOptions>['options'],
  io: CommandIo,
  timeUp: AbortSignal | undefined,
): Promise<number> {
  const format = openLineFormat({ json: options.json === true, full: options.full === true });
  const ended = AbortSignal.any([io.signal, io.outputClosed, ...(timeUp === undefined ? [] : [timeUp])]);
  const connections = openBoundedQueue<NatsConnection>({ maxItems: 100, maxBytes: 100 });
  let lost = new AbortController();
  link.listen({
    connected(connection) {
      lost = new AbortController();
      connections.push(connection, 0);
    },
    disconnected() {
      lost.abort();
      if (!ended.aborted) io.stderr.write('Lost the connection to NATS; connecting again.\n');
    },
  });
  ended.addEventListener('abort', () => connections.end(), { once: true });
  if (ended.aborted) connections.end();
  const count = options.count ?? Number.POSITIVE_INFINITY;
  let shown = 0;
  let started = false;
  for await (const connection of connections) {
    const stop = AbortSignal.any([ended, lost.signal]);
    while (!stop.aborted && !connection.isClosed()) {
      try {
        const source = await openSource(connection, cursor, stop, io);
        if (!started) io.stderr.write(`${source.note}; Ctrl-C ends.\n`);
        else if (source.missed) io.stderr.write('Connected again; what came meanwhile is not shown.\n');
        else io.stderr.write('Connected again; nothing is missed.\n');
        started = true;
        for await (const message of source.messages) {
          await write(io.stdout, format(message));
          shown += 1;
          if (shown >= count || ended.aborted) return shown;
        }
      } catch (error) {
        if (stop.aborted) break;
        if (!started || error instanceof SvcMqttError) throw error;
        io.stderr.write(`NATS: ${escapeControls(messageOf(error))}; trying again.\n`);
        await delay(retryPauseMs, undefined, { signal: stop }).catch(() => {});
      }
    }
  }
  return shown;
}

interface Source {
  /** What is shown and where it comes from. */
  readonly note: string;
  /** A new source of this kind begins later than the one before ended. */
  readonly missed: boolean;
  readonly messages: AsyncIterable<TailMessage>;
}

/** Opens the stream that covers the subject, or the live subject when none does. The source ends with `stop`. */
async function openSource(
  connection: NatsConnection,
  cursor: Cursor,
  stop: AbortSignal,
  io: CommandIo,
): Promise<Source> {
  const { subject } = cursor;
  const found = await findStream(connection, cursor).catch((error: unknown) => error);
  if (found === undefined || found instanceof Error) {
    if (cursor.since !== undefined) throw noStream(subject, found);
    const messages = await openLive(connection, subject, stop, io);
    return { note: `Showing ${subject} live, as no stream covers it`, missed: true, messages };
  }
  const { name, lastSeq } = found as StreamFound;
  // A stream with a smaller number than we have seen was made anew.
  const known = cursor.stream?.name === name && cursor.stream.seq <= lastSeq;
  if (!known) cursor.stream = { name, seq: cursor.stream === undefined ? lastSeq : 0 };
  const messages = await openStored(connection, cursor, stop);
  return { note: `Showing ${subject} from stream ${name}`, missed: false, messages };
}

function noStream(subject: string, cause: unknown): SvcMqttError {
  const why =
    cause instanceof Error
      ? `JetStream does not answer (${messageOf(cause)})`
      : `no stream covers ${subject}`;
  return new SvcMqttError('NATS_STREAM', `--since needs a stream, and ${why}`, {
    suggestion: 'Leave --since out to see messages as they come',
    cause,
  });
}

interface StreamFound {
  readonly name: string;
  readonly lastSeq: number;
}

/** The first stream that stores every message of a subject. */
async function findStream(
  connection: NatsConnection,
  { subject, domain }: Cursor,
): Promise<StreamFound | undefined> {
  const manager = await manageStreams(connection, domain);
  for await (const name of manager.streams.names(subject)) {
    const { config, state } = await manager.streams.info(name);
    if (config.subjects?.some((each) => covers(each, subject))) return { name, lastSeq: state.last_seq };
  }
  return undefined;
}

/**
 * Messages of a stream after the cursor, which moves with them. They are fetched in batches, the next when the
 * one before is shown; a gap in the consumer's numbering ends them, to start again at the cursor.
 */
async function openStored(
  connection: NatsConnection,
  cursor: Cursor,
  stop: AbortSignal,
): Promise<AsyncIterable<TailMessage>> {
  const stream = cursor.stream ?? { name: '', seq: 0 };
  const manager = await manageStreams(connection, cursor.domain);
  const { name } = await manager.consumers.add(stream.name, {
    ack_policy: AckPolicy.None,
    filter_subject: cursor.subject,
    inactive_threshold: nanos(abandonedAfterMs),
    mem_storage: true,
    num_replicas: 1,
    ...(cursor.since === undefined
      ? { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: stream.seq + 1 }
      : { deliver_policy: DeliverPolicy.StartTime, opt_start_time: cursor.since.toISOString() }),
  });
  const consumer = await connection.jetstream(apiOptions(cursor.domain)).consumers.get(stream.name, name);

  async function* read(): AsyncGenerator<TailMessage> {
    let delivered = 0;
    try {
      while (!stop.aborted && !connection.isClosed()) {
        const batch = await consumer.fetch({ max_messages: batchSize, expires: fetchTimeMs });
        const end = () => batch.stop();
        stop.addEventListener('abort', end, { once: true });
        if (stop.aborted) end();
        try {
          for await (const message of batch) {
            if (message.info.deliverySequence !== delivered + 1) return;
            delivered += 1;
            cursor.since = undefined;
            stream.seq = message.seq;
            yield toTailMessage(message, new Date(message.info.timestampNanos / 1e6), message.seq);
          }
        } finally {
          stop.removeEventListener('abort', end);
          end();
        }
      }
    } finally {
      if (!connection.isClosed()) await manager.consumers.delete(stream.name, name).catch(() => {});
    }
  }
  return read();
}

/** Messages of a subject as NATS passes them on. What comes faster than it can be shown is dropped and counted. */
async function openLive(
  connection: NatsConnection,
  subject: string,
  stop: AbortSignal,
  io: CommandIo,
): Promise<AsyncIterable<TailMessage>> {
  const queue = openBoundedQueue<TailMessage>(liveLimits);
  let dropped = 0;
  const subscription = connection.subscribe(subject, {
    callback(error, message) {
      if (error !== null) {
        queue.end(refused(subject, error));
        return;
      }
      if (!queue.push(toTailMessage(message, new Date()), message.data.length)) dropped += 1;
    },
  });
  stop.addEventListener('abort', () => queue.end(), { once: true });
  if (stop.aborted) queue.end();
  await connection.flush();

  async function* read(): AsyncGenerator<TailMessage> {
    try {
      for await (const message of queue) {
        if (dropped > 0) {
          io.stderr.write(`${formatCount(dropped, 'message')} came too fast and are not shown.\n`);
          dropped = 0;
        }
        yield message;
      }
    } finally {
      if (!connection.isClosed()) subscription.unsubscribe();
    }
  }
  return read();
}

function refused(subject: string, cause: Error): SvcMqttError {
  return new SvcMqttError('NATS_REFUSED', `NATS does not let this user subscribe to ${subject}`, {
    suggestion: 'Give the user the permission, or use credentials that have it',
    cause,
  });
}

interface HeadedMessage {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers?: MsgHdrs | undefined;
}

function toTailMessage(message: HeadedMessage, time: Date, seq?: number): TailMessage {
  return { time, subject: message.subject, topic: topicOf(message), seq, payload: message.data };
}

function topicOf(message: HeadedMessage): string | undefined {
  try {
    const { headers } = message;
    return headers && readTopicHeader((name) => headers.get(name));
  } catch {
    // The library does not read headers of every name that NATS passes on; no gateway wrote these.
    return undefined;
  }
}
