import Type, { type Static, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';

/** Of the encoding; a replica refuses a session whose record has another one. */
const version = 1;

/** Bytes that the names of a session's subscriptions may have, so that a record stays far below what NATS takes. */
export const maxNameBytes = 262_144;

const count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const packetId = Type.Integer({ minimum: 1, maximum: 65_535 });
const optional = <S extends TSchema>(schema: S) => Type.Optional(Type.Unsafe<Static<S> | undefined>(schema));

/** A subscription as it is kept. */
export type StoredSubscription = Readonly<Static<typeof subscription>>;
const subscription = Type.Object({
  /** As the client names it: with the share. */
  name: Type.String({ minLength: 1 }),
  qos: Type.Enum([0, 1, 2]),
  noLocal: Type.Boolean(),
  retainAsPublished: Type.Boolean(),
  retainHandling: Type.Enum([0, 1, 2]),
  id: optional(count),
  /** Sequence in the stream of commands when the client subscribed: it takes those behind it. */
  from: count,
  /** The same in that of messages between devices; undefined: all that the session has not had. */
  fromMessages: optional(count),
});

/** The streams that a session reads. */
export type CursorName = Static<typeof cursorName>;
const cursorName = Type.Enum(['commands', 'messages']);

/** For each stream: all up to this sequence is acknowledged, or in `unacked`. */
export type Cursors = Readonly<Static<typeof cursors>>;
const cursors = Type.Object({
  commands: count,
  messages: count,
  /** Which stream of commands that is; undefined: it is not known. */
  commandStream: optional(Type.String()),
  /** Commands up to this sequence may have been sent, though they are beyond the cursor; undefined: none. */
  commandsSent: optional(count),
  /** The same two of the stream of messages between devices. Without the first the session has had none of it. */
  messageStream: optional(Type.String()),
  messagesSent: optional(count),
});

const unacked = Type.Tuple([packetId, cursorName, count, Type.Boolean()]);

/** A message sent with QoS 1 or 2 and not yet acknowledged. */
export interface Unacked {
  readonly packetId: number;
  readonly stream: CursorName;
  readonly sequence: number;
  /** PUBREC has come: PUBREL is what is sent again. */
  readonly released: boolean;
}

/** The commands that a session has passed over. */
export type PassedRecord = Readonly<Static<typeof passed>>;
const passed = Type.Object({
  /** Of commands up to this sequence it is not known any more. */
  unknownTo: count,
  /** First and last sequences, and why the client does not have those, in the order in which they were noted. */
  stretches: Type.Array(Type.Tuple([count, count, Type.Enum(['expired', 'refused'])])),
});

/** The QoS 2 exchanges that the client began. */
export type ReceivedExchanges = Readonly<Static<typeof received>>;
const received = Type.Object({
  /** Part of the identity of a message at NATS, so that a packet identifier that is used again is another message. */
  generation: count,
  /** First and last packet identifiers of ranges whose exchanges of this generation PUBREL has ended. */
  completed: Type.Array(Type.Refine(Type.Tuple([packetId, packetId]), ([first, last]) => first <= last)),
  /** Exchanges of earlier generations that are still open: their packet identifiers and generations. */
  open: Type.Array(Type.Tuple([packetId, count])),
});

/** What a device must still have for a session of it to go on, so that one that was away while nobody looked is not another's. */
export type DeviceMark = Readonly<Static<typeof deviceMark>>;
const deviceMark = Type.Object({
  type: Type.String(),
  /** Names the secret that it had, and tells nothing of it. */
  secret: Type.String(),
});

type Json = Static<typeof json>;
const json = Type.Object({
  v: Type.Literal(version),
  /** Random, made with the session. */
  id: Type.String({ pattern: '^[\\w-]{8,64}$' }),
  /** One more with each CONNECT: the higher one is in the right. */
  epoch: count,
  /** The replica that has the connection; undefined: there is none. */
  owner: optional(Type.String()),
  /** How long it outlives its connection; null: for ever. */
  expirySec: Type.Union([count, Type.Null()]),
  /** `Date.now()` when the connection ended; undefined while there is one. */
  awaySince: optional(count),
  subscriptions: Type.Array(subscription),
  cursors,
  unacked: Type.Array(unacked),
  /** Undefined: none was. */
  passed: optional(passed),
  received,
  /** Packet identifiers of messages sent with QoS 2 that no stream has, and whose exchange the client may have begun; undefined: none. */
  begun: optional(Type.Array(packetId)),
  /** The device as its client last connected; undefined: an earlier version wrote it. */
  device: optional(deviceMark),
});
const checker = Compile(json);

/** What of a session outlives its connection and its replica (MQTT 5.0 §4.1, the server's part). */
export interface SessionRecord extends Readonly<Omit<Json, 'v' | 'owner' | 'awaySince' | 'unacked'>> {
  readonly owner: string | undefined;
  /** How long it outlives its connection; infinite: for ever. */
  readonly expirySec: number;
  readonly awaySinceMs: number | undefined;
  readonly unacked: readonly Unacked[];
  /** Fields that this program does not know: those of a later version, which are kept. */
  readonly others?: Readonly<Record<string, unknown>> | undefined;
}

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
    unacked: record.unacked.map((each) => [each.packetId, each.stream, each.sequence, each.released]),
    passed,
    received,
    begun,
    device,
  };
  return JSON.stringify(record.others === undefined ? json : { ...record.others, ...json });
}

/** @returns the record, or why it cannot be read, as a sentence. */
export function decodeRecord(bytes: Uint8Array): SessionRecord | string {
  let read: Json;
  try {
    read = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return 'it is no JSON';
  }
  if (typeof read !== 'object' || read === null || Array.isArray(read)) return 'it is no object';
  if (read.v !== version)
    return `it has version ${JSON.stringify(read.v)}, and this program reads version ${version}`;
  if (!checker.Check(read)) return `its field ${findDamaged(read)} is damaged`;
  const { v, id, epoch, owner, expirySec, awaySince, subscriptions, ...more } = read;
  const { cursors, unacked, passed, received, begun, device, ...others } = more;
  // Each has a packet identifier of its own.
  if (unacked.length + (begun?.length ?? 0) >= 65_535) return 'its field unacked is damaged';
  return {
    id,
    epoch,
    owner,
    expirySec: expirySec ?? Number.POSITIVE_INFINITY,
    awaySinceMs: awaySince,
    // Alike, whether they have an identifier or not.
    subscriptions: subscriptions.map((each) => ({ ...each, id: each.id })),
    cursors,
    unacked: unacked.map(([packetId, stream, sequence, released]) => ({
      packetId,
      stream,
      sequence,
      released,
    })),
    passed,
    received,
    begun,
    device,
    others: Object.keys(others).length === 0 ? undefined : others,
  };
}

/** The name of a field that is not as it has to be. */
function findDamaged(read: Json): string {
  const [fault] = checker.Errors(read);
  const { requiredProperties: missing } = (fault?.params ?? {}) as { requiredProperties?: string[] };
  return String(fault?.instancePath.split('/')[1] ?? missing?.[0]);
}
