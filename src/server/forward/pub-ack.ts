import { isNoResponders } from './connection/nats-headers.js';
import { subjectBytesOf } from './connection/nats-internals.js';
import type { Msg } from './connection/nats-library.js';
import { invalidTtl, messageTooLarge } from './jetstream-codes.js';
import type { Refusal } from './outlet.js';

/** What a stream says of a message. */
type Said = { readonly kind: 'stored' } | ({ readonly kind: 'refused' } & Refusal);

/** What JetStream answered to a published message. */
export type PubAck =
  | Said
  /** A stream that is not the one that is watched answered. */
  | { readonly kind: 'elsewhere'; readonly stream: string; readonly said: Said }
  /** Someone who is not a stream answered. */
  | { readonly kind: 'other' };

const stored: Said = { kind: 'stored' };
const other: PubAck = { kind: 'other' };
const noResponders: PubAck = {
  kind: 'refused',
  cause: 'no_stream',
  detail: 'no stream takes the subject',
  permanent: false,
};

/** JetStream's codes for "message size exceeds maximum allowed", "header size exceeds maximum allowed of 64k" and "invalid per-message TTL". */
const permanentCodes = new Set([messageTooLarge, 10_097, invalidTtl]);

const prefix = new TextEncoder().encode('{"stream":');
const sequenceKey = new TextEncoder().encode('"seq":');
const decoder = new TextDecoder();
const encoder = new TextEncoder();
const zero = 48;
const nine = 57;
const comma = 44;
const dot = 46;
const brace = 125;

/**
 * Reads an answer. Only `{"stream":…,"seq":…}` without an error means stored; a duplicate is stored as well.
 * The usual answer is told by its bytes, since parsing each as JSON costs as much as everything else together.
 *
 * @param source the stream that is to answer; undefined: any.
 */
export function readPubAck(message: Msg, source?: AnswerSource): PubAck {
  const data = message.data;
  if (source === undefined ? readSequence(data) !== undefined : source.isUsual(data)) return stored;
  if (data.length === 0) return isNoResponders(message) ? noResponders : other;
  return parsePubAck(data, source);
}

/** By what a stream is known in its answers. */
export interface StreamIdentity {
  readonly name: string;
  /** Empty: in none; undefined: that is not known. */
  readonly domain: string | undefined;
}

const noHead = encoder.encode('none');

/**
 * Tells the answers of the stream that is watched from those of others that take the same subjects too: behind a leaf node, in
 * another domain, they are asked at the same time, and only one of them keeps what is promised.
 */
export class AnswerSource {
  /** The usual answer of the stream up to its number, as it was last read. */
  private head = noHead;
  private now: StreamIdentity;
  /** What was sent before the last look, the stream of then may still confirm. */
  private before: StreamIdentity;

  constructor(stream: StreamIdentity) {
    this.now = stream;
    this.before = stream;
  }

  /** The stream has been looked at. */
  expect(stream: StreamIdentity): void {
    this.before = this.now;
    this.now = stream;
    this.head = noHead;
  }

  /** Whether it is the usual answer of the stream, and says that a message is stored. */
  isUsual(data: Uint8Array): boolean {
    return startsWith(data, this.head, 0) && readLastNumber(data, this.head.length) !== undefined;
  }

  /** Whether an answer that says so is the stream's. */
  takes(data: Uint8Array, stream: string, domain: unknown): boolean {
    const isTaken = isOf(this.now, stream, domain);
    if (isTaken && readLastNumber(data, headLengthOf(data)) !== undefined)
      this.head = data.slice(0, headLengthOf(data));
    return isTaken || isOf(this.before, stream, domain);
  }

  /** A refusal names no domain, and not always its stream. */
  mayRefuse(stream: unknown): boolean {
    return typeof stream !== 'string' || stream === '' || [this.now.name, this.before.name].includes(stream);
  }
}

function isOf({ name, domain }: StreamIdentity, stream: string, said: unknown): boolean {
  return stream === name && (said === undefined || domain === undefined || said === domain);
}

/** The name of a stream or a domain holds no quotes, so the first key of the number is the one. */
function headLengthOf(data: Uint8Array): number {
  const at = Buffer.from(data.buffer, data.byteOffset, data.byteLength).indexOf(sequenceKey);
  return at < 0 ? data.length : at + sequenceKey.length;
}

/** The sequence that the usual answer tells, `{"stream":…,"seq":…}`; undefined: it is another answer, which can mean stored, too. */
export function readSequence(data: Uint8Array): number | undefined {
  if (data.length > 320 || !startsWith(data, prefix, 0)) return undefined;
  // The name of a stream holds neither quotes nor backslashes, so the next key cannot be part of it.
  for (let at = prefix.length; at < data.length - sequenceKey.length; at += 1) {
    if (data[at] === 34 && data[at + 1] === 115 && startsWith(data, sequenceKey, at)) {
      return readLastNumber(data, at + sequenceKey.length);
    }
    if (data[at] === 58) return undefined;
  }
  return undefined;
}

