import { type BrokerCounters, countMessage } from '../live/counters.js';
import type { LimitName } from '../live/limit-names.js';
import type { CloseReason } from '../protocol/close-reason.js';
import type { Codec } from '../protocol/codec.js';
import { PacketType, type QoS } from '../protocol/packet-type.js';
import type { Message } from './message.js';

/** The client's connection as the messages to it see it. */
export interface OutgoingConnection {
  readonly codec: Codec;
  write(packet: Buffer): void;
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

/** A message sent with QoS 1 or 2 and not yet acknowledged; without a message, PUBREL was sent. */
interface InFlight {
  message: Message | undefined;
  readonly qos: QoS;
  /** What it counts for. */
  bytes: number;
}

/** A message that waits, and the bytes that it counts for. */
interface Waiting {
  readonly message: Message;
  readonly bytes: number;
}

/** Most messages waiting when retained ones are added; a client that asks for more without taking them is closed. */
const maxRetainedWaiting = 100_000;
/** Most messages sent and not acknowledged; the client is not asked to remember more packet identifiers. */
const maxInFlight = 128;
/** Above it nothing more is given to the socket: what waits here is counted, what waits there is not. */
const socketBytes = 65_536;
/** A client holds at most one byte for so many that are free, so that there is room for another, however many hold theirs. */
const clientShare = 8;

/**
 * The messages to one client: sent in order, acknowledged, sent again after a reconnect (MQTT 3.1.1 §4.3, §4.4,
 * §4.6). It outlives the connection when the session does.
 */
export class Outgoing {
  /** Messages left out because too many wait. */
  private dropped = 0;
  private readonly limits: OutgoingLimits;
  private readonly total: OutgoingTotal;
  private readonly counters: BrokerCounters;
  private ended = false;
  private connection: OutgoingConnection | undefined;
  /** In the order in which they were sent. */
  private readonly inFlight = new Map<number, InFlight>();
  /** Packet identifiers in flight that this connection has not been sent yet, from `resendHead` on. */
  private resend: number[] = [];
  private resendHead = 0;
  /** What is to be sent, from `head` on. */
  private waiting: Waiting[] = [];
  private head = 0;
  /** Bytes of all that waits or is in flight. */
  private heldBytes = 0;
  private lastPacketId = 0;

  constructor(limits: OutgoingLimits, total: OutgoingTotal, counters: BrokerCounters) {
    this.limits = limits;
    this.total = total;
    this.counters = counters;
  }

  /** How much is on its way to the client; bytes are those of what waits and of what is not acknowledged. */
  describe(): { waiting: number; waitingBytes: number; unacknowledged: number; dropped: number } {
    return {
      waiting: this.waiting.length - this.head,
      waitingBytes: this.heldBytes,
      unacknowledged: this.inFlight.size,
      dropped: this.dropped,
    };
  }

  /** Takes a message; its QoS is the one to send it with. */
  offer(message: Message): void {
    if (this.ended || (this.connection === undefined && message.qos === 0)) return;
    const bytes = sizeOf(message);
    const limit = this.checkRoom(bytes);
    if (limit !== undefined) {
      this.dropped += 1;
      this.counters.deliveriesDropped += 1;
      this.counters.limits[limit] += 1;
      this.connection?.closeSlowReader();
      return;
    }
    this.waiting.push({ message, bytes });
    this.hold(bytes);
    this.pump();
  }

  /** The bound that allows no message of this size now, or undefined. */
  private checkRoom(bytes: number): LimitName | undefined {
    const { connection, heldBytes, limits, total } = this;
    if (connection === undefined && this.waiting.length - this.head >= limits.maxMessages) {
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
  offerRetained(messages: readonly Message[]): void {
    if (this.waiting.length - this.head + messages.length > maxRetainedWaiting) {
      this.counters.limits['outgoing-bytes'] += 1;
      this.connection?.closeSlowReader();
      return;
    }
    for (const message of messages) this.waiting.push({ message, bytes: 0 });
    this.pump();
  }

  /** The client is connected: what it did not acknowledge is sent again [MQTT-4.4.0-1], then what waits. */
  attach(connection: OutgoingConnection): void {
    this.connection = connection;
    this.resend = [...this.inFlight.keys()];
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
    this.waiting = [];
    this.head = 0;
    this.inFlight.clear();
    this.hold(-this.heldBytes);
  }

  /**
   * PUBACK, PUBREC or PUBCOMP of the client; for a packet identifier that is not in use PUBREC is answered, so that the
   * exchange ends, and the others have no effect.
   */
  onAcknowledge(type: PacketType, packetId: number): CloseReason | undefined {
    const entry = this.inFlight.get(packetId);
    if (entry !== undefined && !isExpected(type, entry)) return 'wrong-acknowledgement';
    if (type === PacketType.PUBREC) {
      if (entry !== undefined) {
        entry.message = undefined;
        this.release(entry);
      }
      const { connection } = this;
      connection?.write(connection.codec.encodeAcknowledge(PacketType.PUBREL, packetId));
    } else if (entry !== undefined) {
      this.release(entry);
      this.inFlight.delete(packetId);
      this.pump();
    }
    return undefined;
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
      const next = this.waiting[this.head];
      if (next === undefined || (next.message.qos > 0 && this.inFlight.size >= maxInFlight)) break;
      this.head += 1;
      this.send(connection, next);
    }
    if (this.head === this.waiting.length || this.head >= 1_024) {
      this.waiting = this.waiting.slice(this.head);
      this.head = 0;
    }
  }

  /** Sends again what the client did not acknowledge before it reconnected, as fast as it takes it. */
  private pumpResend(connection: OutgoingConnection): void {
    while (this.connection === connection && this.resendHead < this.resend.length) {
      if (connection.unsentBytes >= socketBytes) return;
      const packetId = this.resend[this.resendHead] as number;
      this.resendHead += 1;
      const entry = this.inFlight.get(packetId);
      if (entry === undefined) continue;
      const { message, qos } = entry;
      if (message !== undefined) countMessage(this.counters.sent, qos, message.payload.length);
      connection.write(
        message === undefined
          ? connection.codec.encodeAcknowledge(PacketType.PUBREL, packetId)
          : connection.codec.encodePublish(message, { qos, packetId, dup: true }),
      );
    }
    this.resend = [];
  }

  private send(connection: OutgoingConnection, { message, bytes }: Waiting): void {
    const { qos } = message;
    countMessage(this.counters.sent, qos, message.payload.length);
    let packetId = 0;
    if (qos > 0) {
      packetId = this.nextPacketId();
      this.inFlight.set(packetId, { message, qos, bytes });
    } else {
      this.hold(-bytes);
    }
    connection.write(connection.codec.encodePublish(message, { qos, packetId, dup: false }));
  }

  /** A packet identifier that is not in use [MQTT-2.3.1-4]; there are more than `maxInFlight`. */
  private nextPacketId(): number {
    do this.lastPacketId = this.lastPacketId === 65_535 ? 1 : this.lastPacketId + 1;
    while (this.inFlight.has(this.lastPacketId));
    return this.lastPacketId;
  }
}

/** PUBREC may come again, PUBCOMP only after it [MQTT-4.3.3-1]. */
function isExpected(type: PacketType, { qos, message }: InFlight): boolean {
  if (qos === 1) return type === PacketType.PUBACK;
  return type === PacketType.PUBREC || (type === PacketType.PUBCOMP && message === undefined);
}

/** What a message takes in memory beside topic and payload, about. */
const overheadBytes = 64;

function sizeOf(message: Message): number {
  return overheadBytes + message.topic.length + message.payload.length;
}
