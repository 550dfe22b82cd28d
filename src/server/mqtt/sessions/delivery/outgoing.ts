import type { BrokerCounters } from '../../live/counters.js';
import type { LimitName } from '../../live/limit-names.js';
import type { CloseReason } from '../../protocol/close-reason.js';
import { type Delivery, unknownPacketId } from '../../protocol/codec.js';
import { PacketType } from '../../protocol/packet-type.js';
import type { CursorName, Unacked } from '../store/session-record.js';
import { DeliveryWriter, type OutgoingConnection, type OutgoingMessage } from './delivery-writer.js';
import { isExpired } from './message.js';
import { type OutgoingLimits, OutgoingMemory, type OutgoingTotal, sizeOf } from './outgoing-memory.js';
import { type InFlight, isExpected, type StoredPlace, Unacknowledged } from './unacknowledged.js';
import { type Waiting, WaitingMessages } from './waiting-messages.js';

/** Where more messages are, kept elsewhere until there is room for them. */
export interface OutgoingSource {
  /** The client may take more; `sendStored` says how much. */
  onRoom(): void;
  /** The client does not take one: it has answered so, or it takes none so large. */
  onRefused(sequence: number): void;
}

/** The session that the messages are of. */
export interface OutgoingOwner {
  /** The client has a message: it was sent with QoS 0, or acknowledged. */
  onDelivered(): void;
  /** What is stored of the session has changed: it is stored with the next write, or within a second. */
  touch(): void;
  /**
   * Stores the session as it is now, where it outlives its connection.
   *
   * @returns when that is done; false: another connection has the session by now, and this one is being closed.
   */
  persist(): Promise<boolean>;
}

const nobody: OutgoingOwner = { onDelivered() {}, touch() {}, persist: async () => true };

/** Most messages waiting when retained ones are added; a client that asks for more without taking them is closed. */
const maxRetainedWaiting = 100_000;

/**
 * The messages to one client: sent in order, acknowledged, sent again after a reconnect (MQTT 3.1.1 §4.3, §4.4,
 * §4.6). It outlives the connection when the session does.
 */
export class Outgoing {
  /** Messages left out because too many wait. */
  private dropped = 0;
  private readonly counters: BrokerCounters;
  private readonly owner: OutgoingOwner;
  private readonly memory: OutgoingMemory;
  private ended = false;
  /** To the client's connection; undefined: it has none. */
  private writer: DeliveryWriter | undefined;
  private readonly inFlight = new Unacknowledged();
  /** Packet identifiers in flight that this connection has not been sent yet. */
  private resend: number[] = [];
  private readonly waiting = new WaitingMessages<OutgoingMessage>();
  /** What comes behind all that waits here. */
  readonly sources = new Map<CursorName, OutgoingSource>();

  constructor(
    limits: OutgoingLimits,
    total: OutgoingTotal,
    counters: BrokerCounters,
    owner: OutgoingOwner = nobody,
  ) {
    this.owner = owner;
    this.memory = new OutgoingMemory(limits, total);
    this.counters = counters;
  }

  /** How much is on its way to the client; bytes are those of what waits and of what is not acknowledged. */
  describe(): { waiting: number; waitingBytes: number; unacknowledged: number; dropped: number } {
    return {
      waiting: this.waiting.size,
      waitingBytes: this.memory.heldBytes,
      unacknowledged: this.inFlight.size,
      dropped: this.dropped,
    };
  }

  /** Nothing waits or is unacknowledged but what is stored. */
  get isEmpty(): boolean {
    return this.waiting.size === 0 && [...this.inFlight.values()].every(({ stored }) => stored !== undefined);
  }

  get isConnected(): boolean {
    return this.writer !== undefined;
  }

  /** Its client speaks MQTT 5, so that it can be told more than the topic. */
  get explains(): boolean {
    return this.writer?.connection.codec.explains === true;
  }

  /** A message that is offered leaves at once. */
  get isReady(): boolean {
    return this.writer !== undefined && this.isFree(this.writer) && this.room > 0;
  }

  /** A message that is offered is taken. */
  hasRoom(message: OutgoingMessage): boolean {
    return this.mayTake(message) && this.checkRoom(sizeOf(message)) === undefined;
  }

