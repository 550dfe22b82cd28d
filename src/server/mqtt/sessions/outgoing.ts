import { type BrokerCounters, countMessage } from '../live/counters.js';
import type { LimitName } from '../live/limit-names.js';
import type { CloseReason } from '../protocol/close-reason.js';
import { type Codec, type Connect, type Delivery, unknownPacketId } from '../protocol/codec.js';
import { PacketType, type QoS } from '../protocol/packet-type.js';
import { bytesOf, countDown, isExpired, type Message } from './message.js';
import type { CursorName, Unacked } from './session-record.js';
import { TopicAliases } from './topic-aliases.js';
import { type Waiting, WaitingMessages } from './waiting-messages.js';

/** What a client takes, as it said in CONNECT; topic aliases within MAX_TOPIC_ALIASES. */
export type ClientLimits = Pick<Connect, 'receiveMaximum' | 'maxPacketBytes' | 'topicAliasMaximum'>;

/** What a client takes that does not say. */
export const unlimited: ClientLimits = {
  receiveMaximum: 65_535,
  maxPacketBytes: Number.POSITIVE_INFINITY,
  topicAliasMaximum: 0,
};

/** The client's connection as the messages to it see it. */
export interface OutgoingConnection {
  readonly codec: Codec;
  readonly clientLimits: ClientLimits;
  write(packet: Buffer): void;
  /** What is written from now on leaves together with `uncork`. */
  cork(): void;
  uncork(): void;
  /** Bytes written that the client has not taken. */
  readonly unsentBytes: number;
  /** More waits for the client than may. */
  closeSlowReader(): void;
}

export interface OutgoingLimits {
  /** Most messages that wait for an absent client. */
  readonly maxMessages: number;
  /** Most bytes that wait, or are sent and not acknowledged. */
  readonly maxBytes: number;
  /** The same of all clients. */
  readonly maxBytesInAll: number;
}

/** What is held for all clients. */
export interface OutgoingTotal {
  bytes: number;
}

/** A message for one client. */
export interface OutgoingMessage extends Message {
  /** Of the client's subscriptions that it matches. */
  readonly subscriptionIds?: readonly number[] | undefined;
  /** Called when the session ends before the message was sent, or before QoS 1 was acknowledged: others may have it. */
  readonly handBack?: (() => void) | undefined;
  /** Called when the client has acknowledged it, or does not take it. */
  readonly onSettled?: ((taken: boolean) => void) | undefined;
}

/** Where more messages are, kept elsewhere until there is room for them. */
export interface OutgoingSource {
  /** The client may take more; `sendStored` says how much. */
  onRoom(): void;
  /** The client has a message of it for good. */
  onAcknowledged(): void;
  /** It does not take one: it has answered so, or it takes none so large. `onAcknowledged` is called, too. */
  onRefused(sequence: number): void;
  /** Stores the session as it is now; false: another connection has it. */
  persist(): Promise<boolean>;
}

/** Where a message is stored. */
export interface StoredPlace {
  readonly stream: CursorName;
  readonly sequence: number;
}

/** A message sent with QoS 1 or 2 and not yet acknowledged. */
interface InFlight {
  /** Undefined: PUBREC has come, or the message is stored. */
  message: OutgoingMessage | undefined;
  /** Where it is stored; its source sends it again. */
  readonly stored?: StoredPlace;
  /** Undefined: that is known when it is read again. */
  qos: QoS | undefined;
  /** PUBREC has come: PUBREL is what is sent again. */
  isReleased: boolean;
  /** What it counts for. */
  bytes: number;
  /** The connection of now was sent its PUBLISH. */
  isSentHere: boolean;
}

/** Most messages waiting when retained ones are added; a client that asks for more without taking them is closed. */
const maxRetainedWaiting = 100_000;
/** Most messages sent and not acknowledged, whatever the client takes: it is not asked to remember more packet identifiers. */
const maxInFlight = 128;
/** Above it nothing more is given to the socket: what waits here is counted, what waits there is not. */
const socketBytes = 65_536;
/** A client holds at most one byte for so many that are free, so that there is room for another, however many hold theirs. */
const clientShare = 8;

/**
 * The messages to one client: sent in order, acknowledged, sent again after a reconnect (MQTT 3.1.1 §4.3, §4.4,
 * §4.6), as many and as large as the client takes (MQTT 5.0 §4.9). It outlives the connection when the session does.
 */
