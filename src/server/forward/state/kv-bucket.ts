import { findAddedHeader, findHeader, headerTextOf } from '../connection/nats-headers.js';
import { nanos } from '../connection/nats-library.js';
import { openNatsRequests } from '../connection/nats-requests.js';
import { noMessageFound, wrongLastSequence } from '../jetstream-codes.js';
import { readSequence } from '../pub-ack.js';
import { apiPrefix, ask, askJson, JetStreamError, readJson } from './jetstream-api.js';
import { openStateStream, type StateContext } from './state-stream.js';

export type KvGone = 'removed' | 'expired';

/** An entry of a bucket. */
export interface KvEntry {
  readonly revision: number;
  /** It was removed, or has expired, and only the mark of that is left, without a value. */
  readonly gone: KvGone | undefined;
  readonly value: Uint8Array;
  /** The empty text when there is none. */
  header(name: string): string;
}

/** What is known of an entry without its value. */
export interface KvNews {
  /** A part of the subject: who keeps it keeps `ownText` of it. */
  readonly key: string;
  readonly revision: number;
  gone(): KvGone | undefined;
  header(name: string): string;
}

export interface KvFollower {
  /** It begins: what is not told until it has caught up is not there any more. @param anew the bucket is another one than before. */
  onBegin(anew: boolean): void;
  onNews(news: KvNews): void;
  onCaughtUp(): void;
}

export interface KvWrite {
  /** The revision that it replaces; 0: there is none; undefined: whichever. */
  readonly expected: number | undefined;
  /** Seconds until it expires; undefined: never. */
  readonly ttlSec?: number | undefined;
  /** Lines of the header block, each with CR LF. */
  readonly headers?: string | undefined;
}

export type KvBucket = ReturnType<typeof openKvBucket>;

/** The mark of what was removed or has expired stays so long: whoever follows sees it. */
const markSec = 60;

/**
 * A key-value bucket of JetStream (ADR-8), with history 1 and a time to live for each entry (ADR-48). `nats kv` reads it. It is found or
 * made, and made again when it is gone. Everything that asks NATS throws JetStreamError.
 */
