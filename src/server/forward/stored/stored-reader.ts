import { findHeader, headerTextOf } from '../connection/nats-headers.js';
import type { JetStreamManager, NatsConnection, NatsError } from '../connection/nats-library.js';
import type { NatsRequests } from '../connection/nats-requests.js';
import { apiPrefix } from '../state/jetstream-api.js';
import type { RawMessage } from './stored-messages.js';

/** Reads messages by their sequences, some at a time, in whatever order NATS answers. */
export interface StoredReader<M> {
  /**
   * @param isWanted asked before NATS is, since a device may leave while its message waits for its turn.
   * @returns undefined when the stream does not have it any more, or it is not wanted. It waits while NATS is away.
   */
  read(sequence: number, isWanted: () => boolean): Promise<M | undefined>;
  connected(source: StreamSource): void;
  disconnected(): void;
}

interface Job<M> {
  readonly sequence: number;
  readonly isWanted: () => boolean;
  resolve(message: M | undefined): void;
}

/** Where they are read. */
export interface StreamSource {
  readonly requests: NatsRequests;
  readonly connection: NatsConnection;
  readonly manager: JetStreamManager;
  readonly domain: string | undefined;
  readonly stream: { readonly name: string; readonly direct: boolean };
}

type Readable = Omit<StreamSource, 'connection'>;

/** As many requests are under way: more do not come back sooner. */
const maxUnderWay = 64;
const retryMs = 500;
const noMessageFound = 10_037;

/** @param toMessage answers undefined when it cannot be sent to clients. */
export function openStoredReader<M>(toMessage: (found: RawMessage) => M | undefined): StoredReader<M> {
  const queue: Job<M>[] = [];
  let head = 0;
  let underWay = 0;
  let source: StreamSource | undefined;

  function pump(): void {
    while (source !== undefined && underWay < maxUnderWay && head < queue.length) {
      const job = queue[head] as Job<M>;
      head += 1;
      if (head === queue.length || head === 1_024) {
        queue.splice(0, head);
        head = 0;
      }
      if (job.isWanted()) run(job, source);
      else job.resolve(undefined);
    }
  }

  function run(job: Job<M>, from: StreamSource): void {
    underWay += 1;
    readStored(from, job.sequence)
      .then((found) => found && toMessage(found))
      .then(
        (message) => {
          underWay -= 1;
          job.resolve(message);
          pump();
        },
        () => {
          // NATS is away, or the stream has no leader: it is asked again, in the order of before as far as that goes.
          underWay -= 1;
          queue.splice(head, 0, job);
          setTimeout(pump, retryMs).unref();
        },
      );
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
export async function readStored(source: Readable, sequence: number): Promise<RawMessage | undefined> {
  const { name, direct } = source.stream;
  const found = direct ? await readDirect(source, sequence) : undefined;
  if (found !== undefined) return found;
  // Any server of the stream answers for it, one that lags too. Only its leader knows what is gone.
  try {
    const message = await source.manager.streams.getMessage(name, { seq: sequence });
    const { subject, header: headers, data: payload, time } = message;
    return { sequence, subject, storedAtMs: time.getTime(), headers, payload };
  } catch (error) {
    const { code, api_error: answer } = error as NatsError;
    const isGone = code === '404' || answer?.err_code === noMessageFound;
    if (isGone || (direct && code === 'PERMISSIONS_VIOLATION')) return undefined;
    throw error;
  }
}

async function readDirect(
  { requests, domain, stream }: Readable,
  sequence: number,
): Promise<RawMessage | undefined> {
  const answer = await requests.ask(`${apiPrefix(domain)}.DIRECT.GET.${stream.name}`, `{"seq":${sequence}}`);
  const block = headerTextOf(answer);
  const subject = findHeader(block, 'Nats-Subject');
  // A status, and no message.
  if (subject === '') return undefined;
  return {
    sequence,
    subject,
    storedAtMs: Date.parse(findHeader(block, 'Nats-Time-Stamp')),
    headers: ownHeaders.test(block) ? answer.headers : undefined,
    payload: answer.data,
  };
}

/** There is a header that is not one of NATS. */
const ownHeaders = /\r\n(?!Nats-|\r\n|$)/;
