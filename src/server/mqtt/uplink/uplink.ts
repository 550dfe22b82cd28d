import { type Forwarder, headerBytesOf, natsBytesOf } from '../../forward/forwarder.js';
import { encodeProperties } from '../../forward/mqtt-headers.js';
import type { StoredPlace } from '../../forward/pub-ack.js';
import type { Policy } from '../admission/authorize.js';
import type { BrokerCounters } from '../live/counters.js';
import type { LimitName } from '../live/limit-names.js';
import type { CloseReason } from '../protocol/close-reason.js';
import type { Codec, Publish, Will } from '../protocol/codec.js';
import { isMqttText } from '../protocol/field.js';
import { PacketType, type QoS } from '../protocol/packet-type.js';
import { checkTopic, checkTopicSize, type TopicLimits } from '../protocol/topics.js';
import type { Client, DeviceClients } from '../sessions/client.js';
import type { Exchanges } from '../sessions/exchanges.js';
import { expiryOf, type Message } from '../sessions/message.js';
import type { TurnQueue } from '../transport/turn-queue.js';
import type { Answers } from './answers.js';
import { PropertiesReader, type ReadProperties } from './publish-properties.js';
import { RecentRoutes } from './recent-routes.js';
import type { Addressing, Route } from './route.js';
import { hasTraceparent, newTraceparentLine } from './trace-context.js';
import { type PublishOwner, UplinkPublish } from './uplink-publish.js';

/** Something that a client waits to be answered with PUBACK or PUBREC, when it is stored and its turn has come. */
interface Awaited {
  readonly qos: QoS;
  readonly packetId: number;
  readonly stored: boolean;
  readonly exchanges: Exchanges<UplinkPublish> | undefined;
  /** It is answered with a refusal; undefined: it is stored, or will be. */
  readonly refusal?: CloseReason | undefined;
  /** PUBACK or PUBREC tells it. */
  readonly place?: StoredPlace | undefined;
}

/** What every client's uplink shares. */
export interface UplinkServices {
  readonly forwarder: Forwarder;
  readonly maxInFlightPerClient: number;
  readonly maxInFlightBytesPerClient: number;
  /** QoS 2 exchanges that a client may have begun and not ended. */
  readonly maxExchangesPerClient: number;
  readonly topicLimits: TopicLimits;
  /** Who publishes outside its policy is disconnected, also where it could be answered. */
  readonly closesDenied: boolean;
  /** Whether the stream takes times to live. */
  takesTtl(): boolean;
  /** A message without `traceparent` is given one. */
  readonly makesTraces: boolean;
  /** Wills that wait for room, of all clients. */
  readonly waitingWills: { count: number; bytes: number };
  readonly counters: BrokerCounters;
  readonly turns: TurnQueue;
  /** Gives a message to the MQTT subscribers of this replica. */
  deliver(message: Message): void;
  /** A replica-wide unique id for JetStream's duplicate window. */
  nextMessageId(): string;
}

/** What the uplink needs of its connection. */
export interface UplinkConnection {
  /** `performance.now()` of the last bytes received. */
  readonly lastReadMs: number;
  readonly codec: Codec;
  /** Topic aliases that the client may give. */
  readonly aliasesTaken: number;
  /** The client wants to know where its messages are stored. */
  readonly wantsReceipts: boolean;
  readonly answers: Answers;
  readonly report: {
    /** A message is refused; the connection goes on where its version has an answer. */
    publishRefused(reason: CloseReason, topic: string, said?: string): void;
  };
  /** Something was stored: there may be room for a message that waits. */
  onRoom(): void;
  close(reason: CloseReason, fields?: Readonly<Record<string, unknown>>): void;
}

const lineEnd = Buffer.from('\r\n');
/** Longer header lines are not remembered. */
const maxRememberedBytes = 4_096;
/** JetStream stores no message with more. */
const maxHeaderBytes = 65_535;
/** What a client is told in PUBACK or PUBREC, where its version can say it. */
const answerable: ReadonlySet<CloseReason> = new Set<CloseReason>([
  'publish-denied',
  'topic-too-long',
  'topic-too-deep',
  'payload-not-utf8',
  'packet-too-large',
]);
/** A device takes at most one message for so many that are free; the same for bytes. */
const deviceShare = 8;
/** Most bytes of wills that wait for room; further ones are dropped and counted. */
const maxWaitingWillBytes = 8_388_608;
const willOverheadBytes = 2_048;

/**
 * The path of one connection's messages: PUBLISH → policy → subject → forwarder → stored → PUBACK or PUBREC, in the
 * order in which they came [MQTT-4.6.0-2] [MQTT-4.6.0-3].
 */
