import type { Msg } from 'nats';
import { type Refusal, readPubAck, readRefusal } from './pub-ack.js';

/** What a stream answered to a message of a fast-ingest batch. Sequences count the messages of the batch, from 1. */
export type BatchAnswer =
  /** The messages up to and including this one are stored. */
  | { readonly kind: 'progress'; readonly sequence: number }
  /** The batch is over, and its first `count` messages are stored. */
  | { readonly kind: 'ended'; readonly count: number }
  /** This message is not stored, and with it none behind it; undefined: the one that was answered. */
  | { readonly kind: 'refused'; readonly sequence: number | undefined; readonly refusal: Refusal }
  /** The one that was answered is stored, by a stream that knows nothing of batches. */
  | { readonly kind: 'single' }
  /** Nothing that says what is stored: a gap, which the end of the batch follows, or someone who is not a stream. */
  | { readonly kind: 'other' };

/** Where in its batch a message is, as its reply subject says. */
export interface BatchPlace {
  readonly batch: number;
  readonly sequence: number;
}

const other: BatchAnswer = { kind: 'other' };
const lastOfMark = 73;

/**
 * Reads an answer to a message that was sent with a reply subject of a batch (ADR-50, "Fast-ingest Batch Publishing",
 * gap mode `fail`).
 */
export function readBatchAnswer(message: Msg): BatchAnswer {
  const said = parse(message.data);
  switch (said?.type) {
    case undefined:
      break;
    case 'ack':
      return isCount(said.seq) ? { kind: 'progress', sequence: said.seq } : other;
    case 'err':
      return isCount(said.seq) && said.seq > 0
        ? { kind: 'refused', sequence: said.seq, refusal: readRefusal(said.error ?? {}) }
        : other;
    default:
      return other;
  }
  const ack = readPubAck(message);
  if (ack.kind === 'refused') return { kind: 'refused', sequence: undefined, refusal: ack };
  if (ack.kind === 'other') return other;
  if (said?.batch === undefined) return { kind: 'single' };
  return isCount(said.count) ? { kind: 'ended', count: said.count } : other;
}

/** Whether the subject is one that `batchReply` made: it ends as no token of a message does. */
export function isBatchReply(message: Msg): boolean {
  const raw = (message as { _msg?: { subject?: unknown } })._msg?.subject;
  if (raw instanceof Uint8Array) return raw[raw.length - 1] === lastOfMark;
  return message.subject.endsWith('$FI');
}

/** Reads the place from `<inbox>.<name>-<batch>.<flow>.fail.<sequence>.<operation>.$FI`; undefined when it is none. */
export function readBatchPlace(subject: string): BatchPlace | undefined {
  const tokens = subject.split('.');
  const id = tokens.at(-6) ?? '';
  const batch = Number(id.slice(id.lastIndexOf('-') + 1));
  const sequence = Number(tokens.at(-3));
  return Number.isSafeInteger(batch) && Number.isSafeInteger(sequence) && sequence > 0
    ? { batch, sequence }
    : undefined;
}

interface Said {
  readonly type?: unknown;
  readonly seq?: unknown;
  readonly error?: { err_code?: unknown; description?: unknown };
  readonly batch?: unknown;
  readonly count?: unknown;
}

function parse(data: Uint8Array): Said | undefined {
  try {
    const said: unknown = JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.length).toString());
    return typeof said === 'object' && said !== null ? said : undefined;
  } catch {
    return undefined;
  }
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
