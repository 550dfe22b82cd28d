import type { StoredMessage, StoredMessages } from '../../../forward/stored/stored-messages.js';
import type { BrokerCounters } from '../../live/counters.js';
import type { CursorName } from '../store/session-record.js';
import type { OutgoingMessage } from './delivery-writer.js';
import { bytesOf, isExpired } from './message.js';
import type { Outgoing, OutgoingSource } from './outgoing.js';
import { PassedCommands } from './passed-commands.js';

/** What a session says of the messages of a stream that it takes. */
export interface StoredTaker<K, M> {
  readonly stream: CursorName;
  /** What it looks for. */
  key(): K;
  readonly outgoing: Outgoing;
  /** A subscription takes some. */
  takes(): boolean;
  /** Some of them may be sent with QoS 2. */
  takesQos2(): boolean;
  /**
   * The copy for the client; undefined: no subscription of it takes this message.
   *
   * @param isBegun it was sent before: then it is completed, also when no subscription takes it any more [MQTT-3.10.4-3].
   */
  copyOf(message: M, isBegun: boolean): OutgoingMessage | undefined;
  /** The stream is another one: all of it is new. */
  onNewStream(): void;
  /** The stream ends there: sequences beyond are given again. */
  onShorterStream(last: number): void;
}

/** How far a session has come, for who keeps it. */
export interface StoredPosition {
  /** `StoredMessages.incarnation`. */
  readonly incarnation: string;
  /** All up to here were sent or are not for the client. */
  readonly sequence: number;
  /** Those up to here may have been sent before, by another replica: they bear DUP. */
  readonly sentUpTo: number;
}

/** A message that was read for the client. */
interface Read<M> {
  /** Undefined: the stream does not have it any more. */
  readonly message: M | undefined;
  /** It was sent before, and not acknowledged. */
  readonly packetId: number | undefined;
}

/** Most messages that are read at once, and about how many bytes of them. */
const maxRead = 32;
const readBytes = 65_536;
/** As many at first, before it is known how large they are. */
const firstRead = 8;

/**
 * Hands a client what a stream keeps for it, in order. A client that keeps up gets messages as they are stored. One that does
 * not, or comes back, has them read as fast as it takes them: nothing of them waits here, and nobody waits for it.
 */
export class StoredDelivery<K, M extends StoredMessage> implements OutgoingSource {
  private readonly store: StoredMessages<K, M>;
  private readonly counters: BrokerCounters;
  private readonly taker: StoredTaker<K, M>;
  private incarnation: string;
  private position: number;
  /** Those up to here may have been sent by who had the session before. */
  private sentUpTo = 0;
  private unfollow: (() => void) | undefined;
  /** There is none after `position`. */
  private isCaughtUp = false;
  /** What was read and is to be sent, and how far `position` is when it is. */
  private ready: Read<M>[] = [];
  private readTo = 0;
  private isReading = false;
  /** Another one whenever what is being read is not wanted any more. */
  private generation = 0;
  private mostToRead = firstRead;
  readonly passed = new PassedCommands();
  /** Sent before and not acknowledged, to be read and sent again; those that are ready, too. */
  private again: (readonly [packetId: number, sequence: number])[] = [];

  /** It begins behind what is stored now. */
  constructor(store: StoredMessages<K, M>, counters: BrokerCounters, taker: StoredTaker<K, M>) {
    this.store = store;
    this.counters = counters;
    this.taker = taker;
    this.incarnation = store.incarnation;
    this.position = store.end;
  }

  get at(): StoredPosition {
    this.catchUp();
    return { incarnation: this.incarnation, sequence: this.position, sentUpTo: this.sentUpTo };
  }

  /** The stream is the one that `position` is of; of another one nothing is taken before it is read, and then from its beginning. */
  private get isSame(): boolean {
    return this.incarnation === this.store.incarnation;
  }

  /** What is stored for others is behind it too, so that it need not be looked at when the client comes back. */
  private catchUp(): void {
    const { store } = this;
    if (this.isCaughtUp && store.isCaughtUp && this.isSame)
      this.position = Math.max(this.position, store.end);
  }

  /** Messages that the client has not been sent, up to `most`. */
  count(most: number): number {
    const { store, taker, position } = this;
    if (!taker.takes() || !this.isSame) return 0;
    return store.countAfter(taker.key(), position, most);
  }

  /** Goes on where the session came to. */
  restore({ incarnation, sequence, sentUpTo }: StoredPosition): void {
    this.incarnation = incarnation;
    this.position = sequence;
    this.sentUpTo = sentUpTo;
  }

  /** Begins behind what is stored now: no subscription took any so far. */
  begin(): void {
    this.stop();
    this.incarnation = this.store.incarnation;
    this.position = this.store.end;
    this.onRoom();
  }

  /** The client is there; called before it is sent anything. */
  attach(): void {
    this.detach();
    this.checkStream();
    this.again = this.taker.outgoing
      .listStored()
      .flatMap(({ stream, released, packetId, sequence }) =>
        stream === this.taker.stream && !released ? [[packetId, sequence] as const] : [],
      );
    this.unfollow = this.store.follow(this.taker.key(), {
      onMessage: (message) => this.onMessage(message),
      onCaughtUp: () => {
        this.isCaughtUp = false;
        this.checkStream();
        this.onRoom();
      },
      onShorter: (last) => this.shorten(last),
    });
  }

