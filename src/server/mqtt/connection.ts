import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Config } from '../../config.js';
import type { DeviceCredentials } from '../../db/devices.js';
import type { LimitedLog } from '../../log.js';
import type { DeviceDirectory } from '../device-directory.js';
import { authenticate } from './authenticate.js';
import type { Policy } from './authorize.js';
import { ClientSession, type SessionServices } from './client-session.js';
import type { ClientState } from './client-state.js';
import { type CloseReason, closeReasons, suppressesWill } from './close-reason.js';
import type { BrokerCounters } from './counters.js';
import { FrameReader } from './frame-reader.js';
import type { OutgoingConnection } from './outgoing.js';
import { decodeAcknowledge, encodeAcknowledge, encodeSuback, subackFailure } from './packets/acknowledge.js';
import { ConnectReturnCode, encodeConnack } from './packets/connack.js';
import { type Connect, decodeConnect, type Will } from './packets/connect.js';
import { checkFlags } from './packets/fixed-header.js';
import { PacketType, type ProtocolVersion, type QoS } from './packets/packet-type.js';
import { decodePublish } from './packets/publish.js';
import { decodeSubscribe, decodeUnsubscribe } from './packets/subscribe.js';
import { ParkedPackets } from './parked-packets.js';
import type { Registry } from './registry.js';
import { TurnOutput } from './turn-output.js';
import type { TurnQueue } from './turn-queue.js';
import { type Addressing, Uplink, type UplinkConnection, type UplinkServices } from './uplink.js';

export type ConnectionConfig = Pick<
  Config,
  'connectTimeoutSec' | 'maxConnectPacketBytes' | 'maxPacketBytes' | 'maxSubscriptionsPerClient'
>;

/** What every connection shares. */
export interface ConnectionServices {
  readonly config: ConnectionConfig;
  readonly directory: DeviceDirectory;
  readonly registry: Registry;
  readonly turns: TurnQueue;
  readonly uplink: UplinkServices;
  readonly session: SessionServices;
  readonly counters: BrokerCounters;
  readonly log: LimitedLog;
  policyOf(device: DeviceCredentials): Policy;
  addressingOf(device: DeviceCredentials): Addressing;
}

const pingreq = Buffer.from([PacketType.PINGREQ << 4, 0]);
const pingresp = Buffer.from([PacketType.PINGRESP << 4, 0]);
const maxClientIdBytes = 1_024;
/** With so many bytes unread the client is not read either. */
const clogBytes = 65_536;
/** A client that has not read for so long is given up. */
const slowReaderMs = 30_000;
/** Longest wait for the last bytes to reach a client before its socket is destroyed. */
const lingerMs = 500;

/**
 * One MQTT connection: it owns the socket, cuts and checks packets, authenticates, keeps time, and sends PUBLISH
 * straight to the uplink. Only a client that subscribes, or has subscribed in a persistent session, gets a link to
 * the session engine.
 */
export class Connection implements UplinkConnection, OutgoingConnection {
  readonly address: string;
  device: DeviceCredentials | undefined;
  clientId = '';
  /** `performance.now()` of the last bytes received. */
  lastReadMs: number;
  /** In the turn queue. */
  queued = false;

  private readonly socket: Socket;
  private readonly services: ConnectionServices;
  private readonly reader = new FrameReader();
  private phase: 'new' | 'authenticating' | 'connected' | 'closed' = 'new';
  private version: ProtocolVersion = 4;
  private keepaliveMs = 0;
  private deadlineMs: number;
  private will: Will | undefined;
  private state: ClientState | undefined;
  private uplink: Uplink | undefined;
  private policy: Policy | undefined;
  /** Packets are not processed and the socket is not read. */
  private held = false;
  /** The server drains: nothing is read any more. */
  private draining = false;
  private readonly parked = new ParkedPackets();
  /** Takes back the request to the forwarder to call back when it has room. */
  private cancelAwaitingRoom: (() => void) | undefined;
  private readonly output = new TurnOutput();
  /** Since when the client has not read what it was sent, `performance.now()`; 0 while it reads. */
  private cloggedSinceMs = 0;

  constructor(socket: Socket, services: ConnectionServices) {
    this.socket = socket;
    this.services = services;
    this.address = `${socket.remoteAddress ?? '?'}:${socket.remotePort ?? 0}`;
    this.lastReadMs = performance.now();
    this.deadlineMs = this.lastReadMs + services.config.connectTimeoutSec * 1_000;
    socket.on('data', (chunk: Buffer) => this.onData(chunk));
    socket.on('drain', () => this.onDrain());
    socket.on('close', () => this.close('connection-lost'));
    // 'close' follows.
    socket.on('error', () => {});
  }

  get unsentBytes(): number {
    return this.socket.writableLength;
  }

  closeSlowReader(): void {
    this.close('slow-reader');
  }

