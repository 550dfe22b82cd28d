import { filtersOverlap } from '../../../topic-template.js';
import type { Downlink, DownlinkClaim } from '../../forward/downlink.js';
import type { Policy } from '../admission/authorize.js';
import type { DeviceRoom } from '../admission/device-room.js';
import type { BrokerCounters } from '../live/counters.js';
import type { CloseReason } from '../protocol/close-reason.js';
import type { PacketType, QoS } from '../protocol/packet-type.js';
import { matches, type TopicLimits } from '../protocol/topics.js';
import type { Message } from './message.js';
import { Outgoing, type OutgoingConnection, type OutgoingLimits, type OutgoingTotal } from './outgoing.js';
import type { SessionEngine } from './subscription-matcher.js';

/** What all sessions share. */
export interface SessionServices {
  readonly engine: SessionEngine;
  readonly limits: OutgoingLimits;
  readonly outgoing: OutgoingTotal;
  readonly maxSubscriptions: number;
  readonly topicLimits: TopicLimits;
  /** Bytes of memory for the subscriptions of all clients. */
  readonly subscriptionRoom: DeviceRoom;
  readonly counters: BrokerCounters;
  readonly downlink: Downlink;
}

interface Subscription {
  readonly qos: QoS;
  readonly end: () => void;
}

/** Commands for the device could match the filter. */
export function takesCommands(filter: string, deviceId: string): boolean {
  return filtersOverlap(filter, `cmd/${deviceId}/#`);
}

/**
 * The subscriptions of a client and the messages on their way to it (MQTT 3.1.1 §4.1, the server's part). Made with the
 * first SUBSCRIBE, kept over reconnects when the client asked for it.
 */
export class ClientSession {
  private readonly services: SessionServices;
  private readonly deviceId: string;
  private readonly outgoing: Outgoing;
  private readonly subscriptions = new Map<string, Subscription>();
  /** How many of them take commands, which are claimed while there is one. */
  private takingCommands = 0;
  private commands: DownlinkClaim | undefined;
  /** Number of the latest delivery; the message itself is not kept. */
  private lastDelivery = 0;

  constructor(services: SessionServices, deviceId: string) {
    this.services = services;
    this.deviceId = deviceId;
    this.outgoing = new Outgoing(services.limits, services.outgoing, services.counters);
  }

  /** Adds or replaces a subscription [MQTT-3.8.4-3]; answers false when there are too many. */
  subscribe(filter: string, qos: QoS): boolean {
    const { engine } = this.services;
    const known = this.subscriptions.get(filter);
    if (known === undefined && !this.takeRoom(filter)) return false;
    if (known === undefined && takesCommands(filter, this.deviceId)) {
      this.takingCommands += 1;
      this.commands ??= this.services.downlink.claim(this.deviceId);
    }
    const end =
      known?.end ?? engine.subscribe(filter, (message, delivery) => this.onMessage(message, delivery));
    this.subscriptions.set(filter, { qos, end });
    return true;
  }

  private takeRoom(filter: string): boolean {
    const { maxSubscriptions, subscriptionRoom, counters } = this.services;
    if (this.subscriptions.size >= maxSubscriptions) {
      counters.limits['subscriptions-per-client'] += 1;
      return false;
    }
    if (subscriptionRoom.take(this.deviceId, memoryBytesOf(filter))) return true;
    counters.limits['subscription-bytes-in-all'] += 1;
    return false;
  }

  /** It takes commands, and NATS is not known to send them. */
  get lacksCommands(): boolean {
    return this.commands !== undefined && this.commands.answer !== 'held';
  }

  get subscriptionCount(): number {
    return this.subscriptions.size;
  }

  /** What the client has subscribed to and what is on its way to it. */
  describe(): { subscriptions: { filter: string; qos: QoS }[]; outgoing: ReturnType<Outgoing['describe']> } {
    return {
      subscriptions: [...this.subscriptions].map(([filter, { qos }]) => ({ filter, qos })),
      outgoing: this.outgoing.describe(),
    };
  }

  /** Whether every subscription is one that `policy` allows. */
  isAllowedBy(policy: Policy): boolean {
    for (const filter of this.subscriptions.keys()) if (!policy.maySubscribe(filter)) return false;
    return true;
  }

  unsubscribe(filter: string): void {
    const subscription = this.subscriptions.get(filter);
    if (subscription === undefined) return;
    subscription.end();
    this.subscriptions.delete(filter);
    this.services.subscriptionRoom.giveBack(this.deviceId, memoryBytesOf(filter));
    if (!takesCommands(filter, this.deviceId)) return;
    this.takingCommands -= 1;
    if (this.takingCommands > 0) return;
    this.commands?.release();
    this.commands = undefined;
  }

  /** Sends the retained messages of filters just subscribed to, each once [MQTT-3.3.1-6]. */
  sendRetained(filters: readonly string[]): void {
    const found = this.services.engine.retained(filters).map(({ message, filters: by }) => {
      const granted = Math.max(...by.map((filter) => this.subscriptions.get(filter)?.qos ?? 0));
      return { ...withQos(message, granted as QoS), retain: true };
    });
    if (found.length > 0) this.outgoing.offerRetained(found);
  }

  attach(connection: OutgoingConnection): void {
    this.outgoing.attach(connection);
  }

  detach(): void {
    this.outgoing.detach();
  }

  onDrain(): void {
    this.outgoing.pump();
  }

  onAcknowledge(type: PacketType, packetId: number, reasonCode: number): CloseReason | undefined {
    return this.outgoing.onAcknowledge(type, packetId, reasonCode);
  }

  /** Ends the session: nothing of it is kept. */
  end(): void {
    this.outgoing.end();
    for (const filter of [...this.subscriptions.keys()]) this.unsubscribe(filter);
  }

  /** A message comes once for each subscription that it matches, and goes out once [MQTT-3.3.5-1]. */
  private onMessage(message: Message, delivery: number): void {
    if (delivery === this.lastDelivery) return;
    this.lastDelivery = delivery;
    this.outgoing.offer(withQos(message, this.grantedQos(message.topic)));
  }

  /** The highest QoS granted for a topic. */
  private grantedQos(topic: string): QoS {
    let granted: QoS = 0;
    for (const [filter, { qos }] of this.subscriptions) {
      if (qos > granted && matches(filter, topic)) granted = qos;
    }
    return granted;
  }
}

/** What a subscription takes in memory beside its filter, about. */
const subscriptionBytes = 768;
/** What the session engine's matcher takes for a level of a filter, about; a level is often longer there than in the text. */
const levelBytes = 256;

function memoryBytesOf(filter: string): number {
  return subscriptionBytes + filter.split('/').length * levelBytes + filter.length;
}

/** The message with at most the granted QoS [MQTT-3.8.4-6]. */
function withQos(message: Message, granted: QoS): Message {
  return message.qos > granted ? { ...message, qos: granted } : message;
}