export class Outgoing {
  /** Messages left out because too many wait. */
  private dropped = 0;
  private readonly limits: OutgoingLimits;
  private readonly total: OutgoingTotal;
  private readonly counters: BrokerCounters;
  private readonly onDelivered: () => void;
  private ended = false;
  private connection: OutgoingConnection | undefined;
  /** In the order in which they were sent. */
  private readonly inFlight = new Map<number, InFlight>();
  /** Packet identifiers in flight that this connection has not been sent yet, from `resendHead` on. */
  private resend: number[] = [];
  private resendHead = 0;
  private readonly waiting = new WaitingMessages<OutgoingMessage>();
  /** Bytes of all that waits or is in flight. */
  private heldBytes = 0;
  private lastPacketId = 0;
  /** Messages of QoS 1 and 2 that this connection may have been sent and not have acknowledged. */
  private window = maxInFlight;
  /** How many it has. */
  private unacknowledged = 0;
  /** Those of this connection; undefined: its client takes none. */
  private aliases: TopicAliases | undefined;
  /** What comes behind all that waits here. */
  readonly sources = new Map<CursorName, OutgoingSource>();

  /** @param onDelivered called when the client has a message: it was sent with QoS 0, or acknowledged. */
  constructor(
    limits: OutgoingLimits,
    total: OutgoingTotal,
    counters: BrokerCounters,
    onDelivered: () => void = () => {},
  ) {
    this.onDelivered = onDelivered;
    this.limits = limits;
    this.total = total;
    this.counters = counters;
  }

  /** How much is on its way to the client; bytes are those of what waits and of what is not acknowledged. */
  describe(): { waiting: number; waitingBytes: number; unacknowledged: number; dropped: number } {
    return {
      waiting: this.waiting.size,
      waitingBytes: this.heldBytes,
      unacknowledged: this.inFlight.size,
      dropped: this.dropped,
    };
  }

  /** Nothing waits or is unacknowledged but what is stored. */
  get isEmpty(): boolean {
    return this.waiting.size === 0 && [...this.inFlight.values()].every(({ stored }) => stored !== undefined);
  }

  get isConnected(): boolean {
    return this.connection !== undefined;
  }

  /** Its client speaks MQTT 5, so that it can be told more than the topic. */
  get explains(): boolean {
    return this.connection?.codec.explains === true;
  }

  /** A message that is offered leaves at once. */
  get isReady(): boolean {
    const { connection } = this;
    if (connection === undefined || connection.unsentBytes >= socketBytes) return false;
    return this.waiting.size === 0 && this.resend.length === 0 && this.mayBegin;
  }

  /** A message that is offered is taken. */
  hasRoom(message: OutgoingMessage): boolean {
    return this.mayTake(message) && this.checkRoom(sizeOf(message)) === undefined;
  }

  private mayTake({ qos }: OutgoingMessage): boolean {
    return !this.ended && (this.connection !== undefined || qos > 0);
  }

  /** Takes a message; its QoS is the one to send it with. */
  offer(message: OutgoingMessage): void {
    if (!this.mayTake(message)) return;
    const bytes = sizeOf(message);
    const limit = this.checkRoom(bytes);
    if (limit !== undefined) {
      this.dropped += 1;
      this.counters.deliveriesDropped += 1;
      this.counters.limits[limit] += 1;
      this.connection?.closeSlowReader();
      return;
    }
    this.waiting.push(message, bytes);
    this.hold(bytes);
    this.pump();
  }

  /** The bound that allows no message of this size now, or undefined. What has expired makes room. */
  private checkRoom(bytes: number): LimitName | undefined {
    const limit = this.findLimit(bytes);
    if (limit === undefined) return undefined;
    const expired = this.waiting.takeExpired();
    for (const entry of expired) this.expire(entry);
    return expired.length === 0 ? limit : this.findLimit(bytes);
  }

  /** A message that waited is not sent any more [MQTT 5.0 MQTT-3.3.2-5]. */
  private expire({ bytes }: Waiting<OutgoingMessage>): void {
    this.hold(-bytes);
    this.counters.deliveriesExpired += 1;
  }

  private findLimit(bytes: number): LimitName | undefined {
    const { connection, heldBytes, limits, total } = this;
    if (connection === undefined && this.waiting.size >= limits.maxMessages) {
      return 'queued-messages';
    }
    if (heldBytes + bytes > limits.maxBytes) return 'outgoing-bytes';
    // For a client that takes what it is sent there is always room.
    if (connection !== undefined && heldBytes === 0) return undefined;
    const free = limits.maxBytesInAll - total.bytes;
    return (heldBytes + bytes) * clientShare > free ? 'outgoing-bytes-in-all' : undefined;
  }