  private onData(chunk: Buffer): void {
    this.lastReadMs = performance.now();
    if (this.keepaliveMs > 0) this.deadlineMs = this.lastReadMs + this.keepaliveMs;
    if (this.phase === 'closed') return;
    this.reader.push(chunk);
    this.pump();
  }

  /** Processes what has arrived. Whatever a client sends, a defect it meets ends its connection and nothing else. */
  private pump(): void {
    try {
      this.processPackets();
    } catch (error) {
      this.fail(error);
    }
  }

  private fail(error: unknown): void {
    this.services.log.error(
      'connection_failed',
      { ...this.describe(), err: error },
      'A defect ended a connection',
    );
    this.close('internal-error');
  }

  private processPackets(): void {
    while (!this.held && this.phase !== 'closed') {
      const packet = this.reader.next(this.maxPacketBytes());
      if (packet === undefined) return;
      const reason = typeof packet === 'string' ? packet : this.handleInOrder(packet, this.reader.bodyOffset);
      if (reason !== undefined) this.close(reason);
    }
  }

  private maxPacketBytes(): number {
    const { config, uplink } = this.services;
    if (this.phase !== 'connected') return config.maxConnectPacketBytes;
    return Math.min(config.maxPacketBytes, uplink.forwarder.maxPayloadBytes);
  }

  private handle(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const first = packet[0] as number;
    const type = first >> 4;
    if (type === PacketType.PUBLISH && this.uplink !== undefined) return this.onPublish(packet, bodyOffset);
    if (this.phase === 'new') return this.onFirstPacket(packet, bodyOffset);
    const flags = type === PacketType.PUBLISH ? undefined : checkFlags(first, this.version);
    if (flags !== undefined) return flags;
    switch (type) {
      case PacketType.CONNECT:
        return 'second-connect'; // [MQTT-3.1.0-2]
      case PacketType.PUBREL:
        return this.onPubrel(packet, bodyOffset);
      case PacketType.PUBACK:
      case PacketType.PUBREC:
      case PacketType.PUBCOMP:
        return this.onAcknowledge(packet, bodyOffset);
      case PacketType.SUBSCRIBE:
        return this.onSubscribe(packet, bodyOffset);
      case PacketType.UNSUBSCRIBE:
        return this.onUnsubscribe(packet, bodyOffset);
      case PacketType.PINGREQ:
        if (packet.length !== bodyOffset) return 'malformed-packet';
        this.reply(pingresp); // [MQTT-3.12.4-1]
        return undefined;
      case PacketType.DISCONNECT:
        return packet.length === bodyOffset ? 'client-disconnect' : 'malformed-packet';
      default:
        return 'server-packet';
    }
  }

  private onFirstPacket(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const first = packet[0] as number;
    if (first >> 4 !== PacketType.CONNECT) return 'connect-expected'; // [MQTT-3.1.0-1]
    if (checkFlags(first, 4) !== undefined) return 'reserved-bits';
    const connect = decodeConnect(packet, bodyOffset);
    if (connect === 'protocol-version') {
      this.refuse(connect, ConnectReturnCode.unacceptableProtocolVersion);
    } else if (connect === 'identifier-rejected') {
      this.refuse(connect, ConnectReturnCode.identifierRejected);
    } else if (typeof connect === 'string') {
      return connect;
    } else if (Buffer.byteLength(connect.clientId) > maxClientIdBytes) {
      this.refuse('identifier-rejected', ConnectReturnCode.identifierRejected);
    } else {
      this.phase = 'authenticating';
      this.updateHold();
      void this.accept(connect);
    }
    return undefined;
  }

  /** Authenticates and answers; packets that the client sent ahead wait meanwhile. */
  private async accept(connect: Connect): Promise<void> {
    const { directory, registry, counters, log } = this.services;
    const authentication = await authenticate(connect, directory).catch((error: unknown) => {
      log.error('authentication_failed', { err: error }, 'A look-up failed; the client is told to come back');
      return { refused: 'database-away', returnCode: ConnectReturnCode.serverUnavailable } as const;
    });
    if (this.phase !== 'authenticating') return;
    if ('refused' in authentication) {
      const { refused, returnCode } = authentication;
      this.refuse(refused, returnCode, { user: connect.userName });
      return;
    }
    const { device } = authentication;
    const policy = this.services.policyOf(device);
    if (connect.will !== undefined && !policy.mayPublish(connect.will.topic)) {
      const fields = { device: device.id, topic: connect.will.topic };
      this.refuse('will-denied', ConnectReturnCode.notAuthorized, fields);
      return;
    }

    this.device = device;
    this.version = connect.version;
    this.clientId = connect.clientId === '' ? `auto-${randomBytes(10).toString('hex')}` : connect.clientId;
    const admission = registry.admit(this, {
      deviceId: device.id,
      clientId: this.clientId,
      clean: connect.clean,
    });
    if (admission === undefined) {
      this.refuse('too-many-clients', ConnectReturnCode.serverUnavailable);
      return;
    }
    const { state, sessionPresent } = admission;
    this.state = state;
    this.will = connect.will;
    this.keepaliveMs = connect.keepaliveSec * 1_500; // [MQTT-3.1.2-24]
    this.deadlineMs = this.keepaliveMs > 0 ? performance.now() + this.keepaliveMs : Number.POSITIVE_INFINITY;
    this.uplink = new Uplink(this.services.uplink, this, {
      state,
      policy,
      addressing: this.services.addressingOf(device),
    });
    this.policy = policy;
    this.phase = 'connected';
    counters.accepted += 1;
    directory.seen(device.id);
    this.write(encodeConnack(ConnectReturnCode.accepted, sessionPresent));
    state.session?.attach(this);
    this.updateHold();
  }

