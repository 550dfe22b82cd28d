import type { CloseReason } from '../protocol/close-reason.js';
import type { PacketType } from '../protocol/packet-type.js';
import { type AcceptedSocket, type ByteSocket, queuedBytesOf } from './accepted-socket.js';
import { FrameReader } from './frame-reader.js';
import { TurnOutput } from './turn-output.js';
import type { Newcomer, TurnMember, TurnQueue } from './turn-queue.js';

/** With so many bytes unread the client is not read either. */
const clogBytes = 65_536;
/** A packet of fewer bytes costs less copied together with others than as a part of its own of what is written. */
const copiedBytes = 4_096;
/** Longest wait for the last bytes to reach a client before its socket is destroyed. */
const lingerMs = 500;

/** Who processes the packets of a socket. */
export interface PacketProcessor {
  /** Packets are not to be processed, nor the socket to be read, for a reason of the processor's own. */
  readonly mustHold: boolean;
  /** Most bytes that the next packet may have. */
  maxPacketBytes(): number;
  /** Takes one packet; a reason ends the connection. */
  onPacket(packet: Buffer, bodyOffset: number): CloseReason | undefined;
  /** Bytes have arrived. */
  onRead(): void;
  /** The client has ended its side. */
  onEnd(): void;
  /** The client has read what it was sent. */
  onDrain(): void;
  /** The end of a turn of the event loop in which something was answered or asked for. */
  onTurn(): void;
  close(reason: CloseReason): void;
  /** Processing threw. */
  fail(error: unknown): void;
}

/**
 * The socket of one client: cuts what arrives into packets, gathers the answers of a turn of the event loop in one
 * write, and reads nothing while the processor holds or the client does not read.
 */
export class ClientSocket implements TurnMember, Newcomer {
  /** Where the client comes from and by which transport. */
  readonly accepted: AcceptedSocket;
  queued = false;
  /** The client has ended its side; there is nothing more to read. */
  readEnded = false;
  /** Packets are not processed and the socket is not read, or no more than a chunk of it. */
  held = false;

  private readonly socket: ByteSocket;
  private readonly turns: TurnQueue;
  private readonly processor: PacketProcessor;
  private readonly reader = new FrameReader();
  private readonly output = new TurnOutput();
  private corked = false;
  private ended = false;
  /**
   * What comes first is looked at a turn later, when the end of a client is known that has sent it and gone while it waited
   * to be accepted.
   */
  private first: 'awaited' | 'waiting' | 'given' = 'awaited';
  /** More is unread than may be; the client is not read until it has taken all of it. */
  private clogged = false;
  /** Bytes that the client has taken, when it last had taken more than before, and that time, `performance.now()`. */
  private takenBytes = 0;
  /** Bytes of the write under way that were left then. */
  private queuedBytes = 0;
  private takenAtMs = 0;

  constructor(accepted: AcceptedSocket, turns: TurnQueue, processor: PacketProcessor) {
    const { socket } = accepted;
    this.accepted = accepted;
    this.socket = socket;
    this.turns = turns;
    this.processor = processor;
    socket.on('data', (chunk: Buffer) => this.onData(chunk));
    socket.on('drain', () => this.onDrain());
    socket.on('end', () => {
      this.readEnded = true;
      this.tellEnd();
    });
    socket.on('close', () => processor.close(socket.failure ?? 'connection-lost'));
  }

  /** The client has ended its side, and all that it sent was processed. */
  get isExhausted(): boolean {
    return this.readEnded && this.reader.isEmpty;
  }

  /** For the log. */
  get address(): string {
    return `${this.accepted.remoteAddress}:${this.accepted.remotePort}`;
  }

  /** Bytes written that the client has not taken. */
  get unsentBytes(): number {
    // What is answered leaves with this turn; what is gathered counts, since more is gathered as long as there is room.
    return this.socket.writableLength + (this.corked ? this.output.size : 0);
  }

  /** Bytes received and sent since the connection was opened. */
  get bytesIn(): number {
    return this.socket.bytesRead;
  }

  get bytesOut(): number {
    return this.socket.bytesWritten;
  }

  /** How long the client has taken nothing of what waits for it, ms; 0 when nothing holds it up. */
  stuckForMs(nowMs: number): number {
    if (!this.clogged) return 0;
    const taken = this.socket.bytesWritten - this.socket.writableLength;
    // One large write is done when all of it is taken, so what is left of it says whether the client takes any.
    const queuedBytes = queuedBytesOf(this.socket);
    if (taken > this.takenBytes || queuedBytes !== this.queuedBytes) {
      this.takenBytes = taken;
      this.queuedBytes = queuedBytes;
      this.takenAtMs = nowMs;
    }
    return nowMs - this.takenAtMs;
  }

