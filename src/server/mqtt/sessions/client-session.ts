import { filtersOverlap } from '../../../topic-template.js';
import type { Calls } from '../../forward/commands/calls.js';
import type { Downlink, DownlinkClaim } from '../../forward/commands/downlink.js';
import { escapeToken } from '../../forward/subject.js';
import type { Policy } from '../admission/authorize.js';
import type { DeviceRoom } from '../admission/device-room.js';
import type { BrokerCounters } from '../live/counters.js';
import type { QoS } from '../protocol/packet-type.js';
import type { TopicLimits } from '../protocol/topics.js';
import { type CommandTopics, isOwn } from './commands/command-topics.js';
import type { Question } from './commands/device-calls.js';
import type { OutgoingConnection } from './delivery/delivery-writer.js';
import type { Message } from './delivery/message.js';
import { Outgoing, type OutgoingOwner } from './delivery/outgoing.js';
import type { OutgoingLimits, OutgoingTotal } from './delivery/outgoing-memory.js';
import {
  type Places,
  type RestoredSession,
  SessionStreams,
  type StreamReader,
  type StreamServices,
} from './delivery/session-streams.js';
import { maxNameBytes, type SessionRecord } from './store/session-record.js';
import type { StoredSession } from './store/stored-session.js';
import type { SharedSubscriptions } from './subscriptions/shared-subscriptions.js';
import {
  copyFor,
  findMatching,
  mayHave,
  memoryBytesOf,
  type SubscriptionTerms,
} from './subscriptions/subscription.js';
import type { SessionEngine } from './subscriptions/subscription-matcher.js';

export interface SessionServices extends StreamServices {
  readonly engine: SessionEngine;
  readonly shares: SharedSubscriptions;
  readonly limits: OutgoingLimits;
  readonly outgoing: OutgoingTotal;
  readonly maxSubscriptions: number;
  readonly topicLimits: TopicLimits;
  /** Bytes of memory for the subscriptions of all clients. */
  readonly subscriptionRoom: DeviceRoom;
  readonly counters: BrokerCounters;
  readonly downlink: Downlink;
  readonly commandTopics: CommandTopics;
  readonly calls: Calls;
}

interface Subscription {
  /** Those asked for last. */
  terms: SubscriptionTerms;
  readonly from: Places;
  end: () => void;
}

interface SessionClient {
  /** As messages name their sender. */
  readonly key: string;
  readonly device: { readonly id: string; readonly ledger: { deliver(): void } };
  readonly stored: StoredSession | undefined;
}

/** Commands for the device could match the filter. */
export function takesCommands(filter: string, deviceId: string): boolean {
  return filtersOverlap(filter, `cmd/${deviceId}/#`);
}

/**
 * The subscriptions of a client and the messages on their way to it (MQTT 3.1.1 §4.1, the server's part). Made with the
 * first SUBSCRIBE, kept over reconnects when the client asked for it.
 */
export class ClientSession implements OutgoingOwner, StreamReader {
  private readonly services: SessionServices;
  private readonly client: SessionClient;
  readonly deviceId: string;
  private readonly deviceToken: string;
  readonly clientKey: string;
  readonly outgoing: Outgoing;
  readonly subscriptions = new Map<string, Subscription>();
  /** How many of them take commands, which are claimed while there is one. */
  private takingCommands = 0;
  /** Bytes of the names of all subscriptions. */
  private nameBytes = 0;
  private commands: DownlinkClaim | undefined;
  /** Ends that the device can be called by this client. */
  private uncall: (() => void) | undefined;
  private readonly streams: SessionStreams;
  private readonly isRestored: boolean;
  /** Number of the latest delivery; the message itself is not kept. */
  private lastDelivery = 0;

  /** @param restored what the store has of a session that goes on here; its subscriptions are to be made again. */
  constructor(services: SessionServices, client: SessionClient, restored?: RestoredSession) {
    this.services = services;
    this.client = client;
    this.deviceId = client.device.id;
    this.deviceToken = escapeToken(client.device.id);
    this.clientKey = client.key;
    this.outgoing = new Outgoing(services.limits, services.outgoing, services.counters, this);
    this.isRestored = restored !== undefined;
    if (restored !== undefined) this.outgoing.restoreBegun(restored.begun ?? []);
    this.streams = new SessionStreams(services, this, restored);
  }

  get takesCommands(): boolean {
    return this.takingCommands > 0;
  }

  get isStored(): boolean {
    return this.isRestored || this.client.stored !== undefined;
  }

  persist(): Promise<boolean> {
    return this.client.stored?.persist() ?? Promise.resolve(true);
  }

  onDelivered(): void {
    this.client.device.ledger.deliver();
  }

  touch(): void {
    this.client.stored?.touch();
  }