  /** Answers CONNACK with a refusal and closes [MQTT-3.2.2-5]. */
  private refuse(reason: CloseReason, code: ConnectReturnCode, fields: Record<string, unknown> = {}): void {
    if (this.phase === 'closed') return;
    this.socket.write(encodeConnack(code));
    this.close(reason, fields);
  }

  /** Processes a packet, or keeps it while a message before it waits for room. */
  private handleInOrder(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    if (this.parked.isEmpty && this.hasRoomFor(packet)) return this.handle(packet, bodyOffset);
    // A client whose messages have to wait is still answered that the server lives.
    if (packet.equals(pingreq)) this.reply(pingresp);
    else this.parked.push(packet);
    this.updateHold();
    return undefined;
  }

  private hasRoomFor(packet: Buffer): boolean {
    const { uplink } = this;
    const first = packet[0] as number;
    if (first >> 4 !== PacketType.PUBLISH || uplink === undefined) return true;
    const confirm = (first & 0b0110) !== 0;
    const room = uplink.checkRoom(confirm);
    if (room === 'device-full') uplink.device.awaitingRoom.add(this);
    if (room === 'forwarder-full' && this.cancelAwaitingRoom === undefined) {
      this.cancelAwaitingRoom = this.services.uplink.forwarder.whenReady(() => {
        this.cancelAwaitingRoom = undefined;
        this.onRoom();
      }, confirm);
    }
    return room === 'room';
  }

  /** Processes what was parked, as far as there is room. */
  private processParked(): void {
    this.parked.process((packet, bodyOffset) => {
      if (this.phase !== 'connected' || !this.hasRoomFor(packet)) return false;
      const reason = this.handle(packet, bodyOffset);
      if (reason !== undefined) this.close(reason);
      return true;
    });
    this.updateHold();
  }

  private onPublish(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const uplink = this.uplink as Uplink;
    const publish = decodePublish(packet, bodyOffset);
    if (typeof publish === 'string') return publish;
    const { counters, log } = this.services;
    counters.published[publish.qos] += 1;
    counters.publishedBytes += publish.payload.length;
    const reason = uplink.receive(publish);
    if (reason === 'publish-denied') {
      const fields = { ...this.describe(), topic: publish.topic.toString('utf8') };
      log.warn('publish_denied', fields, 'A device published outside its policy and is disconnected');
    }
    return reason;
  }

  private onPubrel(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const packetId = decodeAcknowledge(packet, bodyOffset);
    return typeof packetId === 'string' ? packetId : (this.uplink as Uplink).release(packetId);
  }

  /** An acknowledgement of a message sent to the client. */
  private onAcknowledge(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const packetId = decodeAcknowledge(packet, bodyOffset);
    if (typeof packetId === 'string') return packetId;
    this.state?.session?.onAcknowledge(((packet[0] as number) >> 4) as PacketType, packetId);
    return undefined;
  }

  /** Answers SUBACK with one return code for each filter, in their order [MQTT-3.8.4-5] [MQTT-3.9.3-1]. */
  private onSubscribe(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const subscribe = decodeSubscribe(packet, bodyOffset);
    if (typeof subscribe === 'string') return subscribe;
    const codes = subscribe.requests.map(({ filter, qos }) =>
      this.subscribe(filter, qos) ? qos : subackFailure,
    );
    this.reply(encodeSuback(subscribe.packetId, codes));
    const granted = subscribe.requests.filter((_request, index) => codes[index] !== subackFailure);
    this.state?.session?.sendRetained([...new Set(granted.map(({ filter }) => filter))]);
    return undefined;
  }

