import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import {
  DiscardPolicy,
  type JetStreamManager,
  type NatsConnection,
  NatsError,
  type StreamConfig,
  type StreamInfo,
} from '../connection/nats-library.js';
import type { NatsLink } from '../connection/nats-link.js';
import { isAtLeast } from '../connection/server-version.js';
import { denialOf } from '../jetstream-codes.js';
import type { StreamSource } from '../stored/stored-reader.js';
import { makeStream } from '../stream/make-stream.js';
import { manageStreams, readStreamInfo, takes } from '../stream/stream.js';
import type { LaterConfig, StreamKeeping } from '../stream/stream-config.js';
import { type FollowedMessage, findLast, followStream } from '../stream/stream-follower.js';
import { createReadIndex } from './read-index.js';

/** What all streams of svc-mqtt itself share. */
export interface StateContext {
  readonly link: NatsLink;
  readonly domain: string | undefined;
  readonly inboxPrefix: string;
  /** How the stream of the uplink keeps what it confirms: a stream that is made keeps it alike. */
  keeping(): StreamKeeping;
  readonly log: Log;
  /** Those that are open add themselves. */
  readonly streams: Set<{
    readonly name: string;
    readonly started: boolean;
    readonly problem: string | undefined;
  }>;
}

export interface StateStreamOptions extends StateContext {
  readonly name: string;
  readonly subject: string;
  /** What it is made with beside name, subjects, storage and replicas; an existing one has to have it. */
  readonly config: Partial<StreamConfig> & LaterConfig;
  /** What is done without it, for the log. */
  readonly without: string;
  /** It is not looked for before `start` is called. */
  readonly startsLater?: boolean;
  /** Asked whenever reading begins. Default: messages come whole. */
  readonly headersOnly?: () => boolean;
  /** It is read from now on; answers from which sequence. Called again whenever reading begins anew. */
  begin(stream: FoundStream): number;
  onMessage(message: FollowedMessage): void;
  onCaughtUp(): void;
}

/** A stream as it was found. */
export interface FoundStream extends Omit<StreamSource, 'requests'> {
  /** Another text when it was made anew. */
  readonly incarnation: string;
  /** It is another stream than before: that one was deleted, with all that it held. */
  readonly anew: boolean;
  readonly firstSequence: number;
  readonly lastSequence: number;
}

/** Messages have a time to live from nats-server 2.11 on. */
const needs = [2, 11] as const;
const firstPauseMs = 100;
const lastPauseMs = 5_000;
/** What needs somebody to change something is looked at again after so long. */
const problemPauseMs = 10_000;

/**
 * Opens a stream of svc-mqtt itself that every replica reads in order: finds it, or makes it, and reads it for as long as there is a connection. One that is gone is made again. What
 * cannot be used for want of rights, of room or of JetStream is said once, and tried again.
 */