export class Uplink implements PublishOwner {
  private readonly services: UplinkServices;
  private readonly connection: UplinkConnection;
  readonly client: Client;
  private policy: Policy;
  private addressing: Addressing;
  /** Messages to be answered, in order of arrival, from `head` on. */
  private waiting: Awaited[] = [];
  private head = 0;
  readonly routes = new RecentRoutes();
  /** There is none before the first message that has properties. */
  private properties: PropertiesReader | undefined;
  private last:
    | { readonly route: Route; readonly lines: Uint8Array; readonly headers: Uint8Array }
    | undefined;

  constructor(
    services: UplinkServices,
    connection: UplinkConnection,
    start: { client: Client; policy: Policy; addressing: Addressing },
  ) {
    this.services = services;
    this.connection = connection;
    this.client = start.client;
    this.policy = start.policy;
    this.addressing = start.addressing;
  }

  /**
   * The bound that allows no further message now, or undefined: of all clients, and of this client and device when it is
   * to be confirmed.
   */
  checkRoom(confirm: boolean): LimitName | undefined {
    const { client } = this;
    // The will of an earlier connection comes before what this one sends.
    if (confirm && client.wills.length > 0) this.sendWills();
    // What is answered in its turn counts too: repeats of a QoS 2 message that PUBREC has answered are not in flight.
    const unanswered = this.waiting.length - this.head;
    return this.checkBounds(confirm, Math.max(client.lane.inFlight, unanswered));
  }

  private checkBounds(confirm: boolean, inFlightOfClient: number): LimitName | undefined {
    const { forwarder, maxInFlightPerClient, maxInFlightBytesPerClient } = this.services;
    if (forwarder.fullFor(confirm)) return 'in-flight';
    if (!confirm) return undefined;
    const { client } = this;
    if (inFlightOfClient >= maxInFlightPerClient) return 'in-flight-per-client';
    if (client.inFlightBytes >= maxInFlightBytesPerClient) return 'in-flight-bytes-per-client';
    const { inFlight, inFlightBytes } = client.device;
    // A share of what is free, and not of all: however many devices fill their share, there is room for another.
    const overShare =
      inFlight * deviceShare >= forwarder.free || inFlightBytes * deviceShare >= forwarder.freeBytes;
    return overShare && inFlight > 0 ? 'in-flight-per-device' : undefined;
  }

  /** When the client's last bytes arrived, in microseconds modulo 2^32. */
  get receivedUs(): number {
    return (this.connection.lastReadMs * 1_000) | 0;
  }

  /** The policy of the device has changed: every topic is held against the new one. */
  changePolicy(policy: Policy, addressing: Addressing): void {
    this.policy = policy;
    this.addressing = addressing;
    this.routes.clear();
  }

  get device(): DeviceClients {
    return this.client.device;
  }

  /** Takes a PUBLISH for which there is room. Answers why the connection must close, if it must. */
  receive(publish: Publish): CloseReason | undefined {
    const { packet, topicStart, topicEnd, retain } = publish;
    const read = publish.propertiesEnd > publish.propertiesStart ? this.readProperties(publish) : undefined;
    if (typeof read === 'string') return this.refuseOrClose(publish, read);
    const alias = read?.topicBytes;
    const route =
      alias === undefined
        ? this.routeOf(packet, topicStart, topicEnd, retain)
        : this.routeOf(alias, 0, alias.length, retain);
    if (typeof route === 'string') return this.refuseOrClose(publish, route, alias);
    if (publish.qos === 2 && this.resume(publish.packetId)) return undefined;

    const { exchanges } = this.client;
    // A client of 3.1.1 cannot be told to wait, and the PUBREL that would make room comes behind what is read.
    if (publish.qos === 2 && exchanges.size >= this.services.maxExchangesPerClient) {
      return 'too-many-exchanges';
    }
    const exchange = publish.qos === 2 ? { messageId: this.services.nextMessageId(), exchanges } : undefined;
    const message = new UplinkPublish(this, route, publish, exchange);
    message.wantsReceipt = this.connection.wantsReceipts;
    message.mayTellRefusal = this.connection.codec.explains;
    message.tellsRefusal = message.mayTellRefusal && this.policy.onRefusal === 'answer';
    if (read !== undefined) {
      message.headers = this.headersOf(route, read.headers);
      if (this.policy.localDelivery) message.properties = read.properties;
      message.expiresAtMs = expiryOf(read.properties);
    }
    if (this.services.makesTraces && !hasTraceparent(read?.properties))
      message.headers = addLines(message.headers, Buffer.from(newTraceparentLine()));
    const tooManyHeaders = read !== undefined && headerBytesOf(message) > maxHeaderBytes;
    if (natsBytesOf(message) > this.services.forwarder.maxPayloadBytes || tooManyHeaders)
      return this.refuseOrClose(publish, 'packet-too-large', alias);
    if (publish.qos === 2 && !exchanges.begin(message)) return 'too-many-exchanges-in-all';
    if (publish.qos > 0) this.waiting.push(message);
    else if (this.policy.localDelivery) this.deliver(message);
    message.publish(this.client.lane);
    return undefined;
  }