  detach(): void {
    this.catchUp();
    this.unfollow?.();
    this.unfollow = undefined;
    this.again = [];
    this.stop();
  }

  private stop(): void {
    this.generation += 1;
    this.isReading = false;
    this.isCaughtUp = false;
    this.ready = [];
    this.readTo = 0;
  }

  private checkStream(): void {
    const { store, taker } = this;
    if (!this.isSame) {
      this.stop();
      this.incarnation = store.incarnation;
      this.position = 0;
      this.sentUpTo = 0;
      this.again = [];
      this.passed.clear();
      taker.outgoing.forgetStored(taker.stream);
      taker.onNewStream();
    } else if (store.isCaughtUp && Math.max(this.position, this.sentUpTo) > store.end) {
      void this.compare();
    }
  }

  /** Where the session has come to is not known here: the stream has lost it, or the replica is behind. */
  private async compare(): Promise<void> {
    const { store, incarnation, position } = this;
    const last = await store.lastSequence();
    if (last === undefined || this.incarnation !== incarnation || store.incarnation !== incarnation) return;
    // Whoever had the session before was not sent what is stored from now on.
    this.sentUpTo = Math.min(this.sentUpTo, last);
    if (position <= last) return;
    this.shorten(last);
    this.onRoom();
  }

  /** The stream ends there, before what the client was sent. */
  private shorten(last: number): void {
    this.taker.onShorterStream(last);
    // What is behind it may have been stored before it is given here.
    this.isCaughtUp = false;
    if (this.position <= last) return;
    // Sequences of before are given to others.
    this.passed.clear();
    this.stop();
    this.position = last;
  }

  /** It was stored just now. */
  onMessage(message: M): void {
    if (!this.isCaughtUp || !this.isSame || message.sequence <= this.position) return;
    if (this.send({ message, packetId: undefined })) this.position = message.sequence;
    else this.isCaughtUp = false;
  }

  onRoom(): void {
    if (this.unfollow === undefined || this.isCaughtUp || this.isReading || !this.isSame) return;
    if (this.ready.length > 0) this.taker.outgoing.gather(() => this.sendReady());
    if (this.ready.length > 0) return;
    this.position = Math.max(this.position, this.readTo);
    const { store, taker } = this;
    if (!taker.takes()) this.position = Math.max(this.position, store.end);
    const hasMore = this.again.length > 0 || store.hasAfter(taker.key(), this.position);
    // Before the stream is known as a whole there may be some all the same: who would take them as they are stored passed over those.
    this.isCaughtUp = !hasMore && store.isCaughtUp;
    if (hasMore) void this.read();
  }

  private sendReady(): void {
    let sent = 0;
    for (const read of this.ready) {
      if (!this.send(read)) break;
      if (read.packetId !== undefined) this.again.shift();
      else if (read.message !== undefined) this.position = read.message.sequence;
      sent += 1;
    }
    this.ready = this.ready.slice(sent);
  }

  /** @returns false: the client takes nothing more now. */
  private send({ message, packetId }: Read<M>): boolean {
    const { taker, counters } = this;
    const { outgoing } = taker;
    const copy = message === undefined ? undefined : taker.copyOf(message, packetId !== undefined);
    if (packetId !== undefined) {
      // What was begun is ended, also when its time is over [MQTT-4.4.0-1] [MQTT 5.0 MQTT-4.3.3-7].
      if (copy !== undefined) return outgoing.sendAgain(packetId, copy);
      outgoing.giveUp(packetId, taker.takesQos2());
      return true;
    }
    if (copy === undefined || message === undefined) return true;
    const { sequence } = message;
    if (isExpired(copy)) {
      counters.deliveriesExpired += 1;
      this.passed.note(sequence, 'expired');
      return true;
    }
    this.passed.interrupt();
    return outgoing.sendStored(copy, { stream: taker.stream, sequence }, sequence <= this.sentUpTo);
  }

  onRefused(sequence: number): void {
    this.passed.interrupt();
    this.passed.note(sequence, 'refused');
    this.passed.interrupt();
  }

  private async read(): Promise<void> {
    const { store, taker, position, generation } = this;
    const most = Math.max(1, Math.min(this.mostToRead, taker.outgoing.room));
    const isWanted = () => generation === this.generation && this.isSame;
    this.isReading = true;
    const again = this.again.slice(0, most);
    if (again.length > 0) {
      const sequences = again.map(([, sequence]) => sequence);
      const messages = await store.read(sequences, isWanted);
      if (!isWanted()) return;
      this.readTo = 0;
      this.ready = again.map(([packetId], place) => ({ message: messages[place], packetId }));
    } else {
      const { messages, upTo } = await store.readAfter(taker.key(), position, most, isWanted);
      if (!isWanted()) return;
      this.readTo = upTo;
      const bytes = messages.reduce((sum, message) => sum + bytesOf(message), 0);
      const fitting = Math.floor((readBytes * messages.length) / Math.max(1, bytes));
      this.mostToRead = Math.max(1, Math.min(maxRead, fitting));
      this.ready = messages.map((message) => ({ message, packetId: undefined }));
    }
    this.isReading = false;
    this.onRoom();
  }
}
