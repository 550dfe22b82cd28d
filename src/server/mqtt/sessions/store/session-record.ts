import type { QoS } from '../../protocol/packet-type.js';
import type { PassedRecord } from '../delivery/passed-commands.js';

/** A subscription as it is kept. */
export interface StoredSubscription {
  /** As the client names it: with the share. */
  readonly name: string;
  readonly qos: QoS;
  readonly noLocal: boolean;
  readonly retainAsPublished: boolean;
  readonly retainHandling: 0 | 1 | 2;
  /** Its identifier; undefined: it has none. */
  readonly id: number | undefined;
  /** Sequence in the stream of commands when the client subscribed: it takes those behind it. */
  readonly from: number;
  /** The same in that of messages between devices; undefined: all that the session has not had. */
  readonly fromMessages?: number | undefined;
}

/** The streams that a session reads. */
export type CursorName = 'commands' | 'messages';

/** For each stream: all up to this sequence is acknowledged, or in `unacked`. */
export type Cursors = Readonly<Record<CursorName, number>> & {
  /** Which stream of commands that is; undefined: it is not known. */
  readonly commandStream?: string | undefined;
  /** Commands up to this sequence may have been sent, though they are beyond the cursor; undefined: none. */
  readonly commandsSent?: number | undefined;
  /** The same two of the stream of messages between devices. Without the first the session has had none of it. */
  readonly messageStream?: string | undefined;
  readonly messagesSent?: number | undefined;
};

/** Beyond every sequence. */
const anySequence = Number.MAX_SAFE_INTEGER;

/**
 * The session as one that nobody has goes on with it. A replica that had it, and did not part from it in an orderly way, may have sent
 * more than it has written.
 */
export function disown(record: SessionRecord): SessionRecord {
  if (record.owner === undefined) return record;
  const cursors = { ...record.cursors, commandsSent: anySequence, messagesSent: anySequence };
  return { ...record, owner: undefined, cursors };
}

/** A message sent with QoS 1 or 2 and not yet acknowledged. */
export interface Unacked {
  readonly packetId: number;
  readonly stream: CursorName;
  readonly sequence: number;
  /** PUBREC has come: PUBREL is what is sent again. */
  readonly released: boolean;
}

/** The QoS 2 exchanges that the client began. */
export interface ReceivedExchanges {
  /** Part of the identity of a message at NATS, so that a packet identifier that is used again is another message. */
  readonly generation: number;
  /** First and last packet identifiers of ranges whose exchanges of this generation PUBREL has ended. */
  readonly completed: readonly (readonly [first: number, last: number])[];
  /** Exchanges of earlier generations that are still open. */
  readonly open: readonly (readonly [packetId: number, generation: number])[];
}

/** What a device must still have for a session of it to go on, so that one that was away while nobody looked is not another's. */
export interface DeviceMark {
  readonly type: string;
  /** Names the secret that it had, and tells nothing of it. */
  readonly secret: string;
}

/** What of a session outlives its connection and its replica (MQTT 5.0 §4.1, the server's part). */
export interface SessionRecord {
  /** Random, made with the session. */
  readonly id: string;
  /** One more with each CONNECT: the higher one is in the right. */
  readonly epoch: number;
  /** The replica that has the connection; undefined: there is none. */
  readonly owner: string | undefined;
  /** How long it outlives its connection; infinite: for ever. */
  readonly expirySec: number;
  /** `Date.now()` when the connection ended; undefined while there is one. */
  readonly awaySinceMs: number | undefined;
  readonly subscriptions: readonly StoredSubscription[];
  readonly cursors: Cursors;
  readonly unacked: readonly Unacked[];
  /** Commands that were passed over; undefined: none was. */
  readonly passed?: PassedRecord | undefined;
  readonly received: ReceivedExchanges;
  /** Packet identifiers of messages sent with QoS 2 that no stream has, and whose exchange the client may have begun; undefined: none. */
  readonly begun?: readonly number[] | undefined;
  /** The device as its client last connected; undefined: an earlier version wrote it. */
  readonly device?: DeviceMark | undefined;
  /** Fields that this program does not know: those of a later version, which are kept. */
  readonly others?: Readonly<Record<string, unknown>> | undefined;
}

/** Of the encoding; a replica refuses a session whose record has another one. */
const version = 1;

/** Bytes that the names of a session's subscriptions may have, so that a record stays far below what NATS takes. */
export const maxNameBytes = 262_144;

export function encodeRecord(record: SessionRecord): string {
  const { id, epoch, owner, expirySec, subscriptions, cursors, passed, received, begun, device } = record;
  const json = {
    v: version,
    id,
    epoch,
    owner,
    expirySec: expirySec === Number.POSITIVE_INFINITY ? null : expirySec,
    awaySince: record.awaySinceMs,
    subscriptions,
    cursors,
    unacked: record.unacked.map(({ packetId, stream, sequence, released }) => [
      packetId,
      stream,
      sequence,
      released,
    ]),
    passed,
    received,
    begun,
    device,
  };
  return JSON.stringify(record.others === undefined ? json : { ...record.others, ...json });
}

