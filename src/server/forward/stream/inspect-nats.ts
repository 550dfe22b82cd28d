import { messageOf, SvcMqttError } from '../../../errors.js';
import { dialNats } from '../connection/nats-dial.js';
import { DiscardPolicy, StorageType, type StreamInfo } from '../connection/nats-library.js';
import { type NatsSettings, readNatsTarget, showAddress } from '../connection/nats-settings.js';
import { askReplica } from '../fleet/fleet-link.js';
import type { FleetSubject } from '../fleet/fleet-telling.js';
import { apiCodeOf, noMessageFound } from '../jetstream-codes.js';
import { judgeDurability } from './durability.js';
import type { ServerSync } from './server-sync.js';
import { manageStreams, readStreamInfo } from './stream.js';
import { readUsableStream } from './stream-config.js';
import { covers, overlap } from './subject-match.js';

/** A stream as far as it concerns what devices send. */
export type StreamInspection = ReturnType<typeof inspectStream>;

export type NatsInspector = Awaited<ReturnType<typeof openNatsInspector>>;

const storeTimeoutMs = 5_000;

/** A look at NATS, on a connection of its own. @throws SvcMqttError CONFIG_INVALID, NATS_UNREACHABLE or NATS_REFUSED. */
export async function openNatsInspector(settings: NatsSettings) {
  const target = readNatsTarget(settings);
  const { connection, address } = await dialNats(target, target.addresses, 'svc-mqtt doctor');
  const { natsJetstreamDomain: domain } = settings;
  const manage = () => manageStreams(connection, domain);
  return {
    /** Where it is, without credentials. */
    url: showAddress(address),
    version: connection.info?.version ?? 'unknown',
    jetstream: domain !== undefined || connection.info?.jetstream === true,
    maxPayloadBytes: connection.info?.max_payload ?? 1_048_576,
    /** Time of one PING, ms. */
    ping: () => connection.rtt(),
    /** The streams that take any message of a subject, which may hold wildcards. */
    async findStreams(subject: string): Promise<StreamInspection[]> {
      const found: StreamInspection[] = [];
      for await (const info of (await manage()).streams.list(subject)) {
        if ((info.config.subjects ?? []).some((each) => overlap(each, subject))) {
          found.push(inspectStream(info, subject));
        }
      }
      return found;
    },
    /** What an acknowledgement of a stream is worth, and why it takes no batches. @param ask see `ServerSync.read`. */
    async judge(name: string, sync: ServerSync, ask: boolean) {
      const info = await (await manage()).streams.info(name);
      const { keeping, batchProblem } = readUsableStream(info, false);
      return { ...judgeDurability(keeping, await sync.read(connection, keeping, ask)), batchProblem };
    },
    async streamExists(name: string): Promise<boolean> {
      return (await readStreamInfo(await manage(), name)) !== undefined;
    },
    /** Storage of the account, bytes; undefined where there is no limit. */
    async readStorage() {
      const { storage, limits } = await (await manage()).getAccountInfo();
      return { usedBytes: storage, maxBytes: limitOf(limits.max_storage) };
    },
    /** The last message of a stream on a subject; undefined when there is none. */
    async readLast(stream: string, subject: string) {
      try {
        const message = await (await manage()).streams.getMessage(stream, { last_by_subj: subject });
        return { sequence: message.seq, payload: Buffer.from(message.data), time: message.time };
      } catch (error) {
        if (apiCodeOf(error) === noMessageFound) return undefined;
        throw error;
      }
    },
    /** Publishes a message, and waits until a stream has it. @throws SvcMqttError NATS_STREAM. */
    async store(subject: string, payload: Buffer) {
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
          { suggestion: 'See that the stream is not full and that this user may publish to it' },
        );
      }
    },
    /** Removes a message from a stream; false: it may not, or cannot. */
    async removeMessage(stream: string, sequence: number): Promise<boolean> {
      return await (await manage()).streams.deleteMessage(stream, sequence, false).catch(() => false);
    },
    /** Gathers what core NATS passes on. */
    async watch(subject: string): Promise<{ readonly received: readonly Buffer[] }> {
      const received: Buffer[] = [];
      connection.subscribe(subject, {
        callback: (error, message) => {
          if (error === null) received.push(Buffer.from(message.data));
        },
      });
      await connection.flush();
      return { received };
    },
    /** Tells it to who is connected. */
    tell: (subject: FleetSubject, text: string) => connection.publish(subject, text),
    /** Asks a replica; rejects never. */
    ask: (replica: string, question: string, request: unknown) =>
      askReplica(connection, replica, question, request),
    close: () => connection.close(),
  };
}

function inspectStream(info: StreamInfo, subject: string) {
  const { config, state, cluster } = info;
  const { ts } = info as { ts?: string };
  return {
    name: config.name,
    subjects: config.subjects,
    /** It takes every message of the subject that was asked for. */
    covering: config.subjects.some((each) => covers(each, subject)),
    /** It takes no messages, or confirms none. */
    sealed: config.sealed,
    noAck: config.no_ack === true,
    inMemory: config.storage === StorageType.Memory,
    /** Each of its servers answers for what it holds (`allow_direct`). */
    direct: config.allow_direct === true,
    retention: `${config.retention}` as const,
    /** At a limit the oldest messages go; otherwise new ones are refused. */
    discardsOld: config.discard === DiscardPolicy.Old,
    replicas: config.num_replicas,
    messages: state.messages,
    bytes: state.bytes,
    // Limits; undefined where there is none.
    maxMessages: limitOf(config.max_msgs),
    maxBytes: limitOf(config.max_bytes),
    maxAgeMs: config.max_age > 0 ? config.max_age / 1e6 : undefined,
    maxMessageBytes: limitOf(config.max_msg_size),
    /** Replicas of a clustered stream that lag or are away. */
    lagging: (cluster?.replicas ?? [])
      .filter((peer) => peer.offline || !peer.current)
      .map(({ name }) => name),
    hasLeader: cluster === undefined || cluster === null || cluster.leader !== undefined,
    /** The clock of the server that answered; undefined before nats-server 2.10. */
    now: ts === undefined ? undefined : new Date(ts),
  };
}

function limitOf(value: number): number | undefined {
  return value > 0 ? value : undefined;
}