  private mayTake({ qos }: OutgoingMessage): boolean {
    return !this.ended && (this.writer !== undefined || qos > 0);
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
      this.writer?.connection.closeSlowReader();
      return;
    }
    this.waiting.push(message, bytes);
    this.memory.hold(bytes);
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
    this.memory.hold(-bytes);
    this.counters.deliveriesExpired += 1;
  }

  private findLimit(bytes: number): LimitName | undefined {
    return this.memory.findLimit(bytes, this.isConnected, this.waiting.size);
  }

  /**
   * Takes the retained messages of a new subscription; they go out as fast as the client takes them, and are in memory
   * anyway, so they do not count.
   */
  offerRetained(messages: readonly OutgoingMessage[]): void {
    if (this.writer === undefined) return;
    if (this.waiting.size + messages.length > maxRetainedWaiting) {
      this.counters.limits['outgoing-bytes'] += 1;
      this.writer?.connection.closeSlowReader();
      return;
    }
    for (const message of messages) this.waiting.push(message, 0);
    this.pump();
  }

  /** The client is connected: what it did not acknowledge is sent again [MQTT-4.4.0-1], then what waits. */
  attach(connection: OutgoingConnection): void {
    this.writer = new DeliveryWriter(connection, this.counters);
    for (const entry of this.inFlight.values()) entry.isSentHere = false;
    this.resend = [...this.inFlight].flatMap(([id, { stored, isReleased }]) =>
      stored === undefined || isReleased ? id : [],
    );
    this.pump();
  }

  detach(): void {
    this.writer = undefined;
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
    this.memory.hold(-this.memory.heldBytes);
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
      if (entry === undefined) this.writer?.release(packetId, unknownPacketId);
      else this.onReceived(packetId, entry);
    } else if (entry !== undefined) {
      if (isRefused && (entry.message ?? entry.stored) !== undefined) this.counters.deliveriesRefused += 1;
      if (isRefused) this.tellRefused(entry);
      entry.message?.onSettled?.(!isRefused);
      if (!isRefused) this.owner.onDelivered();
      this.finish(packetId, entry);
      this.pump();
    }
    return undefined;
  }

  /** The client has the message. Whoever has the session next must not send it again: PUBREL waits until the store says so. */
  private onReceived(packetId: number, entry: InFlight): void {
    const { writer } = this;
    const mayGo = entry.stored === undefined || entry.isReleased;
    entry.message = undefined;
    entry.isReleased = true;
    this.release(entry);
    if (mayGo) {
      writer?.release(packetId);
      return;
    }
    void this.owner.persist().then((isStored) => {
      if (isStored && this.writer === writer) writer?.release(packetId);
    });
  }

  private tellRefused({ stored }: Pick<InFlight, 'stored'>): void {
    if (stored !== undefined) this.sources.get(stored.stream)?.onRefused(stored.sequence);
  }

  private finish(packetId: number, entry: InFlight): void {
    this.release(entry);
    this.inFlight.delete(packetId);
    if (entry.isSentHere && this.writer !== undefined) this.writer.unacknowledged -= 1;
    if (entry.stored !== undefined || entry.qos === 2) this.owner.touch();
  }

  /** The message is not kept any more. */
  private release(entry: InFlight): void {
    this.memory.hold(-entry.bytes);
    entry.bytes = 0;
  }

  /** Sends what may be sent now; to be called again when the socket has drained. */
  pump(): void {
    const { writer } = this;
    if (writer === undefined) return;
    this.pumpResend(writer);
    if (this.resend.length > 0) return;
    while (this.writer === writer && !writer.isFull) {
      const next = this.waiting.first;
      if (next === undefined || (next.message.qos > 0 && this.room === 0)) break;
      this.waiting.shift();
      if (isExpired(next.message)) this.expire(next);
      else this.send(writer, next);
    }
    for (const source of this.sources.values())
      if (this.writer === writer && this.waiting.size === 0) source.onRoom();
  }

  /** Sends several: a write costs more than a small message. */
  gather(sendAll: () => void): void {
    const connection = this.writer?.connection;
    connection?.cork();
    try {
      sendAll();
    } finally {
      connection?.uncork();
    }
  }

  /** How many messages of QoS 1 or 2 may be begun now. */
  get room(): number {
    return Math.max(0, Math.min(this.writer?.quota ?? 0, this.inFlight.room));
  }

  /**
   * Sends a message that is stored, if the client takes one now. Nothing of it is kept here but its place, until it is
   * acknowledged.
   */
  sendStored(message: OutgoingMessage, stored: StoredPlace, dup: boolean): boolean {
    const { writer } = this;
    const { qos } = message;
    if (writer === undefined || !this.isFree(writer) || (qos > 0 && this.room === 0)) return false;
    const packetId = qos > 0 ? this.inFlight.storedPacketId(stored, qos) : 0;
    if (packetId === undefined) return false;
    const entry = { message: undefined, stored, qos, bytes: 0, isReleased: false, isSentHere: false };
    const isSent = this.publish(writer, message, { qos, packetId, dup: dup && qos > 0 }, entry);
    if (!isSent) this.tellRefused(entry);
    if (!isSent || qos === 0) this.owner.touch();
    return true;
  }

  /** Sends one again that the connection before was sent [MQTT-4.4.0-1], if the client takes one now. */
  sendAgain(packetId: number, message: OutgoingMessage): boolean {
    const { writer } = this;
    const entry = this.inFlight.get(packetId);
    if (entry === undefined) return true;
    if (writer === undefined || !this.isFree(writer) || writer.quota <= 0) return false;
    entry.qos ??= message.qos === 2 ? 2 : 1;
    if (!this.publish(writer, message, { qos: entry.qos, packetId, dup: true }, entry)) {
      this.tellRefused(entry);
      this.finish(packetId, entry);
    }
    return true;
  }

  listStored(): Unacked[] {
    return this.inFlight.listStored();
  }

  listBegun(): number[] | undefined {
    return this.inFlight.listBegun();
  }

  restoreBegun(list: readonly number[]): void {
    this.inFlight.restoreBegun(list);
  }

  restoreStored(list: readonly Unacked[]): void {
    this.inFlight.restoreStored(list);
  }

  /**
   * It was sent and cannot be sent again: it is not stored any more. A client that has had it with QoS 2 is to end the exchange,
   * which keeps its packet identifier [MQTT-4.3.3-2].
   *
   * @param mayBeQos2 where that is not known, since another replica sent it.
   */
  giveUp(packetId: number, mayBeQos2: boolean): void {
    const entry = this.inFlight.get(packetId);
    if (entry === undefined) return;
    entry.qos ??= mayBeQos2 ? 2 : 1;
    if (entry.qos === 2) this.onReceived(packetId, entry);
    else this.finish(packetId, entry);
  }

  /** The stream is not there any more: what was begun of it is given up. */
  forgetStored(stream: CursorName): void {
    for (const [packetId, entry] of this.inFlight)
      if (entry.stored?.stream === stream) this.finish(packetId, entry);
  }

  /** A message that is given to the connection leaves, and nothing comes before it. */
  private isFree(writer: DeliveryWriter): boolean {
    return !writer.isFull && this.waiting.size === 0 && this.resend.length === 0;
  }

  /** Sends again what the client did not acknowledge before it reconnected, as fast as it takes it. */
  private pumpResend(writer: DeliveryWriter): void {
    while (this.writer === writer && !writer.isFull) {
      const packetId = this.resend[0];
      if (packetId === undefined) break;
      const entry = this.inFlight.get(packetId);
      const message = entry?.message;
      if (message !== undefined && writer.quota <= 0) break;
      this.resend.shift();
      if (entry === undefined) continue;
      if (message === undefined) writer.release(packetId);
      else if (!this.publish(writer, message, { qos: message.qos, packetId, dup: true }, entry))
        this.finish(packetId, entry);
    }
  }

  private send(writer: DeliveryWriter, { message, bytes }: Waiting<OutgoingMessage>): void {
    const { qos } = message;
    const packetId = qos > 0 ? this.inFlight.nextPacketId() : 0;
    if (qos === 0) this.memory.hold(-bytes);
    const entry = { message, qos, bytes, isReleased: false, isSentHere: false };
    if (this.publish(writer, message, { qos, packetId, dup: false }, entry)) {
      if (qos === 2) this.owner.touch();
      return;
    }
    if (qos > 0) this.memory.hold(-bytes);
    message.onSettled?.(false);
  }

  /** Sends a message, which is in flight as `entry` if it is to be acknowledged; false: the client takes none so large. */
  private publish(
    writer: DeliveryWriter,
    message: OutgoingMessage,
    delivery: Delivery,
    entry: InFlight,
  ): boolean {
    const packet = writer.encode(message, delivery);
    if (packet === undefined) return false;
    if (delivery.qos > 0) {
      entry.isSentHere = true;
      this.inFlight.set(delivery.packetId, entry);
      writer.unacknowledged += 1;
    } else {
      this.owner.onDelivered();
    }
    writer.connection.write(packet);
    return true;
  }
}
