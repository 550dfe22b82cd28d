import type { CloseReason } from '../protocol/close-reason.js';
import type { Codec, Publish } from '../protocol/codec.js';
import { PacketType } from '../protocol/packet-type.js';
import type { Client } from '../sessions/client.js';
import type { ReceivedGenerations } from '../sessions/received-generations.js';
import type { Answers } from './answers.js';
import type { PublishOwner } from './uplink-publish.js';

/** The QoS 2 exchanges of one connection: the names of their messages, a PUBLISH that comes again, and PUBREL. */
export class UplinkExchanges {
  private readonly client: Client;
  private readonly codec: Codec;
  private readonly answers: Answers;
  private readonly nextMessageId: () => string;
  /** Those that an earlier connection began and this one has not counted; undefined: there were none. */
  private readonly earlier: Set<number> | undefined;

  constructor(
    client: Client,
    { codec, answers }: { readonly codec: Codec; readonly answers: Answers },
    nextMessageId: () => string,
  ) {
    this.client = client;
    this.codec = codec;
    this.answers = answers;
    this.nextMessageId = nextMessageId;
    const { exchanges } = client;
    this.earlier = exchanges.size > 0 ? new Set(exchanges.packetIds()) : undefined;
  }

  /** The name of a QoS 2 message for JetStream's duplicate window. */
  identify(publish: Publish): string {
    const { packetId } = publish;
    const { stored, received } = this.client;
    if (stored === undefined || received === undefined) return this.nextMessageId();
    const generation = received.find(packetId, isRepeated(publish));
    if (generation === undefined) throw new Error('a QoS 2 exchange begins before its generation is stored');
    received.begin(packetId, generation);
    return `${stored.id}.${generation}.${packetId}`;
  }

  /**
   * Whether a QoS 2 PUBLISH can be processed now: its exchange has a name that no other message had. If not, the
   * connection's `onRoom` is called when it can.
   */
  isReady(packet: Buffer, bodyOffset: number): boolean {
    const { received, exchanges, stored } = this.client;
    if (received === undefined) return true;
    // What is known here of its exchanges may be what was before another replica had the session.
    if (received.isRaising || stored?.isClaimed === false) return false;
    const publish = this.codec.decodePublish(packet, bodyOffset);
    if (typeof publish === 'string' || exchanges.get(publish.packetId) !== undefined) return true;
    if (received.find(publish.packetId, isRepeated(publish)) !== undefined) return true;
    void this.raise(received);
    return false;
  }

  /** Stores the next generation. @returns false: the session is not this connection's any more. */
  private async raise(received: ReceivedGenerations): Promise<boolean> {
    const { client } = this;
    received.raise(client.exchanges.packetIds());
    received.isRaising = true;
    const isStored = (await client.stored?.persist()) === true;
    received.isRaising = false;
    client.connection?.onRoom();
    return isStored;
  }

  /**
   * A packet identifier whose exchange goes on: never forwarded again, answered in its turn once it is stored.
   *
   * @param uplink that of this connection, which is to answer.
   * @returns false: there is no such exchange.
   */
  resume(packetId: number, uplink: PublishOwner): boolean {
    const exchange = this.client.exchanges.get(packetId);
    if (exchange === undefined) return false;
    // One PUBCOMP answers all copies: of those of one connection only the first counts (MQTT 5.0 §4.9).
    if (this.earlier?.delete(packetId) !== true) this.answers.settle();
    if (exchange === 'answered') {
      this.answers.add({ qos: 2, packetId, stored: true, exchanges: undefined });
    } else if (exchange.uplink !== uplink) {
      exchange.uplink = uplink;
      this.answers.add(exchange);
    }
    this.answers.answerStored();
    return true;
  }

  /** PUBREL ends an exchange [MQTT-4.3.3-2]. */
  release(packetId: number): CloseReason | undefined {
    const exchange = this.client.exchanges.get(packetId);
    if (exchange !== undefined && exchange !== 'answered') return 'early-pubrel';
    const { client } = this;
    client.exchanges.end(packetId);
    this.earlier?.delete(packetId);
    const isOpenElsewhere = client.received?.mayBeOpen(packetId) === true;
    const answer = () => {
      if (exchange === undefined && !isOpenElsewhere) this.answers.answerUnknown(packetId);
      else this.answers.acknowledge(PacketType.PUBCOMP, packetId);
    };
    const { received, stored } = client;
    if (received === undefined || stored === undefined) {
      answer();
      return undefined;
    }
    // After PUBCOMP the client may give the identifier to another message: every replica has to know.
    received.complete(packetId);
    const isLast = client.exchanges.size === 0 && received.knowsAll && !received.isRaising;
    const isStored = isLast ? this.raise(received) : stored.persist();
    void isStored.then((done) => {
      if (done) answer();
    });
    return undefined;
  }

  /**
   * Answers a refusal, which ends its exchange: the client may give the identifier to another message then. That must not have
   * the same name, under which another replica may have stored the one that is refused: every replica has to know.
   */
  answerEnded(answer: { readonly packetId: number; stored: boolean }): void {
    const { received, stored } = this.client;
    if (received === undefined || stored === undefined) {
      this.answers.answer(answer);
      return;
    }
    received.complete(answer.packetId);
    void stored.persist().then((done) => {
      if (done) this.answers.answer(answer);
    });
  }
}

/** Its sender says that it may have come before (DUP). */
export function isRepeated({ packet }: Publish): boolean {
  return ((packet[0] as number) & 0b1000) !== 0;
}