/** @returns the record, or why it cannot be read, as a sentence. */
export function decodeRecord(bytes: Uint8Array): SessionRecord | string {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return 'it is no JSON';
  }
  if (!isObject(json)) return 'it is no object';
  if (json.v !== version)
    return `it has version ${JSON.stringify(json.v)}, and this program reads version ${version}`;
  const problem = checks.find(([, holds]) => !holds(json));
  if (problem !== undefined) return `its field ${problem[0]} is damaged`;
  const record = json as unknown as Omit<SessionRecord, 'expirySec' | 'unacked' | 'awaySinceMs'> & {
    expirySec: number | null;
    awaySince: number | undefined;
    unacked: [number, CursorName, number, boolean][];
  };
  const { id, epoch, owner, cursors, passed, received, begun, device } = record;
  return {
    id,
    epoch,
    owner,
    expirySec: record.expirySec ?? Number.POSITIVE_INFINITY,
    awaySinceMs: record.awaySince,
    subscriptions: record.subscriptions.map((each) => ({
      ...each,
      id: each.id,
      fromMessages: each.fromMessages,
    })),
    cursors: {
      commands: cursors.commands,
      messages: cursors.messages,
      commandStream: cursors.commandStream,
      commandsSent: cursors.commandsSent,
      messageStream: cursors.messageStream,
      messagesSent: cursors.messagesSent,
    },
    unacked: record.unacked.map(([packetId, stream, sequence, released]) => ({
      packetId,
      stream,
      sequence,
      released,
    })),
    passed: passed && { unknownTo: passed.unknownTo, stretches: passed.stretches },
    received: { generation: received.generation, completed: received.completed, open: received.open },
    begun,
    device: device && { type: device.type, secret: device.secret },
    others: othersOf(json),
  };
}

type Json = Readonly<Record<string, unknown>>;

function othersOf(json: Json): Json | undefined {
  const others = Object.entries(json).filter(
    ([name]) => name !== 'v' && !checks.some(([known]) => known === name),
  );
  return others.length === 0 ? undefined : Object.fromEntries(others);
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown, most = Number.MAX_SAFE_INTEGER): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most;
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function isOptional(value: unknown, holds: (value: unknown) => boolean): boolean {
  return value === undefined || holds(value);
}

function isPacketId(value: unknown): boolean {
  return isCount(value, 65_535) && value > 0;
}

function isListOf(value: unknown, holds: (entry: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every(holds);
}

function isSubscription(value: unknown): boolean {
  return (
    isObject(value) &&
    typeof value.name === 'string' &&
    value.name !== '' &&
    isCount(value.qos, 2) &&
    typeof value.noLocal === 'boolean' &&
    typeof value.retainAsPublished === 'boolean' &&
    isCount(value.retainHandling, 2) &&
    (value.id === undefined || isCount(value.id)) &&
    isCount(value.from) &&
    isOptional(value.fromMessages, isCount)
  );
}

function isCursors(value: unknown): boolean {
  if (!isObject(value)) return false;
  const { commands, messages, commandStream, commandsSent, messageStream, messagesSent } = value;
  return (
    isCount(commands) &&
    isCount(messages) &&
    isOptional(commandStream, isText) &&
    isOptional(commandsSent, isCount) &&
    isOptional(messageStream, isText) &&
    isOptional(messagesSent, isCount)
  );
}

function isUnacked(value: unknown): boolean {
  if (!Array.isArray(value) || value.length !== 4) return false;
  const [packetId, stream, sequence, released] = value as unknown[];
  const isStream = stream === 'commands' || stream === 'messages';
  return isPacketId(packetId) && isStream && isCount(sequence) && typeof released === 'boolean';
}

function isDeviceMark(value: unknown): boolean {
  return isObject(value) && typeof value.type === 'string' && typeof value.secret === 'string';
}

function isPassed(value: unknown): boolean {
  return isObject(value) && isCount(value.unknownTo) && isListOf(value.stretches, isStretch);
}

function isStretch(value: unknown): boolean {
  if (!Array.isArray(value) || value.length !== 3) return false;
  const [first, last, reason] = value as unknown[];
  return isCount(first) && isCount(last) && (reason === 'expired' || reason === 'refused');
}

function isRange(value: unknown): boolean {
  if (!Array.isArray(value) || value.length !== 2) return false;
  const [first, last] = value as [number, number];
  return isPacketId(first) && isPacketId(last) && first <= last;
}

function isOpen(value: unknown): boolean {
  return Array.isArray(value) && value.length === 2 && isPacketId(value[0]) && isCount(value[1]);
}

const checks: readonly [field: string, holds: (json: Json) => boolean][] = [
  ['id', ({ id }) => typeof id === 'string' && /^[\w-]{8,64}$/.test(id)],
  ['epoch', ({ epoch }) => isCount(epoch)],
  ['owner', ({ owner }) => owner === undefined || typeof owner === 'string'],
  ['expirySec', ({ expirySec }) => expirySec === null || isCount(expirySec)],
  ['awaySince', ({ awaySince }) => awaySince === undefined || isCount(awaySince)],
  ['subscriptions', ({ subscriptions }) => isListOf(subscriptions, isSubscription)],
  ['cursors', ({ cursors }) => isCursors(cursors)],
  ['unacked', ({ unacked }) => isListOf(unacked, isUnacked)],
  ['passed', ({ passed }) => passed === undefined || isPassed(passed)],
  ['device', ({ device }) => isOptional(device, isDeviceMark)],
  ['begun', ({ begun }) => isOptional(begun, (list) => isListOf(list, isPacketId))],
  // Each has a packet identifier of its own.
  [
    'unacked',
    ({ unacked, begun = [] }) => (unacked as unknown[]).length + (begun as unknown[]).length < 65_535,
  ],
  [
    'received',
    ({ received }) =>
      isObject(received) &&
      isCount(received.generation) &&
      isListOf(received.completed, isRange) &&
      isListOf(received.open, isOpen),
  ],
];
