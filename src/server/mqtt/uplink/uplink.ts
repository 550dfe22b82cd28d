import type { Config } from '../../../config.js';
import type { DeadLetters } from '../../forward/dead-letters.js';
import { headerBytesOf, natsBytesOf } from '../../forward/forwarder.js';
import { encodeProperties } from '../../forward/mqtt-headers.js';
import type { LimitName } from '../live/limit-names.js';
import { type CloseReason, isMessageRefusal } from '../protocol/close-reason.js';
import type { Codec, Publish, Will } from '../protocol/codec.js';
import type { TopicLimits } from '../protocol/topics.js';
import type { Client, DeviceClients } from '../sessions/client.js';
import type { DeviceCalls } from '../sessions/commands/device-calls.js';
import { expiryOf, type Message } from '../sessions/delivery/message.js';
import type { TurnQueue } from '../transport/turn-queue.js';
import type { Answers } from './answers.js';
import { PropertiesReader, type ReadProperties } from './publish-properties.js';
import { RefusedMessages } from './refused-messages.js';
import type { Rules } from './route.js';
import { addLines, Routing } from './routing.js';
import { hasTraceparent, newTraceparentLine } from './trace-context.js';
import { isRepeated, UplinkExchanges } from './uplink-exchanges.js';
import { type PublishOwner, UplinkPublish } from './uplink-publish.js';
import { type WillServices, Wills } from './wills.js';

/** What every client's uplink shares. */
export interface UplinkServices extends WillServices {
  readonly config: Pick<
    Config,
    | 'maxInFlightPerClient'
    | 'maxInFlightBytesPerClient'
    | 'maxExchangesPerClient'
    | 'onDeniedPublish'
    | 'traceContext'
  >;
  readonly topicLimits: TopicLimits;
  readonly turns: TurnQueue;
  /** Where refused messages go; undefined: nowhere. */
  readonly deadLetters: DeadLetters | undefined;
  /** Is told what devices publish while somebody waits for an answer. */
  readonly deviceCalls: DeviceCalls;
  /**
   * Gives a message to MQTT subscribers, and retains it when it is to be.
   *
   * @param onKept called when everything that an acknowledgement promises of it is certain.
   * @returns true: it is already, and `onKept` is not called.
   */
  deliver(message: Message, onKept?: () => void): boolean;
  /** A replica-wide unique id for JetStream's duplicate window. */
  nextMessageId(): string;
}

/** What the uplink needs of its connection. */
export interface UplinkConnection {
  readonly silence: {
    /** `performance.now()` of the last bytes received. */
    readonly lastReadMs: number;
  };
  readonly codec: Codec;
  /** The version of MQTT, as people name it. */
  readonly protocol: string;
  /** Topic aliases that the client may give. */
  readonly aliasesTaken: number;
  /** The client wants to know where its messages are stored. */
  readonly wantsReceipts: boolean;
  readonly answers: Answers;
  readonly report: {
    /** A message is refused; the connection goes on where its version has an answer. */
    publishRefused(reason: CloseReason, topic: string, said?: string): void;
  };
  close(reason: CloseReason, fields?: Readonly<Record<string, unknown>>): void;
}

/** JetStream stores no message with more. */
const maxHeaderBytes = 65_535;
/** A device takes at most one message for so many that are free; the same for bytes. */
const deviceShare = 8;

/**
 * The path of one connection's messages: PUBLISH → policy → subject → forwarder → stored → PUBACK or PUBREC, in the
 * order in which they came [MQTT-4.6.0-2] [MQTT-4.6.0-3].
 */
export class Uplink implements PublishOwner {
  private readonly services: UplinkServices;
  private readonly connection: UplinkConnection;
  private readonly answers: Answers;
  readonly client: Client;
  readonly routing: Routing;
  readonly refused: RefusedMessages | undefined;
  private readonly wills: Wills;
  /** There is none before the first message that has properties. */
  private properties: PropertiesReader | undefined;
  readonly exchanges: UplinkExchanges;

  constructor(
    services: UplinkServices,
    connection: UplinkConnection,
    start: { client: Client; rules: Rules },
  ) {
    this.services = services;
    this.connection = connection;
    this.answers = connection.answers;
    this.client = start.client;
    this.exchanges = new UplinkExchanges(start.client, connection, services.nextMessageId);
    this.routing = new Routing(start.rules, services.topicLimits);
    const { deadLetters } = services;
    this.refused = deadLetters && new RefusedMessages(deadLetters, start.client, connection.protocol);
    this.wills = new Wills(services, start.client, (confirm, inFlight) =>
      this.checkBounds(confirm, inFlight),
    );
  }

