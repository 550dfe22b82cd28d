import { findAddedHeader, headerTextOf } from '../connection/nats-headers.js';
import type { JetStreamManager, Msg, NatsConnection } from '../connection/nats-library.js';
import type { NatsRequests } from '../connection/nats-requests.js';
import { noMessageFound, noStreamFound } from '../jetstream-codes.js';
import { apiPrefix, ask, askJson, type JetStreamError } from '../state/jetstream-api.js';
import type { RawMessage } from './stored-messages.js';

/** Somebody who waits for messages. */
interface Asker<M> {
  readonly isWanted: () => boolean;
  readonly messages: (M | undefined)[];
  /** How many of them are not known yet. */
  left: number;
  resolve(messages: (M | undefined)[]): void;
}

/** One message for one who asked. */
interface Job<M> {
  readonly sequence: number;
  readonly asker: Asker<M>;
  /** Among the messages. */
  readonly place: number;
}

/** What is read by one request: rising sequences, some of them for several. */
type Run<M> = readonly Job<M>[];

/** Where they are read. */
export interface StreamSource {
  readonly requests: NatsRequests;
  readonly connection: NatsConnection;
  readonly manager: JetStreamManager;
  readonly domain: string | undefined;
  readonly stream: { readonly name: string; readonly direct: boolean };
}

type Readable = Omit<StreamSource, 'connection' | 'manager'>;

/** As many requests are under way: more do not come back sooner. */
const maxUnderWay = 64;
const retryMs = 500;
/** Most sequences that are put in order at once; those who ask come in turns. */
const maxSorted = 1_024;
/** Messages that nobody asked for cost less than another request, up to so many between two that are wanted. */
const maxBetween = 3;
/** Most messages, and about how many bytes, that NATS is asked for at once. */
const maxBatch = 256;
const maxBatchBytes = 262_144;

/**
 * Reads messages by their sequences, some at a time, in whatever order NATS answers: what lies together by one request, whoever asked for it: one device that has much to catch up with, or many that come back
 * at once.
 *
 * @param toMessage answers undefined when it cannot be sent to clients.
 */
export function openStoredReader<M>(toMessage: (found: RawMessage) => M | undefined) {
  const queue: Job<M>[] = [];
  let runs: Run<M>[] = [];
  let underWay = 0;
  let isScheduled = false;
  let source: StreamSource | undefined;

  /** Behind all that is asked for in this turn. */
  function schedule(): void {
    if (isScheduled) return;
    isScheduled = true;
    process.nextTick(() => {
      isScheduled = false;
      pump();
    });
  }

  function pump(): void {
    while (source !== undefined && underWay < maxUnderWay) {
      if (runs.length === 0) runs = toRuns(queue.splice(0, maxSorted), source.stream.direct);
      const next = runs.shift();
      if (next === undefined) return;
      const run = next.filter((job) => {
        if (job.asker.isWanted()) return true;
        answer(job, undefined);
        return false;
      });
      if (run.length > 0) void start(run, source);
    }
  }

  function answer({ asker, place }: Job<M>, found: RawMessage | undefined): void {
    asker.messages[place] = found && toMessage(found);
    asker.left -= 1;
    if (asker.left === 0) asker.resolve(asker.messages);
  }

  async function start(run: Run<M>, from: StreamSource): Promise<void> {
    underWay += 1;
    const found = await readRun(from, new Set(run.map(({ sequence }) => sequence))).catch(() => undefined);
    underWay -= 1;
    const left: Job<M>[] = [];
    for (const job of run)
      if (found?.has(job.sequence) === true) answer(job, found.get(job.sequence));
      else left.push(job);
    queue.unshift(...left);
    if (found !== undefined) pump();
    // NATS is away, or the stream has no leader: it is asked again.
    else setTimeout(pump, retryMs).unref();
  }

  return {
    /**
     * @param isWanted asked before NATS is, since a device may leave while its messages wait for their turn.
     * @returns for each the message; undefined when the stream does not have it any more, or it is not wanted. It waits while NATS is
     *   away.
     */
    read: (sequences: readonly number[], isWanted: () => boolean): Promise<(M | undefined)[]> =>
      new Promise((resolve) => {
        const left = sequences.length;
        const asker = { isWanted, messages: new Array<M | undefined>(left), left, resolve };
        if (left === 0) resolve(asker.messages);
        for (let place = 0; place < left; place += 1)
          queue.push({ sequence: sequences[place] as number, asker, place });
        schedule();
      }),
    connected(from: StreamSource): void {
      source = from;
      pump();
    },
    disconnected(): void {
      source = undefined;
    },
  };
}