  private hold(bytes: number): void {
    this.heldBytes += bytes;
    this.total.bytes += bytes;
  }

  /**
   * Takes the retained messages of a new subscription; they go out as fast as the client takes them, and are in memory
   * anyway, so they do not count.
   */
  offerRetained(messages: readonly OutgoingMessage[]): void {
    if (this.connection === undefined) return;
    if (this.waiting.size + messages.length > maxRetainedWaiting) {
      this.counters.limits['outgoing-bytes'] += 1;
      this.connection?.closeSlowReader();
      return;
    }
    for (const message of messages) this.waiting.push(message, 0);
    this.pump();
  }

  /** The client is connected: what it did not acknowledge is sent again [MQTT-4.4.0-1], then what waits. */
  attach(connection: OutgoingConnection): void {
    const { receiveMaximum, topicAliasMaximum } = connection.clientLimits;
    this.connection = connection;
    this.window = Math.min(maxInFlight, receiveMaximum);
    this.unacknowledged = 0;
    this.aliases = topicAliasMaximum === 0 ? undefined : new TopicAliases(topicAliasMaximum);
    for (const entry of this.inFlight.values()) entry.isSentHere = false;
    this.resend = [...this.inFlight].flatMap(([id, { stored, isReleased }]) =>
      stored === undefined || isReleased ? id : [],
    );
    this.resendHead = 0;
    this.pump();
  }

  detach(): void {
    this.connection = undefined;
    this.resend = [];
  }

  /** Nothing is sent any more, and nothing held. */
  end(): void {
    this.detach();
    this.ended = true;
    // QoS 2 that was begun is nobody else's [MQTT 5.0 MQTT-4.8.2-5].
    const begun = [...this.inFlight.values()].flatMap(({ qos, message }) =>
      qos === 1 ? (message ?? []) : [],
    );
    const unsent = this.waiting.takeAll().map(({ message }) => message);
    this.inFlight.clear();
    this.hold(-this.heldBytes);
    for (const { handBack } of [...begun, ...unsent]) handBack?.();
  }

  /**
   * PUBACK, PUBREC or PUBCOMP of the client. One with a failure ends the exchange. For a packet identifier that is not in use
   * PUBREC is answered, so that the exchange ends, and the others have no effect.
   */
  onAcknowledge(type: PacketType, packetId: number, reasonCode = 0): CloseReason | undefined {
    const entry = this.inFlight.get(packetId);
    if (entry !== undefined && !isExpected(type, entry)) return 'wrong-acknowledgement';
    const isRefused = reasonCode >= 0x80;
    if (type === PacketType.PUBREC && !isRefused) {
      if (entry === undefined) this.sendRelease(packetId, unknownPacketId);
      else this.onReceived(packetId, entry);
    } else if (entry !== undefined) {
      const { stored } = entry;
      if (isRefused && (entry.message ?? stored) !== undefined) this.counters.deliveriesRefused += 1;
      if (isRefused && stored !== undefined) this.sources.get(stored.stream)?.onRefused(stored.sequence);
      entry.message?.onSettled?.(!isRefused);
      if (!isRefused) this.onDelivered();
      this.finish(packetId, entry);
      this.pump();
    }
    return undefined;
  }

  /** The client has the message. Whoever has the session next must not send it again: PUBREL waits until the store says so. */
  private onReceived(packetId: number, entry: InFlight): void {
    const source = entry.stored && this.sources.get(entry.stored.stream);
    const wasReleased = entry.isReleased;
    entry.message = undefined;
    entry.isReleased = true;
    this.release(entry);
    if (source === undefined || wasReleased) {
      this.sendRelease(packetId);
      return;
    }
    const { connection } = this;
    void source.persist().then((isStored) => {
      if (isStored && this.connection === connection) this.sendRelease(packetId);
    });
  }

  private sendRelease(packetId: number, code = 0): void {
    const { connection } = this;
    connection?.write(connection.codec.encodeAcknowledge(PacketType.PUBREL, packetId, code));
  }

  private finish(packetId: number, entry: InFlight): void {
    this.release(entry);
    this.inFlight.delete(packetId);
    if (entry.isSentHere) this.unacknowledged -= 1;
    if (entry.stored !== undefined) this.sources.get(entry.stored.stream)?.onAcknowledged();
  }

  /** The message is not kept any more. */
  private release(entry: InFlight): void {
    this.hold(-entry.bytes);
    entry.bytes = 0;
  }

