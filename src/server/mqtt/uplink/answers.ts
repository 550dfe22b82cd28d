import type { StoredPlace } from '../../forward/pub-ack.js';
import { closeReasons, type MessageRefusal } from '../protocol/close-reason.js';
import { type Codec, unknownPacketId } from '../protocol/codec.js';
import { PacketType } from '../protocol/packet-type.js';

/** The connection of a client that is answered. */
interface Answering {
  readonly codec: Codec;
  readonly isConnected: boolean;
  readonly socket: { acknowledge(type: PacketType, packetId: number): void };
  /** Adds an answer to what leaves at the end of this turn. */
  reply(packet: Buffer): void;
}

/** The answers to what one connection publishes: PUBACK, PUBREC and PUBCOMP, and how many are still owed (MQTT 5.0 §4.9). */
export class Answers {
  private readonly connection: Answering;
  /** Messages of QoS 1 and 2 that the client has no final answer to. */
  private owed = 0;

  constructor(connection: Answering) {
    this.connection = connection;
  }

  /** Another message has come; answers how many are owed now. */
  note(): number {
    this.owed += 1;
    return this.owed;
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
  refuse(type: PacketType, packetId: number, reason: MessageRefusal): void {
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

  private settle(): void {
    if (this.owed > 0) this.owed -= 1;
  }
}
