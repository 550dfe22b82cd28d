import { findHeader, headerTextOf } from '../connection/nats-headers.js';
import type { JetStreamManager, NatsError } from '../connection/nats-library.js';
import type { NatsRequests } from '../connection/nats-requests.js';
import { apiPrefix } from '../state/jetstream-api.js';
import { type StoredCommand, toStoredCommand } from './stored-command.js';

/** Reads commands by their sequences, some at a time, in whatever order NATS answers. */
export interface CommandReader {
  /**
   * @param isWanted asked before NATS is, since a device may leave while its command waits for its turn.
   * @returns undefined when the stream does not have it any more, or it is not wanted. It waits while NATS is away.
   */
  read(sequence: number, isWanted: () => boolean): Promise<StoredCommand | undefined>;
  connected(source: CommandSource): void;
  disconnected(): void;
}

interface Job {
  readonly sequence: number;
  readonly isWanted: () => boolean;
  resolve(command: StoredCommand | undefined): void;
}

/** Where they are read. */
export interface CommandSource {
  readonly requests: NatsRequests;
  readonly manager: JetStreamManager;
  readonly domain: string | undefined;
  readonly stream: { readonly name: string; readonly direct: boolean };
}

/** As many requests are under way: more do not come back sooner. */
const maxUnderWay = 64;
const retryMs = 500;
const noMessageFound = 10_037;

export function openCommandReader(): CommandReader {
  const queue: Job[] = [];
  let head = 0;
  let underWay = 0;
  let source: CommandSource | undefined;

  function pump(): void {
    while (source !== undefined && underWay < maxUnderWay && head < queue.length) {
      const job = queue[head] as Job;
      head += 1;
      if (head === queue.length || head === 1_024) {
        queue.splice(0, head);
        head = 0;
      }
      if (job.isWanted()) void run(job, source);
      else job.resolve(undefined);
    }
  }

  async function run(job: Job, from: CommandSource): Promise<void> {
    underWay += 1;
    try {
      job.resolve(await readStored(from, job.sequence));
    } catch {
      // NATS is away, or the stream has no leader: it is asked again, in the order of before as far as that goes.
      queue.splice(head, 0, job);
      setTimeout(pump, retryMs).unref();
    } finally {
      underWay -= 1;
    }
    pump();
  }

  return {
    read: (sequence, isWanted) =>
      new Promise((resolve) => {
        queue.push({ sequence, isWanted, resolve });
        pump();
      }),
    connected(from) {
      source = from;
      pump();
    },
    disconnected() {
      source = undefined;
    },
  };
}

/** @throws NatsError when NATS does not say. */
export async function readStored(
  source: CommandSource,
  sequence: number,
): Promise<StoredCommand | undefined> {
  const { name, direct } = source.stream;
  const found = direct ? await readDirect(source, sequence) : undefined;
  if (found !== undefined) return found;
  // Any server of the stream answers for it, one that lags too. Only its leader knows what is gone.
  try {
    const message = await source.manager.streams.getMessage(name, { seq: sequence });
    const { subject, header: headers, data: payload, time } = message;
    return toStoredCommand({ sequence, subject, storedAtMs: time.getTime(), headers, payload });
  } catch (error) {
    const { code, api_error: answer } = error as NatsError;
    const isGone = code === '404' || answer?.err_code === noMessageFound;
    if (isGone || (direct && code === 'PERMISSIONS_VIOLATION')) return undefined;
    throw error;
  }
}

async function readDirect(
  { requests, domain, stream }: CommandSource,
  sequence: number,
): Promise<StoredCommand | undefined> {
  const answer = await requests.ask(`${apiPrefix(domain)}.DIRECT.GET.${stream.name}`, `{"seq":${sequence}}`);
  const block = headerTextOf(answer);
  const subject = findHeader(block, 'Nats-Subject');
  // A status, and no message.
  if (subject === '') return undefined;
  return toStoredCommand({
    sequence,
    subject,
    storedAtMs: Date.parse(findHeader(block, 'Nats-Time-Stamp')),
    headers: ownHeaders.test(block) ? answer.headers : undefined,
    payload: answer.data,
  });
}

/** There is a header that is not one of NATS. */
const ownHeaders = /\r\n(?!Nats-|\r\n|$)/;