function toRuns<M>(jobs: readonly Job<M>[], isBatched: boolean): Run<M>[] {
  const runs: Job<M>[][] = [];
  let run: Job<M>[] = [];
  for (const job of [...jobs].sort((one, other) => one.sequence - other.sequence)) {
    const first = run[0]?.sequence ?? 0;
    const last = run.at(-1)?.sequence ?? 0;
    const between = job.sequence - last - 1;
    const isNext = isBatched ? between <= maxBetween && job.sequence - first < maxBatch : between < 0;
    if (run.length === 0 || !isNext) {
      run = [];
      runs.push(run);
    }
    run.push(job);
  }
  return runs;
}

/** What is known of rising sequences by now; undefined: the message is gone. @throws JetStreamError when NATS does not say. */
async function readRun(
  source: StreamSource,
  wanted: ReadonlySet<number>,
): Promise<Map<number, RawMessage | undefined>> {
  const sequences = [...wanted];
  const [first = 0] = sequences;
  const last = sequences.at(-1) ?? first;
  if (first === last) return new Map([[first, await readStored(source, first)]]);
  const { messages, upTo } = await readBatch(source, first, last, wanted);
  const missing = sequences.filter((sequence) => sequence <= upTo && !messages.has(sequence));
  await Promise.all(
    missing.map(async (sequence) => messages.set(sequence, await readFromLeader(source, sequence))),
  );
  return messages;
}

/** @throws JetStreamError when NATS does not say. */
export async function readStored(source: Readable, sequence: number): Promise<RawMessage | undefined> {
  const found = source.stream.direct ? await readDirect(source, sequence) : undefined;
  return found ?? (await readFromLeader(source, sequence));
}

/** Any server of the stream answers for it, one that lags too. Only its leader knows what is gone. */
async function readFromLeader(
  { requests, domain, stream: { name, direct } }: Readable,
  sequence: number,
): Promise<RawMessage | undefined> {
  try {
    const { message } = await askJson<{
      message: { subject: string; hdrs?: string; data?: string; time: string };
    }>(requests, `${apiPrefix(domain)}.STREAM.MSG.GET.${name}`, `{"seq":${sequence}}`);
    const { subject, hdrs = '', data = '', time } = message;
    return {
      sequence,
      subject,
      storedAtMs: Date.parse(time),
      headers: Buffer.from(hdrs, 'base64').toString(),
      payload: Buffer.from(data, 'base64'),
    };
  } catch (error) {
    const { apiCode, isDenied } = error as JetStreamError;
    // A user may be let read from any server, and not from the leader.
    if (apiCode === noMessageFound || apiCode === noStreamFound || (direct && isDenied)) return undefined;
    throw error;
  }
}

async function readDirect(
  { requests, domain, stream }: Readable,
  sequence: number,
): Promise<RawMessage | undefined> {
  const answer = await ask(requests, `${apiPrefix(domain)}.DIRECT.GET.${stream.name}`, `{"seq":${sequence}}`);
  return rawOf(answer, headerTextOf(answer), sequence);
}

/**
 * The wanted ones of the messages between two sequences, as one server of the stream has them (ADR-31, nats-server 2.11; an older one
 * answers with the first).
 *
 * @returns `upTo`: what is missing up to here is gone, or that server lags; what is behind it was not sent.
 */
async function readBatch(
  { requests, domain, stream }: Readable,
  first: number,
  last: number,
  wanted: ReadonlySet<number>,
): Promise<{ messages: Map<number, RawMessage | undefined>; upTo: number }> {
  const messages = new Map<number, RawMessage | undefined>();
  let upTo = 0;
  const request = JSON.stringify({ seq: first, batch: last - first + 1, max_bytes: maxBatchBytes });
  await requests.ask(`${apiPrefix(domain)}.DIRECT.GET.${stream.name}`, request, undefined, (answer) => {
    const block = headerTextOf(answer);
    const sequence = Number(findAddedHeader(block, 'Nats-Sequence'));
    const message = wanted.has(sequence) ? rawOf(answer, block, sequence) : undefined;
    if (message !== undefined) messages.set(sequence, message);
    upTo = Math.max(upTo, sequence);
    // Behind the last one comes a status.
    return sequence === 0 || findAddedHeader(block, 'Nats-Num-Pending') === '';
  });
  return { messages, upTo: upTo === 0 ? last : upTo };
}

/** Undefined: it is a status, and no message. */
function rawOf(answer: Msg, block: string, sequence: number): RawMessage | undefined {
  const subject = findAddedHeader(block, 'Nats-Subject');
  if (subject === '') return undefined;
  return {
    sequence,
    subject,
    storedAtMs: Date.parse(findAddedHeader(block, 'Nats-Time-Stamp')),
    headers: ownHeaders.test(block) ? block : '',
    payload: answer.data,
  };
}

/** There is a header that is not one of NATS. */
const ownHeaders = /\r\n(?!Nats-|\r\n|$)/;
