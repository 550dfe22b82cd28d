import { messageOf, SvcMqttError } from '../../../errors.js';
import { dialNats } from '../connection/nats-dial.js';
import { DiscardPolicy, RetentionPolicy, StorageType, type StreamInfo } from '../connection/nats-library.js';
import { type NatsSettings, readNatsTarget, showAddress } from '../connection/nats-settings.js';
import { type Answer, askReplica } from '../fleet/fleet-link.js';
import type { FleetSubject } from '../fleet/fleet-telling.js';
import { apiCodeOf, noMessageFound } from '../jetstream-codes.js';
import { type Durability, judgeDurability } from './durability.js';
import type { ServerSync } from './server-sync.js';
import { manageStreams, readStreamInfo } from './stream.js';
import { readUsableStream } from './stream-config.js';
import { covers, overlap } from './subject-match.js';

/** A stream as far as it concerns what devices send. */
export interface StreamInspection {
  readonly name: string;
  readonly subjects: readonly string[];
  /** It takes every message of the subject that was asked for. */
  readonly covering: boolean;
  /** It takes no messages, or confirms none. */
  readonly sealed: boolean;
  readonly noAck: boolean;
  readonly inMemory: boolean;
  /** Each of its servers answers for what it holds (`allow_direct`). */
  readonly direct: boolean;
  readonly retention: 'limits' | 'interest' | 'workqueue';
  /** At a limit the oldest messages go; otherwise new ones are refused. */
  readonly discardsOld: boolean;
  readonly replicas: number;
  readonly messages: number;
  readonly bytes: number;
  /** Limits; undefined where there is none. */
  readonly maxMessages: number | undefined;
  readonly maxBytes: number | undefined;
  readonly maxAgeMs: number | undefined;
  readonly maxMessageBytes: number | undefined;
  /** Replicas of a clustered stream that lag or are away. */
  readonly lagging: readonly string[];
  readonly hasLeader: boolean;
  /** The clock of the server that answered; undefined before nats-server 2.10. */
  readonly now: Date | undefined;
}

/** Storage of the account, bytes; undefined where there is no limit. */
export interface StorageInspection {
  readonly usedBytes: number;
  readonly maxBytes: number | undefined;
}

/** A message read back. */
export interface StoredMessage {
  readonly sequence: number;
  readonly payload: Buffer;
  readonly time: Date;
}

/** A look at NATS, on a connection of its own. */
export interface NatsInspector {
  /** Where it is, without credentials. */
  readonly url: string;
  readonly version: string;
  readonly jetstream: boolean;
  readonly maxPayloadBytes: number;
  /** Time of one PING, ms. */
  ping(): Promise<number>;
  /** The streams that take any message of a subject, which may hold wildcards. */
  findStreams(subject: string): Promise<StreamInspection[]>;
  /** What an acknowledgement of a stream is worth, and why it takes no batches. @param ask see `ServerSync.read`. */
  judge(
    name: string,
    sync: ServerSync,
    ask: boolean,
  ): Promise<Durability & { readonly batchProblem: string | undefined }>;
  streamExists(name: string): Promise<boolean>;
  readStorage(): Promise<StorageInspection>;
  /** The last message of a stream on a subject; undefined when there is none. */
  readLast(stream: string, subject: string): Promise<StoredMessage | undefined>;
  /** Publishes a message, and waits until a stream has it. @throws SvcMqttError NATS_STREAM. */
  store(subject: string, payload: Buffer): Promise<{ readonly stream: string; readonly sequence: number }>;
  /** Removes a message from a stream; false: it may not, or cannot. */
  removeMessage(stream: string, sequence: number): Promise<boolean>;
  /** Gathers what core NATS passes on. */
  watch(subject: string): Promise<{ readonly received: readonly Buffer[] }>;
  /** Tells it to who is connected. */
  tell(subject: FleetSubject, text: string): void;
  /** Asks a replica; rejects never. */
  ask(replica: string, question: string, request: unknown): Promise<Answer>;
  close(): Promise<void>;
}

const storeTimeoutMs = 5_000;

