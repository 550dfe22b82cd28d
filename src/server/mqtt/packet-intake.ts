import { type PacketOwner, pingresp, processPacket, takeDisconnect } from './process-packet.js';
import { type CloseReason, suppressesWill } from './protocol/close-reason.js';
import { PacketType } from './protocol/packet-type.js';
import { isSubscribeReady } from './sessions/subscriptions/subscribing.js';
import { ParkedPackets } from './uplink/parked-packets.js';
import { RoomRequest } from './uplink/room-request.js';
import type { Uplink } from './uplink/uplink.js';

/**
 * The packets of one client that has joined, in their order: each is processed at once, or parked, with what comes behind it,
 * until there is room for it, or NATS has answered what it waits for.
 */
export class PacketIntake {
  private readonly connection: PacketOwner;
  readonly parked = new ParkedPackets();
  readonly room: RoomRequest;
  /** Nothing more is processed in this turn of the event loop. */
  private resting = false;
  /** Nothing is processed any more. */
  private stopped = false;

  constructor(connection: PacketOwner) {
    const { uplink, counters } = connection.services;
    this.connection = connection;
    this.room = new RoomRequest(this, uplink.forwarder, counters);
  }

  /** The client is not to be read. */
  get mustHold(): boolean {
    return this.stopped || this.resting || this.parked.isFull;
  }

  take(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const { connection } = this;
    if (this.parked.isEmpty && this.mayProcess(packet, bodyOffset))
      return processPacket(connection, packet, bodyOffset);
    // A client whose messages have to wait is still answered that the server lives.
    if (this.isPing(packet)) connection.socket.reply(pingresp);
    else this.parked.push(packet);
    connection.socket.updateHold();
    return undefined;
  }

  private isPing(packet: Buffer): boolean {
    const first = packet[0] as number;
    if (first >> 4 !== PacketType.PINGREQ || packet.length !== 2) return false;
    return this.connection.codec.checkFlags(first) === undefined;
  }

  private mayProcess(packet: Buffer, bodyOffset: number): boolean {
    const first = packet[0] as number;
    const type = first >> 4;
    if (type === PacketType.SUBSCRIBE) return isSubscribeReady(this.connection, packet, bodyOffset);
    if (type !== PacketType.PUBLISH) return true;
    const uplink = this.connection.openUplink();
    const isQos2 = (first & 0b0110) === 0b0100;
    if (isQos2 && !uplink.exchanges.isReady(packet, bodyOffset)) return false;
    return this.room.isGranted(packet, uplink, !this.parked.isEmpty);
  }

  /** There may be room, or an answer. */
  onRoom(): void {
    if (!this.parked.isEmpty) this.connection.socket.scheduleTurn();
  }

  /** Called about once a second. */
  onTick(): void {
    // The share of a device also grows when messages of others are stored, which wakes nobody here.
    if (this.room.limit === 'in-flight-per-device') this.onRoom();
  }

  /** Processes what is parked, as far as it may be. */
  onTurn(): void {
    const { connection } = this;
    if (this.parked.isEmpty || !connection.isConnected || this.stopped) return;
    this.room.withdraw();
    this.parked.process((packet, bodyOffset) => {
      if (!connection.isConnected || this.resting || !this.mayProcess(packet, bodyOffset)) return false;
      const reason = processPacket(connection, packet, bodyOffset);
      if (reason !== undefined) connection.close(reason);
      return true;
    });
    connection.socket.updateHold();
  }

  restUntilNextTurn(): void {
    const { socket } = this.connection;
    this.resting = true;
    socket.updateHold();
    setImmediate(() => {
      this.resting = false;
      this.onRoom();
      socket.updateHold();
    });
  }

  /** What is parked will not be processed: answers whether a DISCONNECT among it takes the will back all the same [MQTT-3.1.2-10]. */
  heedFarewell(): boolean {
    const { last } = this.parked;
    const first = last?.packet[0] ?? 0;
    if (last === undefined || first >> 4 !== PacketType.DISCONNECT) return false;
    if (this.connection.codec.checkFlags(first) !== undefined) return false;
    return suppressesWill(takeDisconnect(this.connection, last.packet, last.bodyOffset));
  }

  /** Processes nothing any more. */
  stop(): void {
    this.stopped = true;
    this.parked.clear();
  }

  /** The connection ends. */
  close(uplink: Uplink | undefined): void {
    this.parked.clear();
    this.room.close(uplink);
  }
}