  /** Sends what may be sent now; to be called again when the socket has drained. */
  pump(): void {
    const { connection } = this;
    if (connection === undefined) return;
    this.pumpResend(connection);
    if (this.resend.length > 0) return;
    while (this.connection === connection && connection.unsentBytes < socketBytes) {
      const next = this.waiting.first;
      if (next === undefined || (next.message.qos > 0 && !this.mayBegin)) break;
      this.waiting.shift();
      if (isExpired(next.message)) this.expire(next);
      else this.send(connection, next);
    }
    for (const source of this.sources.values())
      if (this.connection === connection && this.waiting.size === 0) source.onRoom();
  }

  /** Sends several: a write costs more than a small message. */
  gather(sendAll: () => void): void {
    const { connection } = this;
    connection?.cork();
    try {
      sendAll();
    } finally {
      connection?.uncork();
    }
  }

  /** How many messages of QoS 1 may be begun now. */
  get room(): number {
    return Math.max(0, Math.min(this.window - this.unacknowledged, maxInFlight - this.inFlight.size));
  }

  /**
   * Sends a message that is stored, if the client takes one now. Nothing of it is kept here but its place, until it is
   * acknowledged.
   */
  sendStored(message: OutgoingMessage, stored: StoredPlace, dup: boolean): boolean {
    const { connection } = this;
    const { qos } = message;
    if (connection === undefined || !this.isFree(connection) || (qos > 0 && !this.mayBegin)) return false;
    const packetId = qos > 0 ? this.storedPacketId(stored, qos) : 0;
    if (packetId === undefined) return false;
    const packet = this.encode(connection, message, { qos, packetId, dup: dup && qos > 0 });
    const source = this.sources.get(stored.stream);
    if (packet === undefined) source?.onRefused(stored.sequence);
    if (packet === undefined || qos === 0) source?.onAcknowledged();
    if (packet === undefined) return true;
    if (qos > 0) {
      const entry = { message: undefined, stored, qos, bytes: 0, isReleased: false, isSentHere: true };
      this.inFlight.set(packetId, entry);
      this.unacknowledged += 1;
    }
    connection.write(packet);
    return true;
  }

  /** Sends one again that the connection before was sent [MQTT-4.4.0-1], if the client takes one now. */
  sendAgain(packetId: number, message: OutgoingMessage): boolean {
    const { connection } = this;
    const entry = this.inFlight.get(packetId);
    if (entry === undefined) return true;
    if (connection === undefined || !this.isFree(connection) || this.unacknowledged >= this.window)
      return false;
    entry.qos ??= message.qos === 2 ? 2 : 1;
    const packet = this.encode(connection, message, { qos: entry.qos, packetId, dup: true });
    if (packet === undefined) {
      const { stored } = entry;
      if (stored !== undefined) this.sources.get(stored.stream)?.onRefused(stored.sequence);
      this.finish(packetId, entry);
      return true;
    }
    entry.isSentHere = true;
    this.unacknowledged += 1;
    connection.write(packet);
    return true;
  }

  /** What is stored, was sent and not acknowledged, in the order in which it was sent. */
  listStored(): Unacked[] {
    return [...this.inFlight].flatMap(([packetId, { stored, isReleased }]) =>
      stored === undefined ? [] : [{ packetId, ...stored, released: isReleased }],
    );
  }

  /** The same, of a session that another replica had. */
  restoreStored(list: readonly Unacked[]): void {
    for (const { packetId, stream, sequence, released } of list)
      this.inFlight.set(this.inFlight.has(packetId) ? this.nextPacketId() : packetId, {
        message: undefined,
        stored: { stream, sequence },
        qos: released ? 2 : undefined,
        bytes: 0,
        isReleased: released,
        isSentHere: false,
      });
  }

  /** It is not stored any more, or not wanted: what was begun is given up. */
  forget(packetId: number): void {
    const entry = this.inFlight.get(packetId);
    if (entry !== undefined) this.finish(packetId, entry);
  }

  forgetStored(stream: CursorName): void {
    for (const each of this.listStored()) if (each.stream === stream) this.forget(each.packetId);
  }

  /** A message that is given to the connection leaves, and nothing comes before it. */
  private isFree(connection: OutgoingConnection): boolean {
    return connection.unsentBytes < socketBytes && this.waiting.size === 0 && this.resend.length === 0;
  }