export function openStateStream(options: StateStreamOptions) {
  const { link, name, log } = options;
  let denial: string | undefined;
  let created: string | undefined;
  /** The last sequence that is known to have been given. */
  let last = 0;
  let connected = new AbortController();
  let reading = new AbortController();
  const waiters = new Set<() => void>();
  /** Of the connection at hand. */
  let manager: JetStreamManager | undefined;
  const index = createReadIndex({
    lastSequence: async () => (await requireManager().streams.info(name)).state.last_seq,
    lastMessage: () => findLast(requireManager(), name, options.subject),
  });

  function requireManager(): JetStreamManager {
    if (manager === undefined) throw new Error('NATS is away');
    return manager;
  }

  function wake(): void {
    for (const waiter of waiters) waiter();
    waiters.clear();
  }

  function note(found: string | undefined): void {
    if (found === stream.problem) return;
    stream.problem = found;
    if (found === undefined) {
      log.info({ event: 'state_stream_usable', stream: name }, 'The stream can be used');
    } else {
      log.warn(
        { event: 'state_stream_unusable', stream: name, reason: found },
        `The stream cannot be used: ${options.without}`,
      );
      wake();
    }
  }

  async function follow(connection: NatsConnection, signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      let pauseMs = firstPauseMs;
      try {
        const managing = await manageStreams(connection, options.domain);
        if (signal.aborted) return;
        manager = managing;
        const info = await requireStateStream(connection, managing, options);
        if (signal.aborted) return;
        note(denial);
        await read(connection, managing, info, signal);
        if (!signal.aborted) stream.caughtUp = false;
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        const reason = describeProblem(error);
        failures += 1;
        if (reason !== undefined) note(reason);
        pauseMs = reason === undefined ? Math.min(firstPauseMs * 2 ** failures, lastPauseMs) : problemPauseMs;
        log.debug({ event: 'state_stream_waits', stream: name, reason: messageOf(error) }, 'tried again');
      }
      await delay(pauseMs, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  async function read(
    connection: NatsConnection,
    manager: JetStreamManager,
    info: StreamInfo,
    signal: AbortSignal,
  ): Promise<void> {
    reading = new AbortController();
    const anew = created !== undefined && created !== info.created;
    created = info.created;
    if (anew) log.warn({ event: 'state_stream_anew', stream: name }, 'The stream is another one than before');
    stream.caughtUp = false;
    // One that NATS has lost the latest of gives sequences once more.
    if (anew || info.state.last_seq < last) index.beginAnew();
    last = info.state.last_seq;
    const from = options.begin({
      connection,
      manager,
      domain: options.domain,
      stream: { name, direct: info.config.allow_direct === true },
      incarnation: `${name} ${info.created}`,
      anew,
      firstSequence: info.state.first_seq,
      lastSequence: info.state.last_seq,
    });
    await followStream(connection, manager, {
      stream: name,
      filter: options.subject,
      from,
      upTo: info.state.last_seq,
      headersOnly: options.headersOnly?.() ?? false,
      inboxPrefix: options.inboxPrefix,
      signal: AbortSignal.any([signal, reading.signal]),
      onMessage(message) {
        try {
          options.onMessage(message);
        } catch (error) {
          // A throw would end the library's reader and with it every further answer.
          const { sequence } = message;
          log.error({ event: 'state_message_failed', stream: name, sequence, err: error }, 'not understood');
        }
        last = Math.max(last, message.sequence);
        index.reach(message.sequence);
      },
      onCaughtUp() {
        stream.caughtUp = true;
        options.onCaughtUp();
        index.reach(info.state.last_seq);
        wake();
      },
    });
  }

  /** Looks for it from now on, and reads it. Idempotent. */
  function start(): void {
    if (stream.started) return;
    stream.started = true;
    link.listen({
      connected(connection) {
        connected.abort();
        connected = new AbortController();
        denial = undefined;
        void follow(connection, connected.signal);
      },
      disconnected() {
        manager = undefined;
        stream.caughtUp = false;
        connected.abort();
      },
    });
  }

  const stream = {
    name,
    start,
    started: false,
    /** Why it cannot be used; undefined while nothing is known to speak against it. */
    problem: undefined as string | undefined,
    /** All that it held when reading began has been read. */
    caughtUp: false,
    /** Resolves when it has caught up, cannot be used or was not started, at the latest after `timeoutMs`. */
    async ready(timeoutMs: number): Promise<void> {
      if (!stream.started || stream.caughtUp || stream.problem !== undefined) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        waiters.add(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    },
    /** Resolves when all that it has now was read, as `ready` does otherwise; undefined: it cannot be asked how far it is. */
    upToDate(timeoutMs: number): Promise<void> | undefined {
      const mayBeAsked = manager !== undefined && stream.problem === undefined && link.open;
      return mayBeAsked ? index.upToDate(timeoutMs) : undefined;
    },
    /** Begins to read it anew. */
    readAgain: () => reading.abort(),
    /** NATS does not let anything be written, on the connection at hand. */
    deny(reason: string): void {
      denial = reason;
      note(reason);
    },
    close(): void {
      options.streams.delete(stream);
      connected.abort();
    },
  };
  options.streams.add(stream);
  if (options.startsLater !== true) start();
  return stream;
}

/** Something that somebody has to change. */
class Unusable extends Error {}

async function requireStateStream(
  connection: NatsConnection,
  manager: JetStreamManager,
  { name, subject, config, keeping, log }: StateStreamOptions,
): Promise<StreamInfo> {
  const version = connection.info?.version ?? '';
  if (!isAtLeast(version, ...needs))
    throw new Unusable(`nats-server ${version} is older than ${needs.join('.')}`);
  const found = await readStreamInfo(manager, name);
  if (found !== undefined) {
    const lacks = findLack(found, subject, config);
    if (lacks !== undefined) throw new Unusable(lacks);
    return found;
  }
  const wanted = { name, subjects: [subject], discard: DiscardPolicy.New, ...config };
  return await makeStream(connection, manager, wanted, keeping(), log);
}

/** What an existing stream lacks. It is never changed. */
function findLack(
  info: StreamInfo,
  subject: string,
  config: Partial<StreamConfig> & LaterConfig,
): string | undefined {
  if (!takes(info, subject)) return `it exists and does not take ${subject}`;
  if (info.config.sealed) return 'it exists and is sealed';
  const actual = info.config as StreamConfig & LaterConfig;
  for (const key of ['max_msgs_per_subject', 'allow_msg_ttl', 'allow_direct', 'discard'] as const) {
    const wanted = config[key];
    if (wanted !== undefined && actual[key] !== wanted) return `it exists and does not have ${key} ${wanted}`;
  }
  return undefined;
}

/** Why the stream cannot be used before somebody changes something; undefined: it may pass. */
function describeProblem(error: unknown): string | undefined {
  if (error instanceof Unusable) return error.message;
  if (!(error instanceof NatsError)) return undefined;
  const denial = denialOf(error);
  if (denial !== undefined) return denial.text;
  const { api_error: refusal } = error;
  return refusal === undefined || refusal.code === 503 ? undefined : refusal.description;
}