  /** What of it is to be stored. */
  snapshot(): Pick<SessionRecord, 'subscriptions' | 'cursors' | 'unacked' | 'passed' | 'begun'> {
    const { cursors, unacked, passed } = this.streams.state;
    return {
      subscriptions: [...this.subscriptions.values()].map(({ terms, from }) => ({
        name: terms.name,
        qos: terms.qos,
        noLocal: terms.noLocal,
        retainAsPublished: terms.retainAsPublished,
        retainHandling: terms.retainHandling,
        id: terms.id,
        from: from.commands,
        fromMessages: from.messages === 0 ? undefined : from.messages,
      })),
      cursors,
      unacked,
      passed,
      begun: this.outgoing.listBegun(),
    };
  }

  /** Nothing is lost when its client, which is away, is forgotten here: what comes for it waits elsewhere. */
  get mayLeave(): boolean {
    const { streams, outgoing, subscriptions, deviceId } = this;
    const isStored = ({ terms }: Subscription) =>
      isOwn(terms, deviceId)
        ? streams.readsCommands
        : streams.readsMessages && terms.shareName === undefined && !filtersOverlap(terms.filter, 'cmd/#');
    return outgoing.isEmpty && [...subscriptions.values()].every(isStored);
  }

  /**
   * Adds a subscription, or puts an existing one on other terms [MQTT-3.8.4-3]; 'full': there are too many.
   *
   * @param from see `Subscription`; undefined: what is stored by now.
   */
  subscribe(terms: SubscriptionTerms, from?: Places): 'new' | 'known' | 'full' {
    const { name, filter } = terms;
    const known = this.subscriptions.get(name);
    if (known !== undefined) {
      known.terms = terms;
      return 'known';
    }
    if (!this.takeRoom(name)) return 'full';
    const subscription = { terms, from: from ?? this.streams.ends, end: () => {} };
    if (takesCommands(filter, this.deviceId)) this.claimCommands();
    if (this.takesMessages(terms)) this.streams.takeMessages();
    this.nameBytes += storedBytesOf(name);
    this.subscriptions.set(name, subscription);
    this.streams.onSubscriptions();
    const leave = this.services.commandTopics.join(this.deviceId, terms);
    const end =
      terms.shareName === undefined ? this.listen(subscription) : this.join(terms.shareName, subscription);
    subscription.end = () => {
      leave();
      end();
    };
    return 'new';
  }

  private claimCommands(): void {
    const { downlink } = this.services;
    const { store } = downlink;
    this.takingCommands += 1;
    this.updateCalls();
    if (store === undefined) this.commands ??= downlink.claim(this.deviceId);
    else this.streams.takeCommands(store, this.takingCommands === 1 ? 'first' : 'further');
  }

  /** Commands are stored from now on; up to here they came as NATS passed them on. */
  onCommandsStored(): void {
    const { store } = this.services.downlink;
    this.commands?.release();
    this.commands = undefined;
    if (store === undefined || this.takingCommands === 0) return;
    this.streams.takeCommands(store, 'late');
    this.touch();
  }

  /** Sessions outlive this replica from now on; messages between devices are kept for them. */
  onDurable(): void {
    if ([...this.subscriptions.values()].some(({ terms }) => this.takesMessages(terms)))
      this.streams.takeMessages();
  }

  /** It takes messages between devices, for this client alone. */
  private takesMessages(terms: SubscriptionTerms): boolean {
    return terms.shareName === undefined && !isOwn(terms, this.deviceId);
  }

  private listen(subscription: Subscription): () => void {
    return this.services.engine.subscribe(subscription.terms.filter, (message, delivery) => {
      // A message comes once for each subscription that it matches, and goes out once [MQTT-3.3.5-1].
      if (delivery === this.lastDelivery) return;
      this.lastDelivery = delivery;
      this.onMessage(message, subscription);
    });
  }

  private join(shareName: string, subscription: Subscription): () => void {
    const { outgoing } = this;
    const copy = (message: Message) => copyFor([subscription.terms], message, false);
    return this.services.shares.join(shareName, subscription.terms.filter, {
      get isConnected() {
        return outgoing.isConnected;
      },
      get isReady() {
        return outgoing.isReady;
      },
      hasRoom: (message) => outgoing.hasRoom(copy(message)),
      take: (message, handBack) => outgoing.offer({ ...copy(message), handBack }),
    });
  }

  private takeRoom(name: string): boolean {
    const { maxSubscriptions, subscriptionRoom, counters } = this.services;
    if (this.subscriptions.size >= maxSubscriptions || this.nameBytes + storedBytesOf(name) > maxNameBytes) {
      counters.limits['subscriptions-per-client'] += 1;
      return false;
    }
    if (subscriptionRoom.take(this.deviceId, memoryBytesOf(name))) return true;
    counters.limits['subscription-bytes-in-all'] += 1;
    return false;
  }

