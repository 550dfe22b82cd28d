import { type BrokerCounters, countMessage } from '../../live/counters.js';
import type { Codec, Connect, Delivery } from '../../protocol/codec.js';
import { PacketType } from '../../protocol/packet-type.js';
import { countDown, type Message } from './message.js';
import { TopicAliases } from './topic-aliases.js';

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

/** A message for one client. */
export interface OutgoingMessage extends Message {
  /** Of the client's subscriptions that it matches. */
  readonly subscriptionIds?: readonly number[] | undefined;
  /** Called when the session ends before the message was sent, or before QoS 1 was acknowledged: others may have it. */
  readonly handBack?: (() => void) | undefined;
  /** Called when the client has acknowledged it, or does not take it. */
  readonly onSettled?: ((taken: boolean) => void) | undefined;
}

/** Above it nothing more is given to the socket: what waits with the session is counted, what waits there is not. */
const socketBytes = 65_536;

/** Writes messages to one connection of a client: as many and as large as the client takes (MQTT 5.0 §4.9). */
export class DeliveryWriter {
  readonly connection: OutgoingConnection;
  private readonly counters: BrokerCounters;
  /** Undefined: the client takes none. */
  private readonly aliases: TopicAliases | undefined;
  /** Messages of QoS 1 and 2 that the connection was sent and that are not acknowledged. */
  unacknowledged = 0;

  constructor(connection: OutgoingConnection, counters: BrokerCounters) {
    const { topicAliasMaximum } = connection.clientLimits;
    this.connection = connection;
    this.counters = counters;
    this.aliases = topicAliasMaximum === 0 ? undefined : new TopicAliases(topicAliasMaximum);
  }

  /** The client has not taken what was written. */
  get isFull(): boolean {
    return this.connection.unsentBytes >= socketBytes;
  }

  /** How many messages of QoS 1 and 2 the client takes now [MQTT 5.0 MQTT-3.3.4-9]. */
  get quota(): number {
    return this.connection.clientLimits.receiveMaximum - this.unacknowledged;
  }

  release(packetId: number, code = 0): void {
    const { connection } = this;
    connection.write(connection.codec.encodeAcknowledge(PacketType.PUBREL, packetId, code));
  }

  /**
   * The packet of a message, to be sent at once. Undefined when it is larger than the client takes: the message counts as
   * delivered [MQTT 5.0 MQTT-3.1.2-25].
   */
  encode(message: OutgoingMessage, delivery: Delivery): Buffer | undefined {
    const { aliases, counters } = this;
    const { codec, clientLimits } = this.connection;
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
    return packet;
  }
}
