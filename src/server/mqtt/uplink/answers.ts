import type { StoredPlace } from '../../forward/pub-ack.js';
import { closeReasons, type MessageRefusal } from '../protocol/close-reason.js';
import { type Codec, unknownPacketId } from '../protocol/codec.js';
import { PacketType, type QoS } from '../protocol/packet-type.js';
import type { Exchanges } from '../sessions/exchanges.js';
import type { UplinkPublish } from './uplink-publish.js';

/** Something that a client waits to be answered with PUBACK or PUBREC, when it is stored and its turn has come. */
interface Awaited {
  readonly qos: QoS;
  readonly packetId: number;
  readonly stored: boolean;
  readonly exchanges: Exchanges<UplinkPublish> | undefined;
  /** It is answered with a refusal; undefined: it is stored, or will be. */
  readonly refusal?: MessageRefusal | undefined;
  /** PUBACK or PUBREC tells it. */
  readonly place?: StoredPlace | undefined;
}

/** The connection of a client that is answered. */
interface Answering {
  readonly codec: Codec;
  readonly isConnected: boolean;
  readonly socket: { acknowledge(type: PacketType, packetId: number): void };
  /** Adds an answer to what leaves at the end of this turn. */
  reply(packet: Buffer): void;
}

/**
 * The answers to what one connection publishes: PUBACK and PUBREC in the order of arrival [MQTT-4.6.0-2] [MQTT-4.6.0-3], PUBCOMP, and how
 * many are still owed (MQTT 5.0 §4.9).
 */
export class Answers {
  private readonly connection: Answering;
  /** Messages of QoS 1 and 2 that the client has no final answer to. */
  private owed = 0;
  /** Messages to be answered, in order of arrival, from `head` on. */
  private waiting: Awaited[] = [];
  private head = 0;

  constructor(connection: Answering) {
    this.connection = connection;
  }

  /** Another message has come; answers how many are owed now. */
  note(): number {
    this.owed += 1;
    return this.owed;
  }

  /** Messages that wait for PUBACK or PUBREC. */
  get waitingCount(): number {
    return this.waiting.length - this.head;
  }

  /** The message is answered with PUBACK or PUBREC, in its turn. */
  add(message: Awaited): void {
    this.waiting.push(message);
  }

  /** A message of those that were added may be answered, when its turn has come. */
  answer(message: { stored: boolean }): void {
    message.stored = true;
    this.answerStored();
  }

  /** Answers everything at the head of the queue that is stored: PUBACK and PUBREC are written here and nowhere else. */
  answerStored(): void {
    const { waiting } = this;
    while (this.head < waiting.length) {
      const first = waiting[this.head] as Awaited;
      if (!first.stored) break;
      const type = first.qos === 1 ? PacketType.PUBACK : PacketType.PUBREC;
      if (first.refusal !== undefined) this.refuse(type, first.packetId, first.refusal);
      else this.acknowledge(type, first.packetId, first.place);
      if (first.exchanges?.get(first.packetId) === first) first.exchanges.answer(first.packetId);
      this.head += 1;
    }
    if (this.head === waiting.length) {
      this.waiting = [];
      this.head = 0;
    } else if (this.head >= 1_024) {
      this.waiting = waiting.slice(this.head);
      this.head = 0;
    }
  }

  /**
   * Answers PUBACK, PUBREC or PUBCOMP with success.
   *
   * @param place where the message is stored, when the client is to be told.
   */
  acknowledge(type: PacketType, packetId: number, place?: StoredPlace): void {
    const { connection } = this;
    if (!connection.isConnected) return;
    if (type !== PacketType.PUBREC) this.settle();
    if (place === undefined) connection.socket.acknowledge(type, packetId);
    else connection.reply(connection.codec.encodeReceipt(type, packetId, place));
  }

  /** Answers PUBACK or PUBREC with a refusal, which ends the exchange. */
  private refuse(type: PacketType, packetId: number, reason: MessageRefusal): void {
    const { connection } = this;
    if (!connection.isConnected) return;
    this.settle();
    const { codec } = connection;
    const details = { reasonString: closeReasons[reason].why };
    connection.reply(codec.encodeAcknowledge(type, packetId, codec.codeOf(reason, 'puback'), details));
  }

  /** Answers PUBREL of no exchange with PUBCOMP. */
  answerUnknown(packetId: number): void {
    const { connection } = this;
    if (!connection.isConnected) return;
    this.settle();
    connection.reply(connection.codec.encodeAcknowledge(PacketType.PUBCOMP, packetId, unknownPacketId));
  }

  /** One fewer is owed. */
  settle(): void {
    if (this.owed > 0) this.owed -= 1;
  }
}
