import type { AckLevel } from '../../../ack-level.js';
import type { Log } from '../../../log.js';
import {
  type ClusterInfo,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from '../connection/nats-library.js';

/** The stream that takes the uplink. */
export type UsableStream = Readonly<ReturnType<typeof readUsableStream>>;

/** How a stream keeps what it confirms, as NATS describes it. */
export interface StreamKeeping {
  readonly stream: string;
  readonly inMemory: boolean;
  /** It confirms before it writes (`persist_mode: async`). */
  readonly writtenLate: boolean;
  readonly replicas: number;
  /** Names of the servers that store it and are there, empty while it has no leader; undefined without a cluster. */
  readonly servers: readonly string[] | undefined;
}

/** Subjects of a stream that cannot do what an acknowledgement promises, and why. */
export interface UnusableSubjects {
  readonly subjects: readonly string[];
  readonly problem: string;
  /** Of which promise; undefined: of every one. */
  readonly level?: AckLevel;
}

/** What the library does not know yet. */
export interface LaterConfig {
  readonly allow_atomic?: boolean;
  readonly allow_msg_ttl?: boolean;
  readonly persist_mode?: 'default' | 'async';
}

/** In the metadata of a stream that a gateway made (NATS 2.10 and later); every replica writes the same. */
export const madeMark = { 'svc-mqtt.made': 'true' } as const;

/** What is said of a stream that works and keeps less than one would think. */
const streamWarnings: readonly {
  readonly event: string;
  readonly text: string;
  applies(config: StreamConfig & LaterConfig): boolean;
}[] = [
  {
    event: 'stream_in_memory',
    text: 'the stream keeps messages in memory: they are acknowledged and lost when its NATS server ends',
    applies: ({ storage }) => storage === StorageType.Memory,
  },
  {
    event: 'stream_written_late',
    text: 'the stream confirms messages before it writes them: what was just acknowledged is lost when its NATS server is killed',
    applies: ({ persist_mode }) => persist_mode === 'async',
  },
  {
    event: 'stream_by_interest',
    text: 'the stream confirms what no consumer is interested in, and does not keep it: such messages are acknowledged and lost',
    applies: ({ retention }) => retention === RetentionPolicy.Interest,
  },
];

/** Why a stream cannot do what an acknowledgement promises, as a sentence; undefined when it can. */
export function findStreamProblem({ name, subjects, sealed, no_ack }: StreamConfig): string | undefined {
  const stream = `Stream ${name} (${subjects.join(', ')})`;
  if (sealed) return `${stream} is sealed and takes no messages`;
  if (no_ack) return `${stream} has no_ack set and confirms no message`;
  return undefined;
}

/** @param made the caller has just made it; else its metadata say so. */
export function readUsableStream(info: StreamInfo, made: boolean) {
  const { config } = info;
  return {
    name: config.name,
    /** The JetStream domain that it is in, where the server says so. */
    domain: (info as { domain?: string }).domain,
    /** Largest message with headers, bytes. */
    maxMessageBytes: config.max_msg_size > 0 ? config.max_msg_size : Number.POSITIVE_INFINITY,
    /** Why it takes no atomic batches; undefined when it does (`allow_atomic`, NATS 2.12). */
    batchProblem: findBatchProblem(config),
    /** It takes a time to live with a message (`allow_msg_ttl`, NATS 2.11). */
    takesTtl: (config as LaterConfig).allow_msg_ttl === true,
    /** A gateway has made it, so one makes it again when it is gone. */
    made: made || wasMade(config),
    keeping: readKeeping(info),
    /** Another one when it was made anew or its leader has changed, even to the same server and back. */
    incarnation: describeIncarnation(info),
    /** What is said of it in the log, as events: see `streamWarnings`. */
    warnings: streamWarnings.filter(({ applies }) => applies(config)).map(({ event }) => event),
  };
}

/** A gateway has made it. */
export function wasMade({ metadata }: StreamConfig): boolean {
  return Object.keys(madeMark).some((key) => metadata?.[key] !== undefined);
}

/** Logs what is to be said of a stream and was not said of it before. */
export function logWarnings(stream: UsableStream, before: UsableStream | undefined, log: Log): void {
  for (const { event, text } of streamWarnings) {
    const told = before?.name === stream.name && before.warnings.includes(event);
    if (!told && stream.warnings.includes(event)) log.warn({ event, stream: stream.name }, text);
  }
}

function findBatchProblem({ name, allow_atomic }: StreamConfig & LaterConfig): string | undefined {
  return allow_atomic === true ? undefined : `stream ${name} does not have allow_atomic`;
}

function readKeeping({ config, cluster }: StreamInfo): StreamKeeping {
  return {
    stream: config.name,
    inMemory: config.storage === StorageType.Memory,
    writtenLate: (config as LaterConfig).persist_mode === 'async',
    replicas: config.num_replicas,
    servers: cluster ? namesOf(cluster) : undefined,
  };
}

function namesOf({ leader, replicas = [] }: ClusterInfo): string[] {
  const followers = replicas.flatMap(({ name, offline }) => (offline ? [] : name));
  return leader ? [leader, ...followers] : [];
}

function describeIncarnation({ config, created, cluster }: StreamInfo): string {
  const { leader = '', leader_since = '' } = (cluster ?? {}) as { leader?: string; leader_since?: string };
  return `${config.name} ${created} ${leader} ${leader_since}`;
}
