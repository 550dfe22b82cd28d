import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, SvcMqttError } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { subjectsOfTemplate } from '../../../subject-template.js';
import {
  DiscardPolicy,
  type JetStreamManager,
  type JetStreamManagerOptions,
  type NatsConnection,
  NatsError,
  type StreamInfo,
} from '../connection/nats-library.js';
import type { IngestSetting } from '../forwarder.js';
import { apiCodeOf, denialOf, noStreamFound } from '../jetstream-codes.js';
import { makeStream } from './make-stream.js';
import { allowBatches, batchMark, mayBatch } from './stream-batches.js';
import { findStreamProblem, logWarnings, readUsableStream, type UsableStream } from './stream-config.js';
import { covers, overlap } from './subject-match.js';

/** The stream that is looked for, and created when there is none. */
export interface WantedStream {
  readonly stream: string;
  readonly template: string;
  /** Whether a stream that is created takes atomic batches; servers before 2.12 then do not serve it. */
  readonly ingest: IngestSetting;
  /** The JetStream domain that it is in; undefined: that of the server. */
  readonly domain: string | undefined;
}

/** A server that is starting, or a cluster that elects a leader, is waited for so long. */
const startingForMs = 20_000;
const pollMs = 500;

/** JetStream's codes: not enabled for the account, not enabled, account has no JetStream resources. */
const disabledCodes = new Set([10_039, 10_076, 10_035]);
const nameInUse = 10_058;
const subjectsInUse = 10_065;
const requestTimeoutMs = 5_000;

/**
 * Finds the stream that covers the subjects of the template, and creates one when none touches them. An existing
 * stream is never changed, but for one that a gateway made: see `allowBatches`.
 *
 * A stream that is created keeps its messages in files, without a limit of its own, and refuses new messages when a
 * limit that someone sets, or the server's own, is reached: with the other choice, `discard: old`, messages that
 * devices have been told are stored would vanish unread. It has one replica; for more, create it beforehand. With
 * `ingest`, it allows atomic batches: see `mayBatch`.
 *
 * @throws SvcMqttError NATS_STREAM when there is no JetStream, or what exists cannot be used; NATS_UNREACHABLE when
 *   the connection ends meanwhile.
 */
export async function requireStream(
  connection: NatsConnection,
  options: WantedStream,
  log: Log,
): Promise<UsableStream> {
  const endMs = performance.now() + startingForMs;
  let told = false;
  while (true) {
    try {
      return await findOrCreate(connection, options, log);
    } catch (error) {
      if (error instanceof SvcMqttError) throw error;
      if (connection.isClosed()) {
        throw new SvcMqttError(
          'NATS_UNREACHABLE',
          'The connection to NATS ended while the stream was looked up',
          { suggestion: 'Check the NATS server', mayPass: true, cause: error },
        );
      }
      const mayPass = mayMend(error, connection, options.domain);
      if (!mayPass || performance.now() > endMs) throw explain(error, options, mayPass);
      if (!told) log.warn({ event: 'jetstream_starting', reason: messageOf(error) }, 'waiting for JetStream');
      told = true;
      await delay(pollMs);
    }
  }
}

async function findOrCreate(
  connection: NatsConnection,
  wanted: WantedStream,
  log: Log,
): Promise<UsableStream> {
  const { needed } = subjectsOfTemplate(wanted.template);
  const manager = await manageStreams(connection, wanted.domain);
  const { covering, touching } = await listStreams(manager, needed);
  if (covering === undefined && touching.length > 0) throw partlyCovered(touching, wanted.stream, needed);
  if (covering === undefined) {
    const made = await createStream(connection, manager, wanted, log);
    if (made !== undefined) return made;
  }
  const info = covering ?? (await manager.streams.info(wanted.stream));
  if (!takes(info, needed)) throw nameTaken(wanted, info);
  const problem = findStreamProblem(info.config);
  if (problem !== undefined)
    throw unusable(
      problem,
      'Change the stream with the nats command, or set NATS_SUBJECT to subjects of another stream',
    );
  const ready = await allowBatches(connection, manager, info, wanted.ingest, log);
  const stream = readUsableStream(ready, false);
  logWarnings(stream, undefined, log);
  logFound(ready, log);
  return stream;
}

/** @param domain the JetStream domain that is asked; undefined: that of the server. */
export function manageStreams(
  connection: NatsConnection,
  domain: string | undefined,
): Promise<JetStreamManager> {
  return connection.jetstreamManager(apiOptions(domain));
}

/** How JetStream is asked, without a request that finds out whether it is there. */
export function apiOptions(domain: string | undefined): JetStreamManagerOptions {
  return { checkAPI: false, timeout: requestTimeoutMs, ...(domain === undefined ? {} : { domain }) };
}

/** Whether a stream takes every message of the subjects. */
export function takes({ config }: StreamInfo, needed: string): boolean {
  return (config.subjects ?? []).some((subject) => covers(subject, needed));
}

/** The streams that take any message of the subjects, and the one of them that takes all. */
export async function listStreams(
  manager: JetStreamManager,
  needed: string,
): Promise<{ covering: StreamInfo | undefined; touching: StreamInfo[] }> {
  const touching: StreamInfo[] = [];
  for await (const info of manager.streams.list(needed)) {
    if ((info.config.subjects ?? []).some((subject) => overlap(subject, needed))) touching.push(info);
  }
  return { covering: touching.find((info) => takes(info, needed)), touching };
}