  /** Adds PUBACK, PUBREC or PUBCOMP to what leaves at the end of this turn. */
  acknowledge(type: PacketType, packetId: number): void {
    this.output.acknowledge(type, packetId);
    this.turns.add(this);
  }

  /** Adds a packet to what leaves at the end of this turn. */
  reply(packet: Buffer): void {
    this.output.add(packet);
    this.turns.add(this);
  }

  /** Sends now, behind what was answered before. */
  write(bytes: Buffer): void {
    if (this.corked && bytes.length < copiedBytes) {
      this.output.add(bytes);
      return;
    }
    this.flush();
    this.send(bytes);
  }

  /** What is written until `uncork` leaves in one write. */
  cork(): void {
    this.corked = true;
    this.socket.cork();
  }

  uncork(): void {
    this.corked = false;
    this.flush();
    this.socket.uncork();
  }

  /** Calls the processor's `onTurn` at the end of this turn. */
  scheduleTurn(): void {
    this.turns.add(this);
  }

  onTurn(): void {
    if (this.ended) return;
    try {
      this.flush();
      this.processor.onTurn();
    } catch (error) {
      this.processor.fail(error);
    }
  }

  /**
   * Processes nothing more until `updateHold`. The socket is not read either once something has come: to stop and start it
   * costs more than most of those need who wait so.
   */
  holdPackets(): void {
    this.held = true;
  }

  /** Reads and processes unless there is a reason not to; to be called whenever `mustHold` may have changed. */
  updateHold(): void {
    if (this.ended) return;
    const hold = this.clogged || this.processor.mustHold;
    if (hold !== this.held) {
      this.held = hold;
      if (hold) {
        this.socket.pause();
        return;
      }
      this.pump();
      if (!this.held) this.socket.resume();
    }
    this.tellEnd();
  }

  /** Ends the connection; what was answered is sent if the client reads. */
  end(): void {
    if (this.ended) return;
    this.flush();
    this.ended = true;
    this.reader.clear();
    const { socket } = this;
    if (socket.destroyed) return;
    socket.removeAllListeners('data');
    socket.end(() => socket.destroy());
    // What the client still sends is read and dropped, so that the last bytes are not lost to a reset.
    socket.resume();
    const linger = setTimeout(() => socket.destroy(), lingerMs);
    linger.unref();
    socket.once('close', () => clearTimeout(linger));
  }

  /** The client's end comes behind the packets that it sent before. */
  private tellEnd(): void {
    if (this.readEnded && this.first !== 'waiting' && !this.held && !this.ended) this.processor.onEnd();
  }

  private onData(chunk: Buffer): void {
    if (this.ended) return;
    this.processor.onRead();
    this.reader.push(chunk);
    if (this.held) this.socket.pause();
    if (this.first === 'given') this.pump();
    else if (this.first === 'awaited') {
      this.first = 'waiting';
      this.turns.addNewcomer(this);
    } else {
      // More than a first packet is not read before its turn.
      this.socket.pause();
    }
  }

  onArrived(): void {
    this.first = 'given';
    if (this.ended) return;
    this.pump();
    if (!this.held && !this.ended && this.socket.isPaused()) this.socket.resume();
    this.tellEnd();
  }

  /** Whatever a client sends, a defect it meets ends its connection and nothing else. */
  private pump(): void {
    try {
      while (!this.held && !this.ended) {
        const packet = this.reader.next(this.processor.maxPacketBytes());
        if (packet === undefined) return;
        const reason =
          typeof packet === 'string' ? packet : this.processor.onPacket(packet, this.reader.bodyOffset);
        if (reason !== undefined) this.processor.close(reason);
      }
    } catch (error) {
      this.processor.fail(error);
    }
  }

  private flush(): void {
    const bytes = this.output.take();
    if (bytes !== undefined) this.send(bytes);
  }

  /** A client that does not read what it is sent is not read either, until it does. */
  private send(bytes: Buffer): void {
    if (this.ended) return;
    if (this.socket.write(bytes) || this.clogged || this.unsentBytes < clogBytes) return;
    this.clogged = true;
    this.takenAtMs = performance.now();
    this.updateHold();
  }

  private onDrain(): void {
    this.clogged = false;
    if (this.ended) return;
    this.processor.onDrain();
    this.updateHold();
  }
}
