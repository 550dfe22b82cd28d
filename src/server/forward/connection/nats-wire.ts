import { withFastGetters } from '../../fast-getters.js';
import { headerBytesOf, natsBytesOf, type UplinkMessage, type WireMessage } from '../forwarder.js';
import type { NatsInternals } from './nats-internals.js';
import type { NatsConnection } from './nats-library.js';

/** Bytes collected before they are sent without waiting for the end of the turn; they stay in the processor's cache. */
const slabBytes = 128 * 1024;
/** A payload of so many bytes is sent from where it is; a smaller one costs less copied. */
const viewBytes = 4_096;
/** Most bytes of payloads sent from where they are that wait for the end of the turn. */
const maxViewedBytes = 1024 * 1024;
/** `HPUB`, blanks, line ends, and the digits of three numbers. */
const frameOverheadBytes = 64;

const defaultMaxPayloadBytes = 1_048_576;
/**
 * nats-server ends a connection that sends a command line over 4,096 bytes; it holds the subject, a reply subject and
 * two numbers.
 */
const maxSubjectBytes = 3_500;

const hpub = Buffer.from('HPUB ');
const messageIdName = Buffer.from('Nats-Msg-Id: ');
const batchIdName = Buffer.from('Nats-Batch-Id: ');
const batchSequenceName = Buffer.from('\r\nNats-Batch-Sequence: ');
const batchCommit = Buffer.from('\r\nNats-Batch-Commit: 1');
const lineEnd = Buffer.from('\r\n');
const noBytes = new Uint8Array();
const blank = 32;
const cr = 13;
const lf = 10;
const zero = 48;
const billion = 1_000_000_000;

/** What asks for an answer: the subject up to the token, the token, and what follows it. */
export interface ReplyTo {
  /** Ends with a dot. */
  readonly prefix: Uint8Array;
  readonly token: number;
  /** Begins with a dot, or is empty. */
  readonly suffix: Uint8Array;
}

/** Where in an atomic batch a message is (ADR-50). */
export interface BatchPlace {
  readonly id: Uint8Array;
  /** Counts from 1. */
  readonly sequence: number;
  /** The last message commits the batch. */
  readonly last: boolean;
}

/**
 * Writes messages to the socket of a connection, as `HPUB` (NATS client protocol), side by side with what the library
 * writes: both write whole commands. The library's own `publish` encodes a string, makes five objects and copies
 * everything twice for each message, which together cost more than all else that the gateway does with it.
 *
 * What is published in one turn of the event loop leaves in one write.
 */
export interface NatsWire {
  /** Largest message with headers that the server takes, bytes. */
  readonly maxMessageBytes: number;
  /** Messages published since the connection was made. */
  readonly messagesOut: number;
  /** @throws Error when the connection has ended. */
  publish(message: WireMessage, replyTo?: ReplyTo, place?: BatchPlace): void;
  /**
   * Publishes what is at hand as text, headers with the blank line that ends them. It lies here until the next flush, which is the caller's.
   *
   * @throws Error when the connection has ended, or the subject is none.
   */
  publishText(subject: string, headers: string, payload: string): void;
  /** Sends what was published in this turn. Nothing that the library sends overtakes what was flushed before. */
  flush(): void;
}

/** Before there is a connection. */
export const noWire: NatsWire = {
  maxMessageBytes: defaultMaxPayloadBytes,
  messagesOut: 0,
  publish() {
    throw new Error('not connected');
  },
  publishText() {
    throw new Error('not connected');
  },
  flush() {},
};

/** What ends a subject in a command of the NATS client protocol, so that what follows would be a command of its own. */
const endsSubject = /[\0- \x7f]/;

/** Why a text cannot be a subject that is published to, or undefined. */
export function findSubjectProblem(subject: string): string | undefined {
  if (subject === '' || endsSubject.test(subject))
    return 'a subject has no white space and no control characters';
  return undefined;
}

/** Why NATS can never take a message, or undefined. */
export function findSizeProblem(message: WireMessage, maxBytes: number): string | undefined {
  const size = natsBytesOf(message);
  if (size > maxBytes) return `${size} bytes are more than the ${maxBytes} that NATS takes`;
  if (message.subject.length > maxSubjectBytes) return `the subject is longer than ${maxSubjectBytes} bytes`;
  return undefined;
}

/** @throws Error when NATS can never take the message. */
export function requireSize(message: UplinkMessage, maxBytes: number): void {
  const problem = findSizeProblem(message, maxBytes);
  if (problem !== undefined) throw new Error(problem);
}