/** @returns undefined when there is no stream of the name. */
export async function readStreamInfo(
  manager: JetStreamManager,
  name: string,
): Promise<StreamInfo | undefined> {
  try {
    return await manager.streams.info(name);
  } catch (error) {
    if (apiCodeOf(error) === noStreamFound) return undefined;
    throw error;
  }
}

/**
 * Creates the stream, to be called when the list has none on the subjects.
 *
 * @returns undefined when the name is taken: by a stream with other subjects, or by this one, which the list of a
 *   cluster lacks for seconds after a change of leader.
 */
export async function createStream(
  connection: NatsConnection,
  manager: JetStreamManager,
  { stream: name, template, ingest }: WantedStream,
  log: Log,
): Promise<UsableStream | undefined> {
  const version = connection.info?.version ?? '';
  const batches = mayBatch(version, ingest);
  const { offered } = subjectsOfTemplate(template);
  try {
    const created = await makeStream(
      connection,
      manager,
      {
        name,
        subjects: [offered],
        discard: DiscardPolicy.New,
        metadata: batches ? { ...batchMark } : {},
        ...(batches ? { allow_atomic: true } : {}),
      },
      undefined,
      log,
    );
    return readUsableStream(created, true);
  } catch (error) {
    if (apiCodeOf(error) === nameInUse) return undefined;
    throw error;
  }
}

export function logFound({ config }: StreamInfo, log: Log): void {
  log.info({ event: 'stream_found', stream: config.name, subjects: config.subjects }, 'using the stream');
}

function unusable(detail: string, suggestion: string): SvcMqttError {
  return new SvcMqttError('NATS_STREAM', detail, { suggestion });
}

/** `PART (raw.a, raw.b) takes only a part`. */
export function describePart(streams: readonly StreamInfo[]): string {
  const found = streams.map(({ config }) => `${config.name} (${config.subjects.join(', ')})`).join(' and ');
  return `${found} ${streams.length === 1 ? 'takes' : 'take'} only a part`;
}

function partlyCovered(streams: readonly StreamInfo[], name: string, needed: string): SvcMqttError {
  return unusable(
    `Uplink messages go to ${needed}, of which ${describePart(streams)}; a stream ${name} beside ${streams.length === 1 ? 'it' : 'them'} cannot be created`,
    `Extend one stream to cover ${needed}, or set NATS_SUBJECT to subjects that one stream covers`,
  );
}

function nameTaken({ stream, template }: WantedStream, { config }: StreamInfo): SvcMqttError {
  const { offered } = subjectsOfTemplate(template);
  const subjects = (config.subjects ?? []).join(', ');
  return unusable(
    `A stream ${stream} exists and does not take ${offered}${subjects === '' ? '' : `, but ${subjects}`}`,
    `Set NATS_STREAM to another name, or add ${offered} to the stream`,
  );
}

/** Whether it makes sense to ask again. */
function mayMend(error: unknown, connection: NatsConnection, domain: string | undefined): boolean {
  if (!(error instanceof NatsError)) return false;
  const code = apiCodeOf(error);
  // The list has just said that no stream is on the subjects: that of a cluster lacks streams that have no leader yet.
  if (code === subjectsInUse || code === noStreamFound) return true;
  if (code !== undefined) return !disabledCodes.has(code) && error.api_error?.code === 503;
  if (error.code === 'TIMEOUT') return true;
  // Nobody answers to JetStream's API: not yet, or never when this server has none. Of a domain it is another one's.
  return error.code === '503' && (domain !== undefined || connection.info?.jetstream === true);
}

function explain(
  error: unknown,
  { stream: name, template, domain }: WantedStream,
  mayPass: boolean,
): SvcMqttError {
  const { offered: subject } = subjectsOfTemplate(template);
  const code = apiCodeOf(error);
  const { code: kind } = error as { code?: string };
  const fail = (detail: string, suggestion: string) =>
    new SvcMqttError('NATS_STREAM', detail, { suggestion, mayPass, cause: error });
  if (code === undefined && kind === '503' && domain !== undefined) {
    return fail(
      `No JetStream answers in the domain ${domain}`,
      'Check NATS_JETSTREAM_DOMAIN, that the leaf node is connected, and that the user is in the account that has JetStream there',
    );
  }
  if ((code !== undefined && disabledCodes.has(code)) || (code === undefined && kind === '503')) {
    return fail(
      'JetStream is not enabled on the NATS server or for the account',
      'Start nats-server with -js (or a jetstream block), or set ENABLE_JETSTREAM=false to do without storage',
    );
  }
  if (code === subjectsInUse) {
    return fail(
      `A stream on ${subject} exists and is in no list of streams`,
      'Bring back the servers of its cluster: it has no leader',
    );
  }
  const denial = denialOf(error);
  if (denial !== undefined) {
    return fail(
      denial.text,
      denial.operation === 'publish'
        ? `Let the user publish to STREAM.LIST, STREAM.INFO.* and STREAM.CREATE.${name} of JetStream's API, as the subject shows`
        : 'Let the user subscribe to everything below NATS_INBOX_PREFIX, or set that to where it may',
    );
  }
  if (kind === 'TIMEOUT') {
    return fail(
      `JetStream does not answer: ${messageOf(error)}`,
      'Check the JetStream cluster, and that the user may use its API',
    );
  }
  return fail(
    `Stream ${name} (${subject}) cannot be created: ${messageOf(error)}`,
    'Create it with the nats command, with the limits that the account asks for',
  );
}