  /** What the client's version has an answer for is refused, in its turn; else the connection must close. */
  private refuseOrClose(
    publish: Publish,
    reason: CloseReason,
    alias: Buffer = publish.packet.subarray(publish.topicStart, publish.topicEnd),
  ): CloseReason | undefined {
    const { qos, packetId } = publish;
    const { connection } = this;
    if (!answerable.has(reason)) return reason;
    // What PUBREC has taken it takes again, whatever holds by now [MQTT 5.0 MQTT-4.3.3-10].
    if (qos === 2 && connection.codec.explains && this.resume(packetId)) return undefined;
    connection.report.publishRefused(reason, alias.toString('utf8'));
    const closes = reason === 'publish-denied' && this.services.closesDenied;
    if (closes || !connection.codec.explains) return reason;
    if (qos > 0) {
      this.waiting.push({ qos, packetId, stored: true, exchanges: undefined, refusal: reason });
      this.answerStored();
    }
    return undefined;
  }

  /** PUBREL ends a QoS 2 exchange [MQTT-4.3.3-2]. */
  release(packetId: number): CloseReason | undefined {
    const exchange = this.client.exchanges.get(packetId);
    if (exchange !== undefined && exchange !== 'answered') return 'early-pubrel';
    this.client.exchanges.end(packetId);
    if (exchange === undefined) this.connection.answers.answerUnknown(packetId);
    else this.connection.answers.acknowledge(PacketType.PUBCOMP, packetId);
    return undefined;
  }

  /** Sends the will [MQTT-3.1.2-8], within the bounds: it waits for room, of its client too, behind what that one sent. */
  publishWill(will: Will): void {
    const { waitingWills, counters } = this.services;
    const { lane, wills } = this.client;
    const topic = Buffer.from(will.topic, 'utf8');
    const route = this.routeOf(topic, 0, topic.length, will.retain);
    if (typeof route === 'string') return;
    const exchange = will.qos === 2 ? { messageId: this.services.nextMessageId() } : undefined;
    const message = new UplinkPublish(this, route, { ...will, packetId: 0 }, exchange);
    if (will.properties !== undefined) {
      const lines = encodeProperties(will.properties, { ttl: this.takesTtl });
      message.headers = this.headersOf(route, Buffer.from(lines));
      message.properties = will.properties;
      message.expiresAtMs = expiryOf(will.properties);
    }
    message.mayTellRefusal = this.connection.codec.explains;
    message.tellsRefusal = message.mayTellRefusal && this.policy.onRefusal === 'answer';
    const bytes = message.headers.length + message.payload.length + willOverheadBytes;
    const limit = this.checkBounds(message.confirm, lane.inFlight);
    const waits = limit !== undefined || wills.length > 0;
    if (waits && waitingWills.bytes + bytes > maxWaitingWillBytes) {
      counters.willsDropped += 1;
      counters.limits['waiting-wills'] += 1;
      return;
    }
    if (will.qos === 0 && this.policy.localDelivery) this.deliver(message);
    if (!waits) {
      message.publish(lane);
      return;
    }
    waitingWills.count += 1;
    waitingWills.bytes += bytes;
    wills.push({ message, lane, bytes });
    // Others of the client wait for the first one.
    if (limit !== undefined && wills.length === 1) this.awaitRoomForWills(limit);
  }

  /** Sends the client's waiting wills as far as there is room; answers the bound at which the next one waits. */
  private sendWills(): LimitName | undefined {
    const { waitingWills } = this.services;
    const { wills } = this.client;
    for (let first = wills[0]; first !== undefined; first = wills[0]) {
      const { message, lane, bytes } = first;
      const limit = this.checkBounds(message.confirm, lane.inFlight);
      if (limit !== undefined) return limit;
      wills.shift();
      waitingWills.count -= 1;
      waitingWills.bytes -= bytes;
      if (message.renew() === undefined) message.publish(lane);
      else this.services.counters.willsDropped += 1;
    }
    return undefined;
  }

  private awaitRoomForWills(limit: LimitName): void {
    const goOn = () => {
      const next = this.sendWills();
      if (next !== undefined) this.awaitRoomForWills(next);
    };
    // At the other bounds something of the device is in flight, and makes room when it is settled.
    if (limit !== 'in-flight') this.device.awaitingRoom.add({ onRoom: goOn });
    else this.services.forwarder.whenReady(goOn, this.client.wills[0]?.message.confirm);
  }