  /**
   * The bound that allows no further message now, or undefined: of all clients, and of this client and device when it is
   * to be confirmed.
   */
  checkRoom(confirm: boolean): LimitName | undefined {
    const { client } = this;
    // The will of an earlier connection comes before what this one sends.
    if (confirm && client.wills.length > 0) this.wills.send();
    // What is answered in its turn counts too: repeats of a QoS 2 message that PUBREC has answered are not in flight.
    return this.checkBounds(confirm, Math.max(client.lane.inFlight, this.answers.waitingCount));
  }

  private checkBounds(confirm: boolean, inFlightOfClient: number): LimitName | undefined {
    const { forwarder, config } = this.services;
    if (forwarder.fullFor(confirm)) return 'in-flight';
    if (!confirm) return undefined;
    const { client } = this;
    if (inFlightOfClient >= config.maxInFlightPerClient) return 'in-flight-per-client';
    if (client.inFlightBytes >= config.maxInFlightBytesPerClient) return 'in-flight-bytes-per-client';
    const { inFlight, inFlightBytes } = client.device;
    // A share of what is free, and not of all: however many devices fill their share, there is room for another.
    const overShare =
      inFlight * deviceShare >= forwarder.free || inFlightBytes * deviceShare >= forwarder.freeBytes;
    return overShare && inFlight > 0 ? 'in-flight-per-device' : undefined;
  }

  get receivedUs(): number {
    return (this.connection.silence.lastReadMs * 1_000) | 0;
  }

  get device(): DeviceClients {
    return this.client.device;
  }

  /** Takes a PUBLISH for which there is room. Answers why the connection must close, if it must. */
  receive(publish: Publish): CloseReason | undefined {
    const { packet, topicStart, topicEnd, retain } = publish;
    const read = publish.propertiesEnd > publish.propertiesStart ? this.readProperties(publish) : undefined;
    if (typeof read === 'string') return this.refuseOrClose(publish, read, undefined);
    const alias = read?.topicBytes;
    const route =
      alias === undefined
        ? this.routing.find(packet, topicStart, topicEnd, retain)
        : this.routing.find(alias, 0, alias.length, retain);
    if (typeof route === 'string') return this.refuseOrClose(publish, route, read);
    if (publish.qos === 2 && this.exchanges.resume(publish.packetId, this)) return undefined;

    const { exchanges } = this.client;
    // A client cannot be made to wait: the PUBREL that would make room comes behind what is read. MQTT 5 gives a client
    // that comes back its whole quota (§4.9), however many exchanges of its session are open.
    if (publish.qos === 2 && exchanges.size >= this.services.config.maxExchangesPerClient)
      return this.refuseOrClose(publish, 'too-many-exchanges', read);
    const exchange =
      publish.qos === 2 ? { messageId: this.exchanges.identify(publish), exchanges } : undefined;
    const message = new UplinkPublish(this, route, publish, exchange);
    // Perhaps it is stored, by another replica.
    message.repeated = exchange !== undefined && isRepeated(publish);
    message.wantsReceipt = this.connection.wantsReceipts;
    message.mayTellRefusal = this.connection.codec.explains;
    // Then a refusal of now is not one of what was sent then: it is sent until the stream says that it is stored.
    if (message.repeated && this.client.received?.mayBeOpen(publish.packetId) === true)
      message.mayTellRefusal = false;
    message.tellsRefusal = message.mayTellRefusal && this.routing.policy.onRefusal === 'answer';
    if (read !== undefined) {
      message.headers = this.routing.headersOf(route, read.headers);
      if (this.routing.policy.localDelivery) message.properties = read.properties;
      message.expiresAtMs = expiryOf(read.properties);
    }
    if (this.services.config.traceContext === 'make' && !hasTraceparent(read?.properties))
      message.headers = addLines(message.headers, Buffer.from(newTraceparentLine()));
    const tooManyHeaders = read !== undefined && headerBytesOf(message) > maxHeaderBytes;
    if (natsBytesOf(message) > this.services.forwarder.maxPayloadBytes || tooManyHeaders)
      return this.refuseOrClose(publish, 'packet-too-large', read);
    if (publish.qos === 2 && !exchanges.begin(message))
      return this.refuseOrClose(publish, 'too-many-exchanges-in-all', read);
    const { deviceCalls } = this.services;
    if (deviceCalls.pending > 0)
      deviceCalls.onPublish(this.device.id, route.topic, message.payload, read?.properties);
    if (publish.qos > 0) this.answers.add(message);
    else if (this.routing.policy.localDelivery) this.deliver(message);
    message.publish(this.client.lane);
    return undefined;
  }