/** A number other than 0, where nothing but it and the closing brace are left: an error would come behind. */
function readLastNumber(data: Uint8Array, from: number): number | undefined {
  if (data[from] === zero || data[data.length - 1] !== brace || data.length - 1 === from) return undefined;
  let number = 0;
  for (let at = from; at < data.length - 1; at += 1) {
    const digit = data[at] ?? 0;
    if (digit < zero || digit > nine) return undefined;
    number = number * 10 + (digit - zero);
  }
  return number;
}

function startsWith(data: Uint8Array, expected: Uint8Array, at: number): boolean {
  for (let index = 0; index < expected.length; index += 1) {
    if (data[at + index] !== expected[index]) return false;
  }
  return true;
}

function parsePubAck(data: Uint8Array, source: AnswerSource | undefined): PubAck {
  let answer: {
    error?: { err_code?: unknown; description?: unknown };
    stream?: unknown;
    seq?: unknown;
    domain?: unknown;
  } | null;
  try {
    answer = JSON.parse(decoder.decode(data));
  } catch {
    return other;
  }
  if (typeof answer !== 'object' || answer === null) return other;
  const { error, stream, seq, domain } = answer;
  if (error !== undefined && error !== null) {
    const refused: Said = { kind: 'refused', ...readRefusal(error) };
    return source?.mayRefuse(stream) === false
      ? { kind: 'elsewhere', stream: String(stream), said: refused }
      : refused;
  }
  if (typeof stream !== 'string' || typeof seq !== 'number' || seq <= 0) return other;
  if (source === undefined || source.takes(data, stream, domain)) return stored;
  const named = domain === undefined ? stream : `${stream} in the domain ${domain}`;
  return { kind: 'elsewhere', stream: named, said: stored };
}

/** Where a message is stored. */
export interface StoredPlace {
  readonly stream: string;
  readonly sequence: number;
}

/**
 * The place that an answer tells, of which `readPubAck` has said that it means stored.
 *
 * @param behind how many messages of the same answer were stored after the one that is asked for.
 */
export function readPlace(ack: Uint8Array, behind = 0): StoredPlace {
  return readAsLast(ack, behind) ?? parsePlace(ack, behind);
}

/** The beginning of the last answer, up to its number: most come from one stream. */
let lastStream = '';
let lastHead: Uint8Array = encoder.encode('none');

/** The answer to a batch goes on behind the number, and is read for each of its messages. */
function readAsLast(ack: Uint8Array, behind: number): StoredPlace | undefined {
  if (!startsWith(ack, lastHead, 0)) return undefined;
  let sequence = 0;
  for (let at = lastHead.length; at < ack.length; at += 1) {
    const byte = ack[at] as number;
    if (byte === comma || byte === brace) return { stream: lastStream, sequence: sequence - behind };
    if (byte < zero || byte > nine) return undefined;
    sequence = sequence * 10 + (byte - zero);
  }
  return undefined;
}

function parsePlace(ack: Uint8Array, behind: number): StoredPlace {
  const { stream, seq } = JSON.parse(decoder.decode(ack)) as { stream: string; seq: number };
  lastStream = stream;
  lastHead = encoder.encode(`{"stream":${JSON.stringify(stream)},"seq":`);
  return { stream, sequence: seq - behind };
}

/** Reads the `error` of an answer of JetStream. */
function readRefusal(error: { err_code?: unknown; description?: unknown }): Refusal {
  const code = typeof error.err_code === 'number' ? error.err_code : 0;
  const detail = String(error.description ?? 'no description');
  // Several limits share one code ("store failed"), so the words belong to the cause.
  return { cause: `${code} ${detail}`, detail, permanent: permanentCodes.has(code) };
}

/** Reads the number that is the last token of a subject; -1 when it is none. */
export function readToken(message: Msg): number {
  return tokenOfBytes(subjectBytesOf(message) ?? encoder.encode(message.subject));
}

function tokenOfBytes(subject: Uint8Array): number {
  let token = 0;
  let scale = 1;
  for (let at = subject.length - 1; at >= 0; at -= 1) {
    const digit = subject[at] ?? 0;
    if (digit === dot) return scale === 1 ? -1 : token;
    if (digit < zero || digit > nine || scale > 1e16) return -1;
    token += (digit - zero) * scale;
    scale *= 10;
  }
  return -1;
}