  /** A message was stored. */
  settle(message: UplinkPublish): void {
    const { counters, turns } = this.services;
    // A will has no packet identifier, and did not arrive when its connection ended.
    if (message.packetId !== 0)
      counters.ackLatency.record((((turns.nowMs() * 1_000) | 0) - message.receivedUs) | 0);
    if (this.policy.localDelivery) this.deliver(message);
    this.answerStored();
  }

  answerRefused(message: UplinkPublish, detail: string): void {
    const { refusal = 'refused-by-nats', topic } = message;
    // A will has no identifier, and nobody to tell.
    if (message.packetId === 0) this.services.counters.willsDropped += 1;
    this.connection.report.publishRefused(refusal, topic, detail);
    this.answerStored();
  }

  /** The client's connection, this one or a later one, may go on. */
  wakeClient(): void {
    this.client.connection?.onRoom();
  }

  /** Answers everything at the head of the queue that is stored: PUBACK and PUBREC are written here and nowhere else. */
  private answerStored(): void {
    const { waiting } = this;
    while (this.head < waiting.length) {
      const first = waiting[this.head] as Awaited;
      if (!first.stored) break;
      const type = first.qos === 1 ? PacketType.PUBACK : PacketType.PUBREC;
      if (first.refusal !== undefined) this.connection.answers.refuse(type, first.packetId, first.refusal);
      else this.connection.answers.acknowledge(type, first.packetId, first.place);
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

  /** A message of this client can never be stored: there is no answer to it but the end of the connection. */
  refuse(reason: CloseReason, fields: Readonly<Record<string, unknown>>): void {
    this.connection.close(reason, fields);
  }

  /** A packet identifier whose exchange goes on: never forwarded again, answered in its turn once it is stored. */
  private resume(packetId: number): boolean {
    const exchange = this.client.exchanges.get(packetId);
    if (exchange === undefined) return false;
    if (exchange === 'answered') {
      this.waiting.push({ qos: 2, packetId, stored: true, exchanges: undefined });
    } else if (exchange.uplink !== this) {
      exchange.uplink = this;
      this.waiting.push(exchange);
    }
    this.answerStored();
    return true;
  }

  private readProperties(publish: Publish): ReadProperties | CloseReason {
    const { connection } = this;
    this.properties ??= new PropertiesReader(connection.codec, {
      topicAliasMaximum: connection.aliasesTaken,
      maxTopicBytes: this.services.topicLimits.maxTopicBytes,
    });
    return this.properties.read(publish, this.takesTtl);
  }

  /** Of the stream of NATS_SUBJECT it is known; a policy's own subject can be another stream's. */
  private get takesTtl(): boolean {
    return this.addressing.batchable && this.services.takesTtl();
  }

  /** The headers of a message with properties; a client sends the same ones again and again. */
  private headersOf(route: Route, lines: Uint8Array): Uint8Array {
    if (lines.length === 0) return route.headers;
    const { last } = this;
    if (last?.route === route && last.lines === lines) return last.headers;
    const headers = addLines(route.headers, lines);
    if (lines.length <= maxRememberedBytes) this.last = { route, lines, headers };
    return headers;
  }

  /** The route of the topic that stands in `packet` from `start` to `end`. */
  private routeOf(packet: Buffer, start: number, end: number, retain: boolean): Route | CloseReason {
    return (
      this.routes.find(packet, start, end, retain) ?? this.makeRoute(packet.subarray(start, end), retain)
    );
  }

  private makeRoute(topicBytes: Buffer, retain: boolean): Route | CloseReason {
    if (!isMqttText(topicBytes)) return 'invalid-utf8';
    const topic = topicBytes.toString('utf8');
    const problem = checkTopic(topic) ?? checkTopicSize(topic, this.services.topicLimits);
    if (problem !== undefined) return problem;
    if (!this.policy.mayPublish(topic)) return 'publish-denied';
    const route = {
      topicBytes: Buffer.from(topicBytes),
      topic,
      retain,
      subject: Buffer.from(this.addressing.subjectOf(topic)),
      headers: this.addressing.headersOf(topic, retain),
      batchable: this.addressing.batchable,
      ackLevel: this.addressing.ackLevel,
    };
    this.routes.add(route);
    return route;
  }

  private deliver(message: UplinkPublish): void {
    const { topic, qos, retain, properties, expiresAtMs } = message;
    // Subscribers' queues may keep the payload for long, and the socket's chunk with it if it were not copied.
    this.services.deliver({
      topic,
      payload: Buffer.from(message.payload),
      qos,
      retain,
      properties,
      expiresAtMs,
      sender: this.client.key,
    });
  }
}

/** Adds lines to a header block, in front of the blank line that ends it. */
function addLines(block: Uint8Array, lines: Uint8Array): Uint8Array {
  return Buffer.concat([block.subarray(0, -lineEnd.length), lines, lineEnd]);
}
