import type { CommandStore } from '../../../forward/commands/command-store.js';
import type { StoredCommand } from '../../../forward/commands/stored-command.js';
import type { KeptMessage, KeptMessages } from '../../../forward/state/kept-messages.js';
import { compileFilters, type MessageFilters } from '../../../forward/state/message-index.js';
import type { StoredMessage, StoredMessages } from '../../../forward/stored/stored-messages.js';
import type { BrokerCounters } from '../../live/counters.js';
import type { CommandTopics } from '../commands/command-topics.js';
import type { CursorName, Cursors, SessionRecord } from '../store/session-record.js';
import { copyFor, findMatching, type SubscriptionTerms } from '../subscriptions/subscription.js';
import type { Message } from './message.js';
import type { Outgoing } from './outgoing.js';
import { StoredDelivery, type StoredPosition, type StoredTaker } from './stored-delivery.js';

/** Sequences in the streams: a subscription takes what is behind those of when it was made. */
export type Places = Record<CursorName, number>;

/** What the store has of a session that goes on here. */
export type RestoredSession = Pick<SessionRecord, 'cursors' | 'unacked' | 'passed' | 'begun'>;

export interface StreamServices {
  readonly downlink: { readonly store: CommandStore | undefined };
  /** Messages between devices, kept for sessions that outlive their replica; undefined: there are none. */
  readonly kept: KeptMessages | undefined;
  readonly commandTopics: Pick<CommandTopics, 'toMessage'>;
  readonly counters: BrokerCounters;
}

/** The session that reads. */
export interface StreamReader {
  readonly deviceId: string;
  /** As messages name their sender. */
  readonly clientKey: string;
  readonly outgoing: Outgoing;
  readonly subscriptions: ReadonlyMap<string, { readonly terms: SubscriptionTerms; readonly from: Places }>;
  /** A subscription takes commands. */
  readonly takesCommands: boolean;
  /** It outlives its connection. */
  readonly isStored: boolean;
}

/** What is taken of one stream. */
interface Taken<K, M> extends Pick<StoredTaker<K, M>, 'stream' | 'key' | 'takes' | 'takesQos2'> {
  toMessage(stored: M): Message | undefined;
}

/** What a session has of the streams that keep something for it: commands, and messages between devices. */
export class SessionStreams {
  private readonly services: StreamServices;
  private readonly reader: StreamReader;
  private readonly restored: RestoredSession | undefined;
  private commands: StoredDelivery<string, StoredCommand> | undefined;
  private messages: StoredDelivery<MessageFilters, KeptMessage> | undefined;
  private filters: MessageFilters | undefined;
  private unwait: (() => void) | undefined;
  /** Places of before the stream of messages was found: its end was not known. */
  private readonly unplaced = new WeakSet<Places>();

  constructor(services: StreamServices, reader: StreamReader, restored: RestoredSession | undefined) {
    this.services = services;
    this.reader = reader;
    this.restored = restored;
  }

  /** The places of what is stored now. */
  get ends(): Places {
    const { downlink, kept } = this.services;
    const places = { commands: downlink.store?.end ?? 0, messages: kept?.end ?? 0 };
    if (kept?.isKnown === false) this.unplaced.add(places);
    return places;
  }

  get readsCommands(): boolean {
    return this.commands !== undefined;
  }

  /** It takes messages between devices from their stream, and not as they are published. One that is to go on there waits for it. */
  get readsMessages(): boolean {
    const isWaiting = this.unwait !== undefined && this.restored?.cursors.messageStream !== undefined;
    return this.messages !== undefined || isWaiting;
  }

  /** Where it stands. What this replica cannot go on with stays as it was. */
  get state(): RestoredSession {
    const { restored, reader, commands } = this;
    const unacked = reader.outgoing.listStored();
    for (const each of restored?.unacked ?? []) if (this[each.stream] === undefined) unacked.push(each);
    return {
      cursors: this.cursors,
      passed: commands === undefined ? restored?.passed : commands.passed.record,
      unacked,
    };
  }

  private get cursors(): Cursors {
    const before = this.restored?.cursors;
    const commands = this.commands?.at;
    const messages = this.messages?.at;
    return {
      commands: commands?.sequence ?? before?.commands ?? 0,
      messages: messages?.sequence ?? before?.messages ?? 0,
      commandStream: commands?.incarnation ?? before?.commandStream,
      commandsSent: commands === undefined ? before?.commandsSent : sentOf(commands),
      messageStream: messages?.incarnation ?? before?.messageStream,
      messagesSent: messages === undefined ? before?.messagesSent : sentOf(messages),
    };
  }