export function openNatsWire(connection: NatsConnection, internals: NatsInternals): NatsWire {
  const { socket, send } = internals;
  let slab = Buffer.allocUnsafeSlow(slabBytes);
  /** Where what is not in `parts` yet begins, and where it ends. */
  let start = 0;
  let end = 0;
  let parts: Uint8Array[] = [];
  let viewedBytes = 0;
  let scheduled = false;
  let messagesOut = 0;

  function flush(): void {
    if (end === 0) return;
    if (parts.length === 0) {
      send(slab.subarray(0, end));
    } else {
      sealSlab();
      socket.cork();
      for (const part of parts) send(part);
      socket.uncork();
      parts = [];
      viewedBytes = 0;
    }
    // What the socket could not pass on at once it still holds.
    if (socket.writableLength !== 0 || slab.length !== slabBytes) slab = Buffer.allocUnsafeSlow(slabBytes);
    start = 0;
    end = 0;
  }

  function sealSlab(): void {
    if (end > start) parts.push(slab.subarray(start, end));
    start = end;
  }

  function reserve(bytes: number): void {
    if (end + bytes <= slab.length) return;
    flush();
    if (bytes > slab.length) slab = Buffer.allocUnsafeSlow(bytes);
  }

  function endOfTurn(): void {
    scheduled = false;
    flush();
  }

  return withFastGetters({
    maxMessageBytes: connection.info?.max_payload ?? defaultMaxPayloadBytes,
    get messagesOut() {
      return messagesOut;
    },
    publish(message, replyTo, place) {
      if (connection.isClosed()) throw new Error('the connection to NATS has ended');
      const { subject, headers, payload, messageId } = message;
      const headerBytes = headerBytesOf(message) + (place === undefined ? 0 : bytesOfPlace(place));
      const prefix = replyTo?.prefix ?? noBytes;
      const viewed = payload.length >= viewBytes;
      reserve(
        frameOverheadBytes +
          subject.length +
          prefix.length +
          (replyTo?.suffix.length ?? 0) +
          headerBytes +
          (viewed ? 0 : payload.length),
      );

      let at = copy(slab, end, hpub);
      at = copy(slab, at, subject);
      slab[at++] = blank;
      if (replyTo !== undefined) {
        at = copy(slab, at, prefix);
        at = writeNumber(slab, at, replyTo.token);
        at = copy(slab, at, replyTo.suffix);
        slab[at++] = blank;
      }
      at = writeNumber(slab, at, headerBytes);
      slab[at++] = blank;
      at = writeNumber(slab, at, headerBytes + payload.length);
      slab[at++] = cr;
      slab[at++] = lf;
      at = copy(slab, at, headers);
      // In front of the blank line that ends a header block.
      if (messageId !== undefined) {
        at = copy(slab, at - lineEnd.length, messageIdName);
        at += slab.write(messageId, at, 'latin1');
        at = copy(slab, copy(slab, at, lineEnd), lineEnd);
      }
      if (place !== undefined) at = writePlace(slab, at - lineEnd.length, place);
      if (viewed) {
        end = at;
        sealSlab();
        parts.push(payload);
        viewedBytes += payload.length;
      } else {
        at = copy(slab, at, payload);
      }
      slab[at++] = cr;
      slab[at++] = lf;
      end = at;
      messagesOut += 1;

      if (viewedBytes >= maxViewedBytes) {
        flush();
      } else if (!scheduled) {
        scheduled = true;
        setImmediate(endOfTurn);
      }
    },
    publishText(subject, headers, payload) {
      if (connection.isClosed()) throw new Error('the connection to NATS has ended');
      const problem = findSubjectProblem(subject);
      if (problem !== undefined) throw new Error(problem);
      const headerBytes = Buffer.byteLength(headers);
      const bytes = headerBytes + Buffer.byteLength(payload);
      const frame = `HPUB ${subject} ${headerBytes} ${bytes}\r\n${headers}${payload}\r\n`;
      // A character is three bytes at most.
      reserve(3 * frame.length);
      end += slab.write(frame, end);
      messagesOut += 1;
    },
    flush,
  });
}

function bytesOfPlace({ id, sequence, last }: BatchPlace): number {
  return (
    batchIdName.length +
    id.length +
    batchSequenceName.length +
    countDigits(sequence) +
    (last ? batchCommit.length : 0) +
    lineEnd.length
  );
}

/** Writes the headers of a batch and the blank line, and answers where they end. */
function writePlace(target: Buffer, start: number, { id, sequence, last }: BatchPlace): number {
  let at = copy(target, copy(target, start, batchIdName), id);
  at = writeNumber(target, copy(target, at, batchSequenceName), sequence);
  if (last) at = copy(target, at, batchCommit);
  return copy(target, copy(target, at, lineEnd), lineEnd);
}

/** Copies bytes and answers where they end. A loop is faster than a call of `set` for what is short. */
function copy(target: Buffer, at: number, source: Uint8Array): number {
  const { length } = source;
  if (length > 48) target.set(source, at);
  else for (let index = 0; index < length; index += 1) target[at + index] = source[index] as number;
  return at + length;
}

/** Writes a whole number, decimal, and answers where it ends. */
function writeNumber(target: Buffer, at: number, value: number): number {
  if (value < billion) return writeDigits(target, at, value, countDigits(value));
  const high = Math.floor(value / billion);
  return writeDigits(target, writeNumber(target, at, high), value - high * billion, 9);
}

function writeDigits(target: Buffer, at: number, value: number, digits: number): number {
  let rest = value;
  for (let index = at + digits - 1; index >= at; index -= 1) {
    const next = (rest / 10) | 0;
    target[index] = zero + rest - next * 10;
    rest = next;
  }
  return at + digits;
}

function countDigits(value: number): number {
  let digits = 1;
  for (let bound = 10; value >= bound; bound *= 10) digits += 1;
  return digits;
}