  /** What the client's version has an answer for is refused, in its turn; else the connection must close. */
  private refuseOrClose(
    publish: Publish,
    reason: CloseReason,
    read: ReadProperties | undefined,
  ): CloseReason | undefined {
    const { qos, packetId, packet, topicStart, topicEnd } = publish;
    const { connection } = this;
    if (!isMessageRefusal(reason)) return reason;
    // What PUBREC has taken it takes again, whatever holds by now [MQTT 5.0 MQTT-4.3.3-10].
    if (qos === 2 && connection.codec.explains && this.exchanges.resume(packetId, this)) return undefined;
    this.device.ledger.receive();
    this.device.ledger.refuse(reason);
    const topic = (read?.topicBytes ?? packet.subarray(topicStart, topicEnd)).toString('utf8');
    connection.report.publishRefused(reason, topic);
    this.refused?.keepUnrouted({ ...publish, topic, properties: read?.properties }, reason);
    const closes = reason === 'publish-denied' && this.services.config.onDeniedPublish === 'disconnect';
    if (closes || !connection.codec.explains) return reason;
    this.services.counters.publishesRefused[reason] += 1;
    if (qos > 0) {
      const answer = { qos, packetId, stored: false, exchanges: undefined, refusal: reason };
      this.answers.add(answer);
      // One that comes for the first time has given its name to nobody.
      if (qos === 2 && isRepeated(publish)) this.exchanges.answerEnded(answer);
      else this.answers.answer(answer);
    }
    return undefined;
  }

  /** Publishes the will of the connection that ends, or leaves it to the client's session until its delay is over (MQTT 5.0 §3.1.3.2.2). */
  leaveWill(will: Will): void {
    const { client } = this;
    const delaySec = Math.min(will.delaySec, client.sessionExpirySec);
    if (delaySec === 0) {
      this.publishWill(will);
      return;
    }
    client.delayedWill = {
      dueAtMs: performance.now() + delaySec * 1_000,
      publish: () => {
        const { rules } = client.device;
        if (rules !== undefined) this.routing.change(rules);
        this.publishWill(will);
      },
    };
  }

  /** Sends the will [MQTT-3.1.2-8], within the bounds: it waits for room, of its client too, behind what that one sent. */
  private publishWill(will: Will): void {
    const topic = Buffer.from(will.topic, 'utf8');
    const route = this.routing.find(topic, 0, topic.length, will.retain);
    if (typeof route === 'string') {
      this.refused?.keepUnrouted(will, route);
      return;
    }
    const exchange = will.qos === 2 ? { messageId: this.services.nextMessageId() } : undefined;
    const message = new UplinkPublish(this, route, { ...will, packetId: 0 }, exchange);
    if (will.properties !== undefined) {
      const lines = encodeProperties(will.properties, { ttl: this.takesTtl });
      message.headers = this.routing.headersOf(route, Buffer.from(lines));
      message.properties = will.properties;
      message.expiresAtMs = expiryOf(will.properties);
    }
    message.mayTellRefusal = this.connection.codec.explains;
    message.tellsRefusal = message.mayTellRefusal && this.routing.policy.onRefusal === 'answer';
    if (this.wills.publish(message) && will.qos === 0 && this.routing.policy.localDelivery)
      this.deliver(message);
  }

  pass(message: UplinkPublish): boolean {
    return !this.routing.policy.localDelivery || this.deliver(message, () => message.onKept());
  }

  settle(message: UplinkPublish): void {
    const { counters, turns } = this.services;
    // A will has no packet identifier, and did not arrive when its connection ended.
    if (message.packetId !== 0)
      counters.ackLatency.record((((turns.nowMs() * 1_000) | 0) - message.receivedUs) | 0);
    this.answers.answerStored();
  }

  answerRefused(message: UplinkPublish, detail: string): void {
    const { refusal = 'refused-by-nats', topic } = message;
    // A will has no identifier, and nobody to tell.
    if (message.packetId === 0) this.services.counters.willsDropped += 1;
    this.services.counters.publishesRefused[refusal] += 1;
    this.device.ledger.refuse(refusal);
    this.connection.report.publishRefused(refusal, topic, detail);
    if (message.qos === 2 && message.packetId !== 0) this.exchanges.answerEnded(message);
    else this.answers.answer(message);
  }

  wakeClient(): void {
    this.client.connection?.onRoom();
  }

  get isThere(): boolean {
    const current: unknown = this.client.connection;
    return current === this.connection;
  }

  /** A message of this client is not stored: there is no answer to it but the end of the connection. */
  refuse(message: UplinkPublish, reason: CloseReason, fields: Readonly<Record<string, unknown>>): void {
    if (message.packetId === 0) this.services.counters.willsDropped += 1;
    this.device.ledger.refuse(reason);
    this.connection.close(reason, fields);
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
    return this.routing.addressing.batchable && this.streamTakesTtl;
  }

  get streamTakesTtl(): boolean {
    return this.services.forwarder.takesTtl;
  }

  private deliver(message: UplinkPublish, onKept?: () => void): boolean {
    const { topic, qos, retain, properties, expiresAtMs } = message;
    // Subscribers' queues may keep the payload for long, and the socket's chunk with it if it were not copied.
    const payload = Buffer.from(message.payload);
    const sender = this.client.key;
    return this.services.deliver({ topic, payload, qos, retain, properties, expiresAtMs, sender }, onKept);
  }
}