  /**
   * The same for a message whenever it is sent, if it can be had, so that it is found again after a crash. One of QoS 2 waits
   * for it (undefined): under another identifier it would be another message. The streams begin at either end.
   */
  private storedPacketId({ stream, sequence }: StoredPlace, qos: QoS): number | undefined {
    const number = sequence % 65_535;
    const wanted = stream === 'commands' ? number + 1 : 65_535 - number;
    if (!this.inFlight.has(wanted)) return wanted;
    return qos === 2 ? undefined : this.nextPacketId();
  }

  /** The client takes another message of QoS 1 or 2 [MQTT 5.0 MQTT-3.3.4-9]. */
  private get mayBegin(): boolean {
    return this.unacknowledged < this.window && this.inFlight.size < maxInFlight;
  }

  /** Sends again what the client did not acknowledge before it reconnected, as fast as it takes it. */
  private pumpResend(connection: OutgoingConnection): void {
    while (this.connection === connection && this.resendHead < this.resend.length) {
      if (connection.unsentBytes >= socketBytes) return;
      const packetId = this.resend[this.resendHead] as number;
      const entry = this.inFlight.get(packetId);
      const message = entry?.message;
      if (message !== undefined && this.unacknowledged >= this.window) return;
      this.resendHead += 1;
      if (entry === undefined) continue;
      if (message === undefined) {
        connection.write(connection.codec.encodeAcknowledge(PacketType.PUBREL, packetId));
        continue;
      }
      const packet = this.encode(connection, message, { qos: message.qos, packetId, dup: true });
      if (packet === undefined) {
        this.finish(packetId, entry);
        continue;
      }
      entry.isSentHere = true;
      this.unacknowledged += 1;
      connection.write(packet);
    }
    this.resend = [];
  }

  private send(connection: OutgoingConnection, { message, bytes }: Waiting<OutgoingMessage>): void {
    const { qos } = message;
    const packetId = qos > 0 ? this.nextPacketId() : 0;
    const packet = this.encode(connection, message, { qos, packetId, dup: false });
    if (packet === undefined) message.onSettled?.(false);
    if (packet === undefined || qos === 0) {
      this.hold(-bytes);
    } else {
      this.inFlight.set(packetId, { message, qos, bytes, isReleased: false, isSentHere: true });
      this.unacknowledged += 1;
    }
    if (packet !== undefined) connection.write(packet);
  }

  /**
   * The packet of a message, to be sent at once. Undefined when it is larger than the client takes: the message counts as
   * delivered [MQTT 5.0 MQTT-3.1.2-25].
   */
  private encode(
    { codec, clientLimits }: OutgoingConnection,
    message: OutgoingMessage,
    delivery: Delivery,
  ): Buffer | undefined {
    const { aliases, counters } = this;
    const { maxPacketBytes } = clientLimits;
    const current = countDown(message);
    // Retained messages come once a topic.
    const alias = message.retain ? undefined : aliases?.find(message.topic);
    let isGiven = alias?.isNew === true;
    let packet = codec.encodePublish(current, alias === undefined ? delivery : { ...delivery, alias });
    if (packet.length > maxPacketBytes && isGiven) {
      isGiven = false;
      packet = codec.encodePublish(current, delivery);
    }
    if (packet.length > maxPacketBytes) {
      counters.deliveriesTooLarge += 1;
      return undefined;
    }
    if (alias !== undefined && isGiven) aliases?.give(message.topic, alias.number);
    countMessage(counters.sent, delivery.qos, message.payload.length);
    if (delivery.qos === 0) this.onDelivered();
    return packet;
  }

  /** A packet identifier that is not in use [MQTT-2.3.1-4]; there are more than `maxInFlight`. */
  private nextPacketId(): number {
    do this.lastPacketId = this.lastPacketId === 65_535 ? 1 : this.lastPacketId + 1;
    while (this.inFlight.has(this.lastPacketId));
    return this.lastPacketId;
  }
}

/** PUBREC may come again, PUBCOMP only after it [MQTT-4.3.3-1]. */
function isExpected(type: PacketType, { qos, isReleased }: InFlight): boolean {
  if (type === PacketType.PUBACK) return qos !== 2;
  if (qos === 1) return false;
  return type === PacketType.PUBREC || (type === PacketType.PUBCOMP && isReleased);
}

/** What a message takes in memory beside what it carries, about. */
const overheadBytes = 64;
const subscriptionIdBytes = 8;

function sizeOf(message: OutgoingMessage): number {
  return overheadBytes + bytesOf(message) + (message.subscriptionIds?.length ?? 0) * subscriptionIdBytes;
}