  private subscribe(filter: string, qos: QoS): boolean {
    const { counters, log } = this.services;
    const state = this.state as ClientState;
    if (this.policy?.maySubscribe(filter) === true) {
      if (state.session === undefined) {
        state.session = new ClientSession(this.services.session, state.device.id);
        state.session.attach(this);
      }
      if (state.session.subscribe(filter, qos)) return true;
    }
    counters.subscribeDenied += 1;
    log.warn('subscribe_denied', { ...this.describe(), filter }, 'A subscription was refused');
    return false;
  }

  private onUnsubscribe(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const unsubscribe = decodeUnsubscribe(packet, bodyOffset);
    if (typeof unsubscribe === 'string') return unsubscribe;
    for (const { filter } of unsubscribe.requests) this.state?.session?.unsubscribe(filter);
    // Also when there was no such subscription [MQTT-3.10.4-5].
    this.reply(encodeAcknowledge(PacketType.UNSUBACK, unsubscribe.packetId));
    return undefined;
  }

  /** Answers at the end of this turn of the event loop. */
  acknowledge(type: PacketType, packetId: number): void {
    if (this.phase !== 'connected') return;
    this.output.acknowledge(type, packetId);
    this.services.turns.add(this);
  }

  private reply(packet: Buffer): void {
    this.output.add(packet);
    this.services.turns.add(this);
  }

  onRoom(): void {
    if (!this.parked.isEmpty) this.services.turns.add(this);
  }

  /** Called by the turn queue once in a turn in which something was queued. */
  onTurn(): void {
    this.flushOutput();
    if (this.parked.isEmpty || this.phase !== 'connected' || this.draining) return;
    try {
      this.processParked();
    } catch (error) {
      this.fail(error);
    }
  }

  private flushOutput(): void {
    const bytes = this.output.take();
    if (bytes !== undefined) this.send(bytes);
  }

  /** Sends now, behind what was answered before. */
  write(bytes: Buffer): void {
    this.flushOutput();
    this.send(bytes);
  }

  /** A client that does not read what it is sent is not read either, until it does. */
  private send(bytes: Buffer): void {
    if (this.phase === 'closed') return;
    if (this.socket.write(bytes) || this.cloggedSinceMs > 0 || this.unsentBytes < clogBytes) return;
    this.cloggedSinceMs = performance.now();
    this.updateHold();
  }

  private onDrain(): void {
    this.cloggedSinceMs = 0;
    this.state?.session?.onDrain();
    this.updateHold();
  }

  /** Reads the socket and processes packets unless there is a reason not to. */
  private updateHold(): void {
    if (this.phase === 'closed') return;
    const hold =
      this.phase === 'authenticating' || this.draining || this.parked.isFull || this.cloggedSinceMs > 0;
    if (hold === this.held) return;
    this.held = hold;
    if (hold) {
      this.socket.pause();
      return;
    }
    this.pump();
    if (!this.held) this.socket.resume();
  }

  /** Stops reading for good: the server drains, then closes. */
  stopReading(): void {
    this.draining = true;
    this.parked.clear();
    this.updateHold();
  }

  /** Called about twice a second. */
  onTick(nowMs: number): void {
    if (this.cloggedSinceMs > 0 && nowMs - this.cloggedSinceMs > slowReaderMs) this.close('slow-reader');
    if (nowMs <= this.deadlineMs) return;
    if (this.phase === 'connected' && this.held) {
      // The client cannot be silent while it is not being read.
      this.deadlineMs = nowMs + this.keepaliveMs;
      return;
    }
    this.close(this.phase === 'connected' ? 'keepalive-timeout' : 'connect-timeout');
  }

  /** Ends the connection, once, with what is queued for the client sent if it reads. */
  close(reason: CloseReason, fields: Record<string, unknown> = {}): void {
    if (this.phase === 'closed') return;
    const wasConnected = this.phase === 'connected';
    this.flushOutput();
    this.phase = 'closed';
    this.parked.clear();
    this.reader.clear();
    this.cancelAwaitingRoom?.();
    this.uplink?.device.awaitingRoom.delete(this);
    const { counters, log, registry } = this.services;
    counters.closed[reason] += 1;
    const detail = { ...this.describe(), ...fields, reason, why: closeReasons[reason] };
    if (isExpected(reason)) log.debug('connection_closed', detail, 'A connection closed');
    else log.info(wasConnected ? 'connection_closed' : 'connect_refused', detail, 'A connection was closed');

    if (this.will !== undefined && !suppressesWill(reason)) this.uplink?.publishWill(this.will);
    registry.release(this, this.state);
    this.endSocket();
  }

  private endSocket(): void {
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

  private describe(): Record<string, unknown> {
    return this.device === undefined
      ? { address: this.address }
      : { address: this.address, device: this.device.id, client: this.clientId };
  }
}

/** What happens in the ordinary life of a fleet and is not worth a line of the log. */
function isExpected(reason: CloseReason): boolean {
  return reason === 'client-disconnect' || reason === 'connection-lost' || reason === 'server-shutdown';
}
