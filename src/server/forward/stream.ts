import { setTimeout as delay } from 'node:timers/promises';
import {
  DiscardPolicy,
  type NatsConnection,
  NatsError,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from 'nats';
import { messageOf, SvcMqttError } from '../../errors.js';
import type { Log } from '../../log.js';
import { subjectsOfTemplate } from '../../subject-template.js';
import { isAtLeast } from './nats-server-program.js';
import { covers, overlap } from './subject-match.js';

/** The stream that takes the uplink. */
export interface UsableStream {
  readonly name: string;
  /** Largest message with headers, bytes; Infinity when the stream sets no bound. */
  readonly maxMessageBytes: number;
  /** Why it takes no fast-ingest batches; undefined when it does (`allow_batched`, NATS 2.14). */
  readonly batchProblem: string | undefined;
}

/** What the library does not know yet. */
interface LaterConfig {
  readonly allow_batched?: boolean;
  readonly persist_mode?: 'default' | 'async';
}

/** The stream that is looked for, and created when there is none. */
export interface WantedStream {
  readonly stream: string;
  readonly template: string;
  /** A stream that is created takes fast-ingest batches where the server can; it cannot go back to one that cannot. */
  readonly batched: boolean;
}

/** A server that is starting, or a cluster that elects a leader, is waited for so long. */
const startingForMs = 20_000;
const pollMs = 500;

/** JetStream's codes: not enabled for the account, not enabled, account has no JetStream resources. */
const disabledCodes = new Set([10_039, 10_076, 10_035]);
const nameInUse = 10_058;

/**
 * Finds the stream that covers the subjects of the template, and creates one when none touches them. An existing
 * stream is never changed.
 *
 * A stream that is created keeps its messages in files, without a limit of its own, and refuses new messages when a
 * limit that someone sets, or the server's own, is reached: with the other choice, `discard: old`, messages that
 * devices have been told are stored would vanish unread. It has one replica; for more, create it beforehand. With
 * `batched`, and a server of 2.14 or later, it allows fast-ingest batches: servers before 2.14 then do not serve it.
 *
 * @throws SvcMqttError NATS_STREAM when there is no JetStream, or what exists cannot be used; NATS_UNREACHABLE when
 *   the connection ends meanwhile.
 */
export async function requireStream(
  connection: NatsConnection,
  options: WantedStream,
  log: Log,
): Promise<UsableStream> {
  const { needed, offered } = subjectsOfTemplate(options.template);
  const endMs = performance.now() + startingForMs;
  let told = false;
  while (true) {
    try {
      const usable = await findOrCreate(connection, options, needed, offered, log);
      return {
        name: usable.config.name,
        maxMessageBytes:
          usable.config.max_msg_size > 0 ? usable.config.max_msg_size : Number.POSITIVE_INFINITY,
        batchProblem: findBatchProblem(usable),
      };
    } catch (error) {
      if (error instanceof SvcMqttError) throw error;
      if (connection.isClosed()) {
        throw new SvcMqttError(
          'NATS_UNREACHABLE',
          'The connection to NATS ended while the stream was looked up',
          {
            suggestion: 'Check the NATS server',
            cause: error,
          },
        );
      }
      if (!mayMend(error, connection) || performance.now() > endMs)
        throw explain(error, options.stream, offered);
      if (!told) log.warn({ event: 'jetstream_starting', reason: messageOf(error) }, 'waiting for JetStream');
      told = true;
      await delay(pollMs);
    }
  }
}

async function findOrCreate(
  connection: NatsConnection,
  { stream: name, batched }: WantedStream,
  needed: string,
  offered: string,
  log: Log,
): Promise<StreamInfo> {
  const manager = await connection.jetstreamManager({ checkAPI: false, timeout: 5_000 });
  const touching: StreamInfo[] = [];
  for await (const info of manager.streams.list(needed)) {
    if ((info.config.subjects ?? []).some((subject) => overlap(subject, needed))) touching.push(info);
  }
  const covering = touching.find((info) => info.config.subjects.some((subject) => covers(subject, needed)));
  if (covering !== undefined) {
    requireUsable(covering, log);
    log.info(
      { event: 'stream_found', stream: covering.config.name, subjects: covering.config.subjects },
      'using the stream',
    );
    return covering;
  }
  if (touching.length > 0) throw partlyCovered(touching, name, needed);
  const config: Partial<StreamConfig> & LaterConfig = {
    name,
    subjects: [offered],
    storage: StorageType.File,
    retention: RetentionPolicy.Limits,
    discard: DiscardPolicy.New,
    ...(batched && isAtLeast(connection.info?.version ?? '', 2, 14) ? { allow_batched: true } : {}),
  };
  const created = await manager.streams.add(config);
  log.info({ event: 'stream_created', stream: name, subjects: [offered] }, 'created the stream');
  return created;
}

/** A batch ends at the first message that is refused, so one that is for its subject alone would hold up all devices. */
function findBatchProblem({ config }: StreamInfo): string | undefined {
  if ((config as LaterConfig).allow_batched !== true)
    return `stream ${config.name} does not have allow_batched`;
  if (config.discard_new_per_subject) return `stream ${config.name} has discard_new_per_subject`;
  return undefined;
}

/** Some streams exist on the subject and cannot do what an acknowledgement promises. */
function requireUsable({ config }: StreamInfo, log: Log): void {
  if (config.sealed) {
    throw unusable(`Stream ${config.name} (${config.subjects.join(', ')}) is sealed and takes no messages`);
  }
  if (config.no_ack) {
    throw unusable(
      `Stream ${config.name} (${config.subjects.join(', ')}) has no_ack set and confirms no message`,
    );
  }
  if (config.storage === StorageType.Memory) {
    log.warn(
      { event: 'stream_in_memory', stream: config.name },
      'the stream keeps messages in memory: they are acknowledged and lost when its NATS server ends',
    );
  }
  if ((config as LaterConfig).persist_mode === 'async') {
    log.warn(
      { event: 'stream_written_late', stream: config.name },
      'the stream confirms messages before it writes them: what was just acknowledged is lost when its NATS server is killed',
    );
  }
}

function unusable(detail: string): SvcMqttError {
  return new SvcMqttError('NATS_STREAM', detail, {
    suggestion: 'Change the stream with the nats command, or set NATS_SUBJECT to subjects of another stream',
  });
}

function partlyCovered(streams: readonly StreamInfo[], name: string, needed: string): SvcMqttError {
  const found = streams.map(({ config }) => `${config.name} (${config.subjects.join(', ')})`).join(' and ');
  return new SvcMqttError(
    'NATS_STREAM',
    `Uplink messages go to ${needed}, of which ${found} ${streams.length === 1 ? 'takes' : 'take'} only a part; a stream ${name} beside ${streams.length === 1 ? 'it' : 'them'} cannot be created`,
    {
      suggestion: `Extend one stream to cover ${needed}, or set NATS_SUBJECT to subjects that one stream covers`,
    },
  );
}

function apiCode(error: unknown): number | undefined {
  return error instanceof NatsError ? error.api_error?.err_code : undefined;
}

/** Whether it makes sense to ask again. */
function mayMend(error: unknown, connection: NatsConnection): boolean {
  if (!(error instanceof NatsError)) return false;
  const code = apiCode(error);
  if (code !== undefined) return !disabledCodes.has(code) && error.api_error?.code === 503;
  if (error.code === 'TIMEOUT') return true;
  // Nobody answers to JetStream's API: not yet, or never when this server has none.
  return error.code === '503' && connection.info?.jetstream === true;
}

function explain(error: unknown, name: string, subject: string): SvcMqttError {
  const code = apiCode(error);
  const { code: kind } = error as { code?: string };
  if ((code !== undefined && disabledCodes.has(code)) || (code === undefined && kind === '503')) {
    return new SvcMqttError('NATS_STREAM', 'JetStream is not enabled on the NATS server or for the account', {
      suggestion:
        'Start nats-server with -js (or a jetstream block), or set ENABLE_JETSTREAM=false to do without storage',
      cause: error,
    });
  }
  if (code === nameInUse) {
    return new SvcMqttError('NATS_STREAM', `A stream ${name} exists and does not take ${subject}`, {
      suggestion: `Set NATS_STREAM to another name, or add ${subject} to the stream`,
      cause: error,
    });
  }
  if (kind === 'TIMEOUT' || kind === 'PERMISSIONS_VIOLATION') {
    return new SvcMqttError('NATS_STREAM', `JetStream does not answer: ${messageOf(error)}`, {
      suggestion:
        'Check the JetStream cluster, and that the user may use $JS.API.STREAM.LIST and $JS.API.STREAM.CREATE',
      cause: error,
    });
  }
  return new SvcMqttError(
    'NATS_STREAM',
    `Stream ${name} (${subject}) cannot be created: ${messageOf(error)}`,
    {
      suggestion: 'Create it with the nats command, with the limits that the account asks for',
      cause: error,
    },
  );
}
