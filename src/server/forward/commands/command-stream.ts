import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import {
  DiscardPolicy,
  type JetStreamManager,
  type NatsConnection,
  nanos,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from '../connection/nats-library.js';
import type { NatsRequests } from '../connection/nats-requests.js';
import { isAtLeast } from '../connection/server-version.js';
import { JetStreamError } from '../state/jetstream-api.js';
import type { StateContext } from '../state/state-stream.js';
import { readStored } from '../stored/stored-reader.js';
import { makeStream } from '../stream/make-stream.js';
import { describePart, listStreams, manageStreams } from '../stream/stream.js';
import { type LaterConfig, type StreamKeeping, wasMade } from '../stream/stream-config.js';
import { followStream } from '../stream/stream-follower.js';

/** What is sent to devices. */
export const commandSubjects = 'cmd.*.>';
/** The stream that is made when none takes it, in files or in memory and on as many servers as that of the uplink. */
export const madeCommandStream = {
  name: 'CMD',
  subject: 'cmd.>',
  maxAgeDays: 7,
  maxBytes: 1_073_741_824,
} as const;

const dayMs = 86_400_000;
const foundWithinMs = 10_000;
const retryMs = 500;

/** The stream that keeps the commands. */
export interface CommandStream {
  readonly name: string;
  /** Another one when it was made anew; sequences then begin anew. */
  readonly incarnation: string;
  /** Every server that has it answers for it (`allow_direct`). */
  readonly direct: boolean;
  readonly firstSequence: number;
  readonly lastSequence: number;
  /** A gateway has made it. */
  readonly made: boolean;
  /** What is to be said of it, each a sentence. */
  readonly warnings: readonly string[];
}

/** Why commands cannot be delivered from a stream, in words without a full stop; undefined when they can. */
export function describeRetentionProblem(
  name: string,
  retention: string,
  sealed: boolean,
): string | undefined {
  if (sealed) return `stream ${name} is sealed and takes no commands`;
  if (retention !== RetentionPolicy.Limits)
    return `stream ${name} has retention ${retention}: only with limits does a command stay until its device comes`;
  return undefined;
}

/** What a stream lacks that works. */
function commandWarnings(config: StreamConfig & LaterConfig): string[] {
  const { name, storage, allow_direct, discard } = config;
  const limited = config.max_bytes > 0 || config.max_msgs > 0;
  return [
    ...(storage === StorageType.Memory
      ? [`Stream ${name} keeps commands in memory: they are lost when its NATS server ends`]
      : []),
    ...(allow_direct === true
      ? []
      : [
          `Stream ${name} does not have allow_direct: its leader alone reads commands for devices that come back`,
        ]),
    ...(limited && discard === DiscardPolicy.New
      ? [`Stream ${name} has discard: new, so that it takes no commands when it is full`]
      : []),
  ];
}

/**
 * Waits for the stream of commands, which is made where there is none, and for being let read it.
 *
 * @returns why there is none to be had, in words without a full stop.
 */
export async function awaitCommandStream(
  context: StateContext,
  requests: NatsRequests,
): Promise<CommandStream | { readonly problem: string }> {
  const { link, domain, log } = context;
  const endMs = performance.now() + foundWithinMs;
  while (true) {
    let problem = 'NATS is away';
    const { connection } = link;
    if (connection !== undefined) {
      try {
        const manager = await manageStreams(connection, domain);
        const options = { mayMake: true, keeping: context.keeping() };
        const found = await findCommandStream(connection, manager, log, options);
        if (!('problem' in found)) await probe(connection, manager, found, context, requests);
        return found;
      } catch (error) {
        problem = messageOf(error);
        const isDenied = (error as { code?: string }).code === 'PERMISSIONS_VIOLATION';
        if (isDenied || (error instanceof JetStreamError && error.isDenied)) return { problem };
      }
    }
    if (performance.now() > endMs) return { problem };
    await delay(retryMs);
  }
}

/** Whether the user may read. @throws NatsError. */
async function probe(
  connection: NatsConnection,
  manager: JetStreamManager,
  stream: CommandStream,
  { inboxPrefix, domain }: StateContext,
  requests: NatsRequests,
): Promise<void> {
  const { name, lastSequence } = stream;
  await readStored({ requests, domain, stream }, Math.max(1, lastSequence));
  const ended = new AbortController();
  await followStream(connection, manager, {
    stream: name,
    filter: commandSubjects,
    from: lastSequence + 1,
    upTo: 0,
    headersOnly: true,
    inboxPrefix,
    signal: ended.signal,
    onMessage() {},
    onCaughtUp: () => ended.abort(),
  });
}

/**
 * Finds the stream that takes all commands, and makes one when none takes any. An existing one is never changed.
 *
 * @returns why there is none that can be used, in words without a full stop.
 * @throws NatsError when NATS does not say.
 */
export async function findCommandStream(
  connection: NatsConnection,
  manager: JetStreamManager,
  log: Log,
  options: { readonly mayMake: boolean; readonly keeping: StreamKeeping | undefined },
): Promise<CommandStream | { readonly problem: string }> {
  const { covering, touching } = await listStreams(manager, commandSubjects);
  if (covering !== undefined) return readCommandStream(covering);
  if (touching.length > 0) return { problem: `of ${commandSubjects}, ${describePart(touching)}` };
  if (!options.mayMake) return { problem: `no stream takes ${commandSubjects}` };
  const { name, subject, maxAgeDays, maxBytes } = madeCommandStream;
  const version = connection.info?.version ?? '';
  const config = {
    name,
    subjects: [subject],
    discard: DiscardPolicy.Old,
    max_age: nanos(maxAgeDays * dayMs),
    max_bytes: maxBytes,
    allow_direct: true,
    ...(isAtLeast(version, 2, 11) ? { allow_msg_ttl: true } : {}),
  };
  try {
    const created = await makeStream(connection, manager, config, options.keeping, log);
    return readCommandStream(created, true);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return { problem: `the stream ${name} cannot be created: ${messageOf(error)}` };
  }
}

/** JetStream has answered, and another attempt would be answered the same. */
function isRefusal(error: unknown): boolean {
  const { api_error: answer, code } = error as {
    api_error?: { code?: number };
    code?: string;
  };
  return code === 'PERMISSIONS_VIOLATION' || (answer !== undefined && answer.code !== 503);
}

/** @returns the stream, or why it cannot be used. */
export function readCommandStream(
  info: StreamInfo,
  made = wasMade(info.config),
): CommandStream | { readonly problem: string } {
  const { config, created, state } = info;
  const problem = describeRetentionProblem(config.name, config.retention, config.sealed);
  if (problem !== undefined) return { problem };
  return {
    name: config.name,
    incarnation: `${config.name} ${created}`,
    direct: config.allow_direct === true,
    firstSequence: state.first_seq,
    lastSequence: state.last_seq,
    made,
    warnings: commandWarnings(config),
  };
}
