import type { CommandStore } from '../../forward/commands/command-store.js';
import type { StoredCommand } from '../../forward/commands/stored-command.js';
import type { BrokerCounters } from '../live/counters.js';
import { bytesOf, isExpired } from './message.js';
import type { Outgoing, OutgoingMessage } from './outgoing.js';
import { PassedCommands } from './passed-commands.js';

/** What a session says of the commands that it takes. */
export interface CommandTaker {
  readonly deviceId: string;
  readonly outgoing: Outgoing;
  /** A subscription takes commands. */
  readonly takesCommands: boolean;
  /**
   * The copy for the client; undefined: no subscription of it takes this command.
   *
   * @param isBegun it was sent before: then it is completed, also when no subscription takes it any more [MQTT-3.10.4-3].
   */
  copyOf(command: StoredCommand, isBegun: boolean): OutgoingMessage | undefined;
  /** The stream is another one: all of it is new. */
  onNewStream(): void;
  /** The stream ends there: sequences beyond are given again. */
  onShorterStream(last: number): void;
  /** The client has acknowledged a command, or had one that it does not acknowledge. */
  onAcknowledged(): void;
}

/** How far a session has come, for who keeps it. */
export interface CommandPosition {
  /** `CommandStore.incarnation`. */
  readonly incarnation: string;
  /** All commands up to here were sent or are not for the client. */
  readonly sequence: number;
  /** Those up to here may have been sent before, by another replica: they bear DUP. */
  readonly sentUpTo: number;
}

/** A command that was read for the client. */
interface Read {
  /** Undefined: the stream does not have it any more. */
  readonly command: StoredCommand | undefined;
  /** It was sent before, and not acknowledged. */
  readonly packetId: number | undefined;
}

/** Most commands that are read at once, and about how many bytes of them. */
const maxRead = 32;
const readBytes = 65_536;
/** As many at first, before it is known how large they are. */
const firstRead = 8;

/**
 * Hands a client the commands of its device from the stream, in order. A client that keeps up gets them as they are stored. One
 * that does not, or comes back, has them read as fast as it takes them: nothing of them waits here, and nobody waits for it.
 */
export class CommandDelivery {
  private readonly store: CommandStore;
  private readonly counters: BrokerCounters;
  private readonly taker: CommandTaker;
  private incarnation: string;
  private position: number;
  /** Those up to here may have been sent by who had the session before. */
  private sentUpTo = 0;
  private unfollow: (() => void) | undefined;
  /** There is none after `position`. */
  private isCaughtUp = false;
  /** What was read and is to be sent, and how far `position` is when it is. */
  private ready: Read[] = [];
  private readTo = 0;
  private isReading = false;
  /** Another one whenever what is being read is not wanted any more. */
  private generation = 0;
  private mostToRead = firstRead;
  readonly passed = new PassedCommands();
  /** Sent before and not acknowledged, to be read again. */
  private again: (readonly [packetId: number, sequence: number])[] = [];

  /** It begins behind what is stored now. */
  constructor(store: CommandStore, counters: BrokerCounters, taker: CommandTaker) {
    this.store = store;
    this.counters = counters;
    this.taker = taker;
    this.incarnation = store.incarnation;
    this.position = store.end;
  }

  get at(): CommandPosition {
    this.catchUp();
    return { incarnation: this.incarnation, sequence: this.position, sentUpTo: this.sentUpTo };
  }

  /** What is stored for others is behind it too, so that it need not be looked at when the client comes back. */
  private catchUp(): void {
    const { store } = this;
    if (this.isCaughtUp && store.isCaughtUp && this.incarnation === store.incarnation)
      this.position = Math.max(this.position, store.end);
  }

  /** Commands that the client has not been sent, up to `most`. */
  count(most: number): number {
    const { store, taker, position } = this;
    if (!taker.takesCommands || this.incarnation !== store.incarnation) return 0;
    return store.countAfter(taker.deviceId, position, most);
  }

  /** Goes on where the session came to. */
  restore({ incarnation, sequence, sentUpTo }: CommandPosition): void {
    const { store } = this;
    this.incarnation = incarnation;
    this.position = sequence;
    this.sentUpTo = store.isCaughtUp ? Math.min(sentUpTo, store.end) : sentUpTo;
  }

  /** Begins behind what is stored now: no subscription took commands so far. */
  begin(): void {
    this.stop();
    this.incarnation = this.store.incarnation;
    this.position = this.store.end;
  }