  /** @param by the first subscription that takes commands, a further one, or those of before commands were stored. */
  takeCommands(store: CommandStore, by: 'first' | 'further' | 'late'): void {
    const { services, reader, restored } = this;
    if (this.commands !== undefined) {
      if (by === 'first') this.commands.begin();
      return;
    }
    const { commandStream, commands: sequence = 0, commandsSent: sentUpTo = 0 } = restored?.cursors ?? {};
    const incarnation =
      by === 'late' || restored === undefined ? commandStream : (commandStream ?? store.incarnation);
    this.commands = this.open(
      store,
      {
        stream: 'commands',
        key: () => reader.deviceId,
        takes: () => reader.takesCommands,
        takesQos2: () => false,
        toMessage: (command) => services.commandTopics.toMessage(command),
      },
      incarnation === undefined ? undefined : { incarnation, sequence, sentUpTo },
    );
    if (restored?.passed !== undefined) this.commands.passed.restore(restored.passed);
  }

  /** A subscription takes messages between devices: they are kept for a session that outlives its connection. */
  takeMessages(): void {
    const { reader } = this;
    const { kept } = this.services;
    if (kept === undefined || this.messages !== undefined || !reader.isStored) return;
    // Where a session stands means nothing before it is known which stream there is.
    if (!kept.isKnown) {
      this.unwait ??= kept.whenKnown(() => this.takeMessages());
      return;
    }
    for (const { from } of reader.subscriptions.values())
      if (this.unplaced.delete(from)) from.messages = kept.end;
    this.messages = this.open(
      kept,
      {
        stream: 'messages',
        key: () => this.currentFilters,
        takes: () => this.currentFilters.length > 0,
        takesQos2: () => [...reader.subscriptions.values()].some(({ terms }) => terms.qos === 2),
        toMessage: (message) => message,
      },
      this.messagePlaceIn(kept),
    );
  }

  private messagePlaceIn({ incarnation }: KeptMessages): StoredPosition | undefined {
    const { messageStream, messages = 0, messagesSent = 0 } = this.restored?.cursors ?? {};
    if (messageStream === undefined) return undefined;
    // As earlier versions wrote it where the stream was not found: what the session had is forgotten, and all may have been sent.
    if (messageStream === '') return { incarnation, sequence: 0, sentUpTo: Number.MAX_SAFE_INTEGER };
    return { incarnation: messageStream, sequence: messages, sentUpTo: messagesSent };
  }

  /** Those of all subscriptions that take messages for this client alone. */
  private get currentFilters(): MessageFilters {
    this.filters ??= compileFilters(
      [...this.reader.subscriptions.values()].flatMap(({ terms: { shareName, filter } }) =>
        shareName === undefined ? filter : [],
      ),
    );
    return this.filters;
  }

  /** There are other subscriptions than before. */
  onSubscriptions(): void {
    this.filters = undefined;
  }

  /** @param place where the session had come to; undefined: it begins behind what is stored now. */
  private open<K, M extends StoredMessage>(
    store: StoredMessages<K, M>,
    { stream, key, takes, takesQos2, toMessage }: Taken<K, M>,
    place: StoredPosition | undefined,
  ): StoredDelivery<K, M> {
    const { outgoing, subscriptions, clientKey } = this.reader;
    const delivery = new StoredDelivery<K, M>(store, this.services.counters, {
      stream,
      key,
      takes,
      takesQos2,
      outgoing,
      copyOf(stored, isBegun) {
        const message = toMessage(stored);
        if (message === undefined) return undefined;
        const isBehind = ({ from }: { readonly from: Places }) => stored.sequence > from[stream];
        const matching = findMatching(subscriptions.values(), message, clientKey, isBehind);
        if (matching.length > 0) return copyFor(matching, message, false);
        // It was first sent as it came: not as one that was retained before [MQTT-3.3.1-9].
        return isBegun ? { ...message, retain: false } : undefined;
      },
      onNewStream() {
        for (const { from } of subscriptions.values()) from[stream] = 0;
      },
      onShorterStream(last) {
        for (const { from } of subscriptions.values()) from[stream] = Math.min(from[stream], last);
      },
    });
    if (place !== undefined) {
      delivery.restore(place);
      outgoing.restoreStored(this.restored?.unacked.filter((each) => each.stream === stream) ?? []);
    }
    outgoing.sources.set(stream, delivery);
    if (outgoing.isConnected) {
      delivery.attach();
      // The connection began without them.
      for (const each of outgoing.listStored())
        if (each.stream === stream && each.released) outgoing.giveUp(each.packetId, true);
      delivery.onRoom();
    }
    return delivery;
  }

  onKept(message: KeptMessage): void {
    this.messages?.onMessage(message);
  }

  pendingCommands(most: number): number {
    return this.commands?.count(most) ?? 0;
  }

  attach(): void {
    this.commands?.attach();
    this.messages?.attach();
  }

  detach(): void {
    this.commands?.detach();
    this.messages?.detach();
  }

  end(): void {
    this.unwait?.();
    this.detach();
  }
}

/** Beyond the place up to which all were sent. */
function sentOf({ sequence, sentUpTo }: StoredPosition): number | undefined {
  return sentUpTo > sequence ? sentUpTo : undefined;
}