/** @throws SvcMqttError CONFIG_INVALID, NATS_UNREACHABLE or NATS_REFUSED. */
export async function openNatsInspector(settings: NatsSettings): Promise<NatsInspector> {
  const target = readNatsTarget(settings);
  const { connection, address } = await dialNats(target, target.addresses, 'svc-mqtt doctor');
  const { natsJetstreamDomain: domain } = settings;
  const manage = () => manageStreams(connection, domain);
  return {
    url: showAddress(address),
    version: connection.info?.version ?? 'unknown',
    jetstream: domain !== undefined || connection.info?.jetstream === true,
    maxPayloadBytes: connection.info?.max_payload ?? 1_048_576,
    async ping() {
      return await connection.rtt();
    },
    async findStreams(subject) {
      const found: StreamInspection[] = [];
      for await (const info of (await manage()).streams.list(subject)) {
        if ((info.config.subjects ?? []).some((each) => overlap(each, subject))) {
          found.push(inspectStream(info, subject));
        }
      }
      return found;
    },
    async judge(name, sync, ask) {
      const info = await (await manage()).streams.info(name);
      const { keeping, batchProblem } = readUsableStream(info, false);
      return { ...judgeDurability(keeping, await sync.read(connection, keeping, ask)), batchProblem };
    },
    async streamExists(name) {
      return (await readStreamInfo(await manage(), name)) !== undefined;
    },
    async readStorage() {
      const { storage, limits } = await (await manage()).getAccountInfo();
      return { usedBytes: storage, maxBytes: limitOf(limits.max_storage) };
    },
    async readLast(stream, subject) {
      try {
        const message = await (await manage()).streams.getMessage(stream, { last_by_subj: subject });
        return { sequence: message.seq, payload: Buffer.from(message.data), time: message.time };
      } catch (error) {
        if (apiCodeOf(error) === noMessageFound) return undefined;
        throw error;
      }
    },
    async store(subject, payload) {
      try {
        const answer = await connection.request(subject, payload, { timeout: storeTimeoutMs });
        const { stream, seq, error } = answer.json<{
          stream?: string;
          seq?: number;
          error?: { description?: string };
        }>();
        if (stream !== undefined && seq !== undefined) return { stream, sequence: seq };
        throw new Error(error?.description ?? 'an answer that is not of a stream');
      } catch (error) {
        throw new SvcMqttError(
          'NATS_STREAM',
          `No stream stored a message to ${subject}: ${messageOf(error)}`,
          {
            suggestion: 'See that the stream is not full and that this user may publish to it',
          },
        );
      }
    },
    async removeMessage(stream, sequence) {
      return await (await manage()).streams.deleteMessage(stream, sequence, false).catch(() => false);
    },
    async watch(subject) {
      const received: Buffer[] = [];
      connection.subscribe(subject, {
        callback: (error, message) => {
          if (error === null) received.push(Buffer.from(message.data));
        },
      });
      await connection.flush();
      return { received };
    },
    tell: (subject, text) => connection.publish(subject, text),
    ask: (replica, question, request) => askReplica(connection, replica, question, request),
    close: () => connection.close(),
  };
}

function inspectStream(info: StreamInfo, subject: string): StreamInspection {
  const { config, state, cluster } = info;
  const { ts } = info as { ts?: string };
  return {
    name: config.name,
    subjects: config.subjects,
    covering: config.subjects.some((each) => covers(each, subject)),
    sealed: config.sealed,
    noAck: config.no_ack === true,
    inMemory: config.storage === StorageType.Memory,
    direct: config.allow_direct === true,
    retention:
      config.retention === RetentionPolicy.Limits
        ? 'limits'
        : config.retention === RetentionPolicy.Interest
          ? 'interest'
          : 'workqueue',
    discardsOld: config.discard === DiscardPolicy.Old,
    replicas: config.num_replicas,
    messages: state.messages,
    bytes: state.bytes,
    maxMessages: limitOf(config.max_msgs),
    maxBytes: limitOf(config.max_bytes),
    maxAgeMs: config.max_age > 0 ? config.max_age / 1e6 : undefined,
    maxMessageBytes: limitOf(config.max_msg_size),
    lagging: (cluster?.replicas ?? [])
      .filter((peer) => peer.offline || !peer.current)
      .map(({ name }) => name),
    hasLeader: cluster === undefined || cluster === null || cluster.leader !== undefined,
    now: ts === undefined ? undefined : new Date(ts),
  };
}

function limitOf(value: number): number | undefined {
  return value > 0 ? value : undefined;
}