  /** The client is there; called before it is sent anything. */
  attach(): void {
    this.detach();
    this.checkStream();
    this.again = this.taker.outgoing.listStored();
    this.unfollow = this.store.follow(this.taker.deviceId, {
      onCommand: (command) => this.onCommand(command),
      onCaughtUp: () => {
        this.isCaughtUp = false;
        this.sentUpTo = Math.min(this.sentUpTo, this.store.end);
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
    if (this.incarnation !== store.incarnation) {
      this.stop();
      this.incarnation = store.incarnation;
      this.position = 0;
      this.sentUpTo = 0;
      this.again = [];
      this.passed.clear();
      taker.outgoing.forgetStored();
      taker.onNewStream();
    } else if (store.isCaughtUp) {
      this.shorten(store.end);
    }
  }

  /** The stream ends there, before what the client was sent. */
  private shorten(last: number): void {
    this.taker.onShorterStream(last);
    if (this.position <= last) return;
    // Sequences of before are given to others.
    this.passed.clear();
    this.stop();
    this.position = last;
  }

  private onCommand(command: StoredCommand): void {
    if (!this.isCaughtUp || command.sequence <= this.position) return;
    if (this.send({ command, packetId: undefined })) this.position = command.sequence;
    else this.isCaughtUp = false;
  }

  /** The client may take more. */
  onRoom(): void {
    if (this.unfollow === undefined || this.isCaughtUp || this.isReading) return;
    if (this.ready.length > 0) this.taker.outgoing.gather(() => this.sendReady());
    if (this.ready.length > 0) return;
    this.position = Math.max(this.position, this.readTo);
    const { store, taker } = this;
    if (!taker.takesCommands) this.position = Math.max(this.position, store.end);
    this.isCaughtUp = this.again.length === 0 && !store.hasAfter(taker.deviceId, this.position);
    if (!this.isCaughtUp) this.read();
  }

  private sendReady(): void {
    let sent = 0;
    for (const read of this.ready) {
      if (!this.send(read)) break;
      if (read.packetId === undefined && read.command !== undefined) this.position = read.command.sequence;
      sent += 1;
    }
    this.ready = this.ready.slice(sent);
  }

  /** @returns false: the client takes nothing more now. */
  private send({ command, packetId }: Read): boolean {
    const { taker, counters } = this;
    const { outgoing } = taker;
    const message = command === undefined ? undefined : taker.copyOf(command, packetId !== undefined);
    if (message === undefined || command === undefined || isExpired(message)) {
      if (message !== undefined && command !== undefined) {
        counters.deliveriesExpired += 1;
        this.passed.note(command.sequence, 'expired');
      }
      if (packetId !== undefined) outgoing.forget(packetId);
      return true;
    }
    if (packetId !== undefined) return outgoing.sendAgain(packetId, message);
    const { sequence } = command;
    this.passed.interrupt();
    return outgoing.sendStored(message, sequence, sequence <= this.sentUpTo);
  }

  onAcknowledged(): void {
    this.taker.onAcknowledged();
  }

  onRefused(sequence: number): void {
    this.passed.interrupt();
    this.passed.note(sequence, 'refused');
    this.passed.interrupt();
  }

  private read(): void {
    const { taker, generation } = this;
    const most = Math.max(1, Math.min(this.mostToRead, taker.outgoing.room));
    const isWanted = () => generation === this.generation;
    this.isReading = true;
    const reading = this.again.length > 0 ? this.readAgain(most, isWanted) : this.readOn(most, isWanted);
    void reading.then((ready) => {
      if (!isWanted()) return;
      this.isReading = false;
      this.ready = ready;
      this.onRoom();
    });
  }

  private async readAgain(most: number, isWanted: () => boolean): Promise<Read[]> {
    const { store } = this;
    const next = this.again.slice(0, most);
    const commands = await Promise.all(next.map(([, sequence]) => store.read(sequence, isWanted)));
    if (!isWanted()) return [];
    this.again = this.again.slice(next.length);
    this.readTo = 0;
    return next.map(([packetId], place) => ({ command: commands[place], packetId }));
  }

  private async readOn(most: number, isWanted: () => boolean): Promise<Read[]> {
    const { store, taker, position } = this;
    const { commands, upTo } = await store.readAfter(taker.deviceId, position, most, isWanted);
    if (!isWanted()) return [];
    this.readTo = upTo;
    const bytes = commands.reduce((sum, command) => sum + bytesOf({ ...command, qos: 1, retain: false }), 0);
    this.mostToRead = Math.max(
      1,
      Math.min(maxRead, Math.floor((readBytes * commands.length) / Math.max(1, bytes))),
    );
    return commands.map((command) => ({ command, packetId: undefined }));
  }
}