  /** It takes commands, and NATS is not known to send them. */
  get lacksCommands(): boolean {
    return this.commands !== undefined && this.commands.answer !== 'held';
  }

  /** What the client has subscribed to and what is on its way to it. */
  describe(): { subscriptions: { filter: string; qos: QoS }[]; outgoing: ReturnType<Outgoing['describe']> } {
    return {
      subscriptions: [...this.subscriptions].map(([filter, { terms }]) => ({ filter, qos: terms.qos })),
      outgoing: this.outgoing.describe(),
    };
  }

  /** Whether every subscription is one that `policy` allows. */
  isAllowedBy(policy: Policy): boolean {
    for (const { terms } of this.subscriptions.values()) if (!policy.maySubscribe(terms.filter)) return false;
    return true;
  }

  /** Ends a subscription; false: there was none of this name. */
  unsubscribe(name: string): boolean {
    const subscription = this.subscriptions.get(name);
    if (subscription === undefined) return false;
    subscription.end();
    this.subscriptions.delete(name);
    this.streams.onSubscriptions();
    this.nameBytes -= storedBytesOf(name);
    this.services.subscriptionRoom.giveBack(this.deviceId, memoryBytesOf(name));
    if (takesCommands(subscription.terms.filter, this.deviceId)) this.releaseCommands();
    return true;
  }

  /** Commands stored for it that it has not been sent, up to `most`. */
  pendingCommands(most: number): number {
    return this.streams.pendingCommands(most);
  }

  private releaseCommands(): void {
    this.takingCommands -= 1;
    if (this.takingCommands > 0) return;
    this.updateCalls();
    this.commands?.release();
    this.commands = undefined;
  }

  /** Sends the retained messages of filters just subscribed to, each once [MQTT-3.3.1-6]. */
  sendRetained(filters: readonly string[]): void {
    const found = this.services.engine.retained(filters).flatMap(({ message, filters: by }) => {
      const terms = by.flatMap((filter) => this.subscriptions.get(filter)?.terms ?? []);
      const wanting = terms.filter((each) => mayHave(each, message, this.clientKey));
      return wanting.length === 0 ? [] : copyFor(wanting, message, true);
    });
    if (found.length > 0) this.outgoing.offerRetained(found);
  }

  attach(connection: OutgoingConnection): void {
    this.streams.attach();
    this.outgoing.attach(connection);
    this.updateCalls();
  }

  /** A device can be called while a client of it is connected that takes commands. */
  private updateCalls(): void {
    if (this.outgoing.isConnected && this.takingCommands > 0) {
      this.uncall ??= this.services.calls.claim(this.deviceId);
    } else {
      this.uncall?.();
      this.uncall = undefined;
    }
  }

  /** Asks the client, if it has subscribed to what it is asked. */
  ask(question: Question): 'asked' | 'busy' | 'not subscribed' {
    const { outgoing } = this;
    const message = question.messageFor(outgoing.explains);
    const matching = findMatching(this.subscriptions.values(), message, this.clientKey);
    const isConfirmed = matching.some(({ qos }) => qos > 0);
    if (matching.length === 0 || (question.wantsAck && !isConfirmed)) return 'not subscribed';
    if (!outgoing.isReady) return 'busy';
    outgoing.offer({ ...copyFor(matching, message, false), onSettled: question.onSettled });
    return 'asked';
  }

  detach(): void {
    this.streams.detach();
    this.outgoing.detach();
    this.updateCalls();
  }

  /** Ends the session: nothing of it is kept. */
  end(): void {
    // The shares first, so that what falls to their other members does not come back.
    for (const name of [...this.subscriptions.keys()]) this.unsubscribe(name);
    this.streams.end();
    this.outgoing.end();
    this.updateCalls();
  }

  /** @param by one of the subscriptions that it matches, which may have ended while it was on its way. */
  private onMessage(message: Message, by: Subscription): void {
    const { readsMessages } = this.streams;
    if (message.storedFor !== undefined && message.storedFor === this.deviceToken) return;
    const { reaches } = message;
    if (reaches === 'shares' || reaches === (readsMessages ? 'others' : 'sessions')) return;
    if (readsMessages && message.kept !== undefined) {
      this.streams.onKept(message.kept);
      return;
    }
    const matching = findMatching(this.subscriptions.values(), message, this.clientKey);
    if (matching.length === 0 && mayHave(by.terms, message, this.clientKey)) matching.push(by.terms);
    if (matching.length > 0) this.outgoing.offer(copyFor(matching, message, false));
  }
}

/** What a name takes in the record: one control character is six there. */
function storedBytesOf(name: string): number {
  return Buffer.byteLength(JSON.stringify(name));
}