export function openKvBucket(
  options: StateContext & {
    readonly name: string;
    /** Shown by `nats kv ls`. */
    readonly description: string;
    /** What is done without it, for the log. */
    readonly without: string;
  },
) {
  const { link, domain } = options;
  const stream = `KV_${options.name}`;
  const subjects = `$KV.${options.name}.`;
  const prefix = apiPrefix(domain);
  const requests = openNatsRequests(link, options.inboxPrefix);
  // What the library does not know yet.
  const later = { subject_delete_marker_ttl: nanos(markSec * 1_000) };
  const state = openStateStream({
    ...options,
    name: stream,
    subject: `${subjects}>`,
    headersOnly: () => true,
    config: {
      description: options.description,
      max_msgs_per_subject: 1,
      allow_direct: true,
      allow_rollup_hdrs: true,
      deny_delete: true,
      allow_msg_ttl: true,
      ...later,
    },
    // What was removed while nobody looked is told by what is not there any more.
    begin({ anew }) {
      bucket.follower.onBegin(anew);
      return 1;
    },
    onMessage({ sequence, message }) {
      const header = headerOf(headerTextOf(message));
      const key = message.subject.slice(subjects.length);
      bucket.follower.onNews({ key, revision: sequence, gone: () => goneOf(header), header });
    },
    onCaughtUp: () => bucket.follower.onCaughtUp(),
  });

  async function write(
    key: string,
    value: Uint8Array | string,
    { expected, ttlSec, headers = '' }: KvWrite,
    operation?: string,
  ): Promise<number | undefined> {
    let fields = `NATS/1.0\r\n${headers}`;
    if (operation !== undefined) fields += `KV-Operation: ${operation}\r\n`;
    if (expected !== undefined) fields += `Nats-Expected-Last-Subject-Sequence: ${expected}\r\n`;
    if (ttlSec !== undefined) fields += `Nats-TTL: ${ttlSec}s\r\n`;
    const block = Buffer.from(`${fields}\r\n`);
    try {
      const answer = await ask(requests, subjects + key, value, block);
      return readSequence(answer.data) ?? readJson<{ seq: number }>(answer).seq;
    } catch (error) {
      if (error instanceof JetStreamError && error.apiCode === wrongLastSequence) return undefined;
      throw error;
    }
  }

  const bucket = {
    /** NATS is connected and answers. */
    get reachable(): boolean {
      return link.open;
    },
    /**
     * Reads one entry; undefined: there is none, nor a mark of one.
     *
     * @param fromLeader never older than what was written before; else it can be, in a cluster.
     */
    get: (key: string, fromLeader = false) =>
      fromLeader ? getFromLeader(subjects + key) : getDirectly(subjects + key),
    /** Writes an entry. @returns its revision; undefined: another one than expected is there. */
    put: (key: string, value: Uint8Array | string, options: KvWrite) => write(key, value, options),
    /** Removes an entry and leaves a mark for a while. @returns as `put` does. */
    remove: (key: string, options: Omit<KvWrite, 'ttlSec'>) =>
      write(key, '', { ...options, ttlSec: markSec }, 'DEL'),
    /** The keys that begin with these tokens, marks of what is gone among them; `keyPrefix` ends with a dot. */
    async keysOf(keyPrefix: string): Promise<string[]> {
      const { state: found } = await askJson<{ state: { subjects?: Record<string, number> } }>(
        requests,
        `${prefix}.STREAM.INFO.${stream}`,
        JSON.stringify({ subjects_filter: `${subjects}${keyPrefix}>` }),
      );
      return Object.keys(found.subjects ?? {}).map((subject) => subject.slice(subjects.length));
    },
    /** Why it cannot be used; undefined while nothing is known to speak against it. */
    get problem(): string | undefined {
      return state.problem;
    },
    /** Every entry was told, and every change is. */
    get caughtUp(): boolean {
      return state.caughtUp;
    },
    /** Resolves when it has caught up or cannot be used, at the latest after `timeoutMs`. */
    ready: state.ready,
    /** Who is told of every entry, then of every change, without values; set in the turn in which the bucket is opened. */
    follower: { onBegin() {}, onNews() {}, onCaughtUp() {} } as KvFollower,
    close: state.close,
  };
  return bucket;

  async function getDirectly(subject: string): Promise<KvEntry | undefined> {
    const answer = await ask(requests, `${prefix}.DIRECT.GET.${stream}.${subject}`, '');
    const block = headerTextOf(answer);
    if (block.startsWith('NATS/1.0 404')) return undefined;
    const header = headerOf(block);
    const revision = Number(findAddedHeader(block, 'Nats-Sequence'));
    if (!(revision > 0))
      throw new JetStreamError(`an answer without a sequence: ${block.slice(0, block.indexOf('\r'))}`);
    return { revision, gone: goneOf(header), value: answer.data, header };
  }

  async function getFromLeader(subject: string): Promise<KvEntry | undefined> {
    try {
      const { message } = await askJson<{ message: { seq: number; hdrs?: string; data?: string } }>(
        requests,
        `${prefix}.STREAM.MSG.GET.${stream}`,
        JSON.stringify({ last_by_subj: subject }),
      );
      const header = headerOf(Buffer.from(message.hdrs ?? '', 'base64').toString('utf8'));
      const value = Buffer.from(message.data ?? '', 'base64');
      return { revision: message.seq, gone: goneOf(header), value, header };
    } catch (error) {
      if (error instanceof JetStreamError && error.apiCode === noMessageFound) return undefined;
      throw error;
    }
  }
}

/** The same in a string of its own: a part of another keeps all of that, for as long as it is kept itself. */
export function ownText(part: string): string {
  return Buffer.from(part).toString();
}

function headerOf(block: string): (name: string) => string {
  return (name) => findHeader(block, name);
}

function goneOf(header: (name: string) => string): KvGone | undefined {
  const operation = header('KV-Operation');
  if (operation === 'DEL' || operation === 'PURGE') return 'removed';
  const reason = header('Nats-Marker-Reason');
  if (reason === '') return undefined;
  return reason === 'MaxAge' ? 'expired' : 'removed';
}
