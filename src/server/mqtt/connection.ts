import {
  type DeviceCredentials,
  type Secret,
  secretOf,
  validUntilMs,
} from '../../db/devices/device-credentials.js';
import type { Policy } from './admission/authorize.js';
import { maxSessionExpirySec, type Terms } from './admission/connack.js';
import { checkConnect, type Login, type Refusal } from './admission/login.js';
import { updatePublishRate } from './admission/publish-rate.js';
import { ConnectionReport } from './connection-report.js';
import type { ConnectionServices } from './connection-services.js';
import { type Joined, type JoiningConnection, join } from './joining.js';
import type { ConnectionMeter } from './live/connection-meters.js';
import type { ConnectionRoll } from './live/connection-roll.js';
import { countMessage } from './live/counters.js';
import { type CloseReason, closeReasons, suppressesWill } from './protocol/close-reason.js';
import { type Codec, type Connect, unknownPacketId, type Will } from './protocol/codec.js';
import { PacketType, type ProtocolVersion, protocolNames } from './protocol/packet-type.js';
import { readFirstPacket } from './protocol/read-connect.js';
import { codecs3 } from './protocol/v3/codec.js';
import type { Client } from './sessions/client.js';
import { CommandsRequest } from './sessions/commands/commands-request.js';
import { type ClientLimits, unlimited } from './sessions/delivery/delivery-writer.js';
import {
  isSubscribeReady,
  type Subscriber,
  takeSubscribe,
  takeUnsubscribe,
} from './sessions/subscriptions/subscribing.js';
import { type AcceptedSocket, probeSilence } from './transport/accepted-socket.js';
import { ClientSocket, type PacketProcessor } from './transport/client-socket.js';
import { Answers } from './uplink/answers.js';
import { leaveWill } from './uplink/leave-will.js';
import { ParkedPackets } from './uplink/parked-packets.js';
import { RoomRequest } from './uplink/room-request.js';
import type { Rules } from './uplink/route.js';
import { Uplink, type UplinkConnection } from './uplink/uplink.js';

const pingresp = Buffer.from([PacketType.PINGRESP << 4, 0]);
const unlimitedTerms: Terms = {
  sessionExpirySec: 0,
  keepaliveSec: 0,
  receiveMaximum: Number.POSITIVE_INFINITY,
  topicAliasMaximum: 0,
};
/** What is left of the time for CONNECT to refuse it. */
const refusalMarginMs = 200;
/**
 * The protocol of one MQTT connection: the order of packets, keeping time, and the end; how it joins is in `joining.ts`. PUBLISH goes straight to
 * the uplink; only a client that subscribes, or has subscribed in a persistent session, has a session.
 */
export class Connection implements JoiningConnection, UplinkConnection, Subscriber, PacketProcessor {
  device: DeviceCredentials | undefined;
  clientId = '';
  /** `performance.now()` of the last bytes received. */
  lastReadMs: number;
  readonly id: string;
  /** `performance.now()`. */
  readonly openedAtMs: number;
  /** PUBLISH packets received, by QoS. */
  readonly received: [number, number, number] = [0, 0, 0];
  /** Rate and search text; undefined while nobody watches. */
  meter: ConnectionMeter | undefined;
  /** `performance.now()` of the bytes that the last PUBLISH came with; 0 when there was none. */
  lastMessageMs = 0;
  readonly socket: ClientSocket;
  /** The language of the client, once it has said which it speaks. */
  codec: Codec = codecs3[4];
  private version: ProtocolVersion = 4;
  clientLimits: ClientLimits = unlimited;
  private terms: Terms = unlimitedTerms;
  private asksForReceipts = false;
  keepaliveMs = 0;
  /** TCP sees whether the client is there. */
  private isProbed = false;
  will: Will | undefined;
  client: Client | undefined;
  uplink: Uplink | undefined;
  /** `Date.now()` until which the login is good. */
  validUntilMs = Number.POSITIVE_INFINITY;
  /** The secret of the login. */
  private secret: Secret | undefined;
  private readonly services: ConnectionServices;
  private readonly roll: ConnectionRoll<Connection>;
  private phase: 'new' | 'joining' | 'connected' | 'closed' = 'new';
  private deadlineMs: number;
  policy: Policy | undefined;
  /** It waits for its turn to join, which is not the client's time. */
  private waits = false;
  /** The server drains: nothing is read any more. */
  private draining = false;
  /** Nothing more is processed in this turn of the event loop. */
  private resting = false;
  /** What waits for room, or for NATS. */
  readonly parked = new ParkedPackets();
  readonly room: RoomRequest;
  readonly commands: CommandsRequest;
  readonly answers: Answers;
  readonly report: ConnectionReport;

  /** @param roll that it is on until it ends. */
  constructor(accepted: AcceptedSocket, services: ConnectionServices, roll: ConnectionRoll<Connection>) {
    this.services = services;
    this.roll = roll;
    this.room = new RoomRequest(this, services.uplink.forwarder, services.counters);
    this.commands = new CommandsRequest(services.session.downlink, services.session.calls, this);
    this.answers = new Answers(this);
    this.report = new ConnectionReport(this, services);
    this.id = services.nextConnectionId();
    this.lastReadMs = performance.now();
    this.openedAtMs = this.lastReadMs;
    this.deadlineMs = this.lastReadMs + this.connectTimeoutMs;
    this.socket = new ClientSocket(accepted, services.turns, this);
  }

  /** Where the client comes from and by which transport. */
  get accepted(): AcceptedSocket {
    return this.socket.accepted;
  }

  /** The version of the protocol, as people call it. */
  get protocol(): string {
    return protocolNames[this.version];
  }

  get aliasesTaken(): number {
    return this.terms.topicAliasMaximum;
  }

  get wantsReceipts(): boolean {
    return this.asksForReceipts || (this.policy?.receipts === true && this.codec.explains);
  }

  get isConnected(): boolean {
    return this.phase === 'connected';
  }

  get mustHold(): boolean {
    return this.phase === 'joining' || this.draining || this.resting || this.parked.isFull;
  }

  get unsentBytes(): number {
    return this.socket.unsentBytes;
  }

  write(packet: Buffer): void {
    this.socket.write(packet);
  }

  cork(): void {
    this.socket.cork();
  }

  uncork(): void {
    this.socket.uncork();
  }

  /** Adds an answer of any length to what leaves at the end of this turn, unless the client takes none so long. */
  reply(packet: Buffer): void {
    if (packet.length > this.clientLimits.maxPacketBytes) this.close('answer-too-large');
    else this.socket.reply(packet);
  }

  closeSlowReader(): void {
    this.close('slow-reader');
  }

  onRead(): void {
    this.lastReadMs = performance.now();
    if (this.keepaliveMs > 0) this.deadlineMs = this.lastReadMs + this.keepaliveMs;
  }

  fail(error: unknown): void {
    this.report.failed(error);
    this.close('internal-error');
  }

  maxPacketBytes(): number {
    const { config, uplink } = this.services;
    if (this.phase !== 'connected') return config.maxConnectPacketBytes;
    // What the stream does not take is read where it is kept elsewhere.
    return this.packetBytes(uplink.deadLetters?.maxMessageBytes ?? uplink.forwarder.maxPayloadBytes);
  }

  /** Of a client that has logged in. */
  get agreedPacketBytes(): number {
    return this.packetBytes(this.services.uplink.forwarder.maxPayloadBytes);
  }

  private packetBytes(byNats: number): number {
    const { config } = this.services;
    const byPolicy = this.policy?.maxPacketBytes ?? config.maxPacketBytes;
    return Math.min(config.maxPacketBytes, byNats, byPolicy);
  }

  private handle(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const first = packet[0] as number;
    const type = first >> 4;
    // A remaining length of more bytes than it needs [MQTT 5.0 MQTT-1.5.5-1].
    if (bodyOffset > 2 && packet[bodyOffset - 1] === 0 && this.codec.explains) return 'remaining-length';
    if (type === PacketType.PUBLISH && this.isConnected) return this.onPublish(packet, bodyOffset);
    if (this.phase === 'new') return this.onFirstPacket(packet, bodyOffset);
    const flags = type === PacketType.PUBLISH ? undefined : this.codec.checkFlags(first);
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
        return takeUnsubscribe(this, packet, bodyOffset);
      case PacketType.PINGREQ:
        if (packet.length !== bodyOffset) return 'malformed-packet';
        this.socket.reply(pingresp); // [MQTT-3.12.4-1]
        return undefined;
      case PacketType.DISCONNECT:
        return this.onDisconnect(packet, bodyOffset);
      default:
        return 'server-packet';
    }
  }

  private onFirstPacket(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const { connect, codec } = readFirstPacket(packet, bodyOffset);
    this.codec = codec;
    const refusal = checkConnect(connect, packet, bodyOffset);
    if (typeof connect === 'string' || refusal !== undefined) {
      this.refuse(refusal as Refusal);
      return undefined;
    }
    // A client that has gone is not looked up, nor does it take the place of another.
    if (this.socket.isExhausted) return 'connection-lost';
    this.phase = 'joining';
    this.socket.holdPackets();
    this.accept(connect).catch((error: unknown) => this.fail(error));
    return undefined;
  }

  /** Authenticates and answers; packets that the client sent ahead wait meanwhile. */
  private async accept(connect: Connect): Promise<void> {
    this.version = connect.version;
    const joined = await join(this, connect, this.services);
    if (!this.isJoining || joined === undefined) return;
    if ('refused' in joined) this.refuse(joined);
    else this.begin(connect, joined);
  }

  onLogin({ device, secret, policy }: Login, clientId: string): void {
    this.device = device;
    this.secret = secret === undefined ? undefined : secretOf(device, secret);
    this.validUntilMs = this.loginUntilMs(device);
    this.policy = policy;
    this.clientId = clientId;
  }

  /** The first packet of a session that is going on is its CONNACK [MQTT-3.2.0-1]. */
  private begin(connect: Connect, joined: Joined): void {
    const { login, client, sessionPresent, terms, limits, connack } = joined;
    this.terms = terms;
    this.clientLimits = limits;
    this.asksForReceipts = connect.userProperties.some(
      ([name, value]) => name === 'receipt' && value === '1',
    );
    this.will = connect.will;
    this.keepaliveMs = terms.keepaliveSec * 1_500; // [MQTT-3.1.2-24]
    this.deadlineMs = this.keepaliveMs > 0 ? performance.now() + this.keepaliveMs : Number.POSITIVE_INFINITY;
    this.probe(this.keepaliveMs === 0);
    this.phase = 'connected';
    this.roll.letIn(this);
    this.accepted.socket.onLogin?.();
    this.services.directory.loggedIn(login.device, login.secret);
    this.report.connected();
    this.socket.write(connack);
    this.services.registry.settleWill(client, sessionPresent);
    this.services.takeOver.announce(client);
    client.session?.attach(this);
    this.socket.updateHold();
  }

  private get connectTimeoutMs(): number {
    return this.services.config.connectTimeoutSec * 1_000;
  }

  onWait(waits: boolean): void {
    this.waits = waits;
    this.deadlineMs = performance.now() + this.connectTimeoutMs;
  }

  /** Made when there is something to send: a client that connects and is silent has no use for it. */
  private openUplink(): Uplink {
    const { services } = this;
    const client = this.client as Client;
    const { rules = this.rulesOfLogin() } = client.device;
    return new Uplink(services.uplink, this, { client, rules });
  }

  private rulesOfLogin(): Rules {
    const policy = this.policy as Policy;
    return { policy, addressing: this.services.addressingOf(this.device as DeviceCredentials, policy) };
  }

  get isJoining(): boolean {
    return this.phase === 'joining';
  }

  get refuseUntilMs(): number {
    return this.deadlineMs - refusalMarginMs;
  }

  /** The policy of the device has changed: what is processed from now on is held against the new one. */
  changePolicy(rules: Rules): void {
    const { policy } = rules;
    this.policy = policy;
    this.uplink?.routing.change(rules);
    if (this.client !== undefined) {
      const { device } = this.client;
      device.publishRate = updatePublishRate(device.publishRate, this.services.publishRateOf(policy));
    }
    // What waits for a token of the rate before may not need one now.
    this.onRoom();
  }

  /** Learns what is now known of the device; ends when its login is no longer good. */
  refresh(device: DeviceCredentials): void {
    const typeChanged = device.type !== this.device?.type;
    this.device = device;
    this.validUntilMs = this.loginUntilMs(device);
    if (typeChanged) this.close('type-changed');
    else if (this.validUntilMs <= Date.now()) this.closeLapsed();
  }

  /** Ends the connection, whose login is no longer good though its device may come back. */
  closeLapsed(): void {
    const { certificate } = this.accepted;
    const certificateEnded = certificate !== undefined && certificate.validUntilMs <= Date.now();
    this.close(certificateEnded ? 'certificate-ended' : 'secret-ended');
  }

  /** A login by certificate, alone or with a secret, is good no longer than the certificate. */
  private loginUntilMs(device: DeviceCredentials): number {
    return Math.min(
      validUntilMs(device, this.secret),
      this.accepted.certificate?.validUntilMs ?? Number.POSITIVE_INFINITY,
    );
  }

  /** Answers CONNACK with a refusal, where the version has one for the reason, and closes [MQTT-3.2.2-5]. */
  private refuse({ refused, fields }: Refusal): void {
    if (this.phase === 'closed') return;
    const connack = this.codec.encodeRefusal(refused);
    if (connack !== undefined) this.socket.write(connack);
    this.close(refused, fields, connack === undefined ? undefined : this.codec.codeOf(refused, 'connack'));
  }

  /** Processes a packet, or keeps it while a message before it waits for room. */
  onPacket(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    if (isConfirmed(packet) && this.answers.note() > this.terms.receiveMaximum)
      return 'receive-maximum-exceeded'; // [MQTT-3.3.4-9]
    if (this.parked.isEmpty && this.mayProcess(packet, bodyOffset)) return this.handle(packet, bodyOffset);
    // A client whose messages have to wait is still answered that the server lives.
    if (this.isPing(packet)) this.socket.reply(pingresp);
    else this.parked.push(packet);
    this.socket.updateHold();
    return undefined;
  }

  private isPing(packet: Buffer): boolean {
    const first = packet[0] as number;
    if (first >> 4 !== PacketType.PINGREQ || packet.length !== 2) return false;
    return this.codec.checkFlags(first) === undefined;
  }

  private mayProcess(packet: Buffer, bodyOffset: number): boolean {
    const type = (packet[0] as number) >> 4;
    if (type === PacketType.SUBSCRIBE) return isSubscribeReady(this, packet, bodyOffset);
    if (type !== PacketType.PUBLISH || !this.isConnected) return true;
    this.uplink ??= this.openUplink();
    const isQos2 = ((packet[0] as number) & 0b0110) === 0b0100;
    if (isQos2 && !this.uplink.isReady(packet, bodyOffset)) return false;
    return this.room.isGranted(packet, this.uplink, !this.parked.isEmpty);
  }

  /** Processes what was parked, as far as there is room. */
  private processParked(): void {
    this.room.withdraw();
    this.parked.process((packet, bodyOffset) => {
      if (this.phase !== 'connected' || this.resting || !this.mayProcess(packet, bodyOffset)) return false;
      const reason = this.handle(packet, bodyOffset);
      if (reason !== undefined) this.close(reason);
      return true;
    });
    this.socket.updateHold();
  }

  private onPublish(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const uplink = this.uplink as Uplink;
    const publish = this.codec.decodePublish(packet, bodyOffset);
    if (typeof publish === 'string') return publish;
    const { counters } = this.services;
    countMessage(counters.received, publish.qos, publish.payload.length);
    this.received[publish.qos] += 1;
    this.lastMessageMs = this.lastReadMs;
    return uplink.receive(publish);
  }

  private onPubrel(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const pubrel = this.codec.decodeAcknowledge(packet, bodyOffset);
    if (typeof pubrel === 'string') return pubrel;
    this.uplink ??= this.openUplink();
    return this.uplink.release(pubrel.packetId);
  }

  private onDisconnect(packet: Buffer, bodyOffset: number): CloseReason {
    const disconnect = this.codec.decodeDisconnect(packet, bodyOffset);
    if (typeof disconnect === 'string') return disconnect;
    const { sessionExpirySec, withWill } = disconnect;
    if (sessionExpirySec !== undefined && this.client !== undefined) {
      // A session that was to end with its connection cannot be kept after all [MQTT-3.14.2-2].
      if (this.client.sessionExpirySec === 0 && sessionExpirySec > 0) return 'session-expiry-zero';
      this.client.sessionExpirySec = Math.min(sessionExpirySec, maxSessionExpirySec(this.services.config));
    }
    return withWill ? 'client-disconnect-with-will' : 'client-disconnect';
  }

  /** An acknowledgement of a message sent to the client. */
  private onAcknowledge(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const acknowledge = this.codec.decodeAcknowledge(packet, bodyOffset);
    if (typeof acknowledge === 'string') return acknowledge;
    const { packetId, reasonCode } = acknowledge;
    const type = ((packet[0] as number) >> 4) as PacketType;
    const session = this.client?.session;
    if (session !== undefined) return session.onAcknowledge(type, packetId, reasonCode);
    // Without a session no identifier is in use; the client's exchange is to end all the same.
    if (type === PacketType.PUBREC && reasonCode < 0x80)
      this.socket.reply(this.codec.encodeAcknowledge(PacketType.PUBREL, packetId, unknownPacketId));
    return undefined;
  }

  private onSubscribe(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const granted = takeSubscribe(this, this.services.session, packet, bodyOffset);
    if (typeof granted === 'string') return granted;
    if (granted > 0) this.restUntilNextTurn();
    return undefined;
  }

  /** SUBSCRIBE looks through all that is retained: a client that sends many has one of them processed a turn. */
  private restUntilNextTurn(): void {
    this.resting = true;
    this.socket.updateHold();
    setImmediate(() => {
      this.resting = false;
      this.onRoom();
      this.socket.updateHold();
    });
  }

  onRoom(): void {
    if (!this.parked.isEmpty) this.socket.scheduleTurn();
  }

  onTurn(): void {
    if (this.parked.isEmpty || this.phase !== 'connected' || this.draining) return;
    this.processParked();
  }

  onEnd(): void {
    // What waits for room was sent before the end, DISCONNECT perhaps among it.
    if (this.parked.isEmpty) this.close('connection-lost');
  }

  onDrain(): void {
    this.client?.session?.onDrain();
  }

  /** Stops reading for good: the server drains, then closes. */
  stopReading(): void {
    this.draining = true;
    this.heedFarewell();
    this.parked.clear();
    this.socket.updateHold();
  }

  /** Nothing that is parked is processed any more: a DISCONNECT among it takes the will back all the same [MQTT-3.1.2-10]. */
  private heedFarewell(): void {
    const { last } = this.parked;
    const first = last?.packet[0] ?? 0;
    if (last === undefined || first >> 4 !== PacketType.DISCONNECT) return;
    if (this.codec.checkFlags(first) !== undefined) return;
    if (suppressesWill(this.onDisconnect(last.packet, last.bodyOffset))) this.will = undefined;
  }

  private probe(enable: boolean): void {
    if (enable === this.isProbed) return;
    this.isProbed = enable;
    probeSilence(this.accepted.socket, enable);
  }

  /** Called about once a second. */
  onTick(nowMs: number): void {
    if (this.socket.stuckForMs(nowMs) > this.services.config.slowReaderTimeoutSec * 1_000) {
      this.services.counters.limits['slow-reader'] += 1;
      this.close('slow-reader');
    }
    // The share of a device also grows when messages of others are stored, which wakes nobody here.
    if (this.room.limit === 'in-flight-per-device') this.onRoom();
    if (this.phase === 'connected' && this.socket.held) {
      // The client cannot be silent while it is not being read, and has all its time again when it is.
      if (this.keepaliveMs > 0) this.deadlineMs = nowMs + this.keepaliveMs;
      if (nowMs - this.lastReadMs > this.keepaliveMs) this.probe(true);
      return;
    }
    this.probe(this.phase === 'connected' && this.keepaliveMs === 0);
    if (nowMs <= this.deadlineMs || this.waits) return;
    this.close(this.phase === 'connected' ? 'keepalive-timeout' : 'connect-timeout');
  }

  /**
   * Ends the connection, once, with what is queued for the client sent if it reads.
   *
   * @param told the code that CONNACK has told the client.
   */
  close(reason: CloseReason, fields: Readonly<Record<string, unknown>> = {}, told?: number): void {
    if (this.phase === 'closed') return;
    const disconnect =
      this.phase === 'connected' ? this.codec.encodeDisconnect(reason, closeReasons[reason].why) : undefined;
    const code = disconnect === undefined ? told : this.codec.codeOf(reason, 'disconnect');
    this.report.closing(reason, fields, code);
    const wasConnected = this.isConnected;
    if (reason === 'connection-lost') this.heedFarewell();
    this.phase = 'closed';
    this.parked.clear();
    this.room.close(this.uplink);
    this.commands.end();
    if (disconnect !== undefined) this.socket.write(disconnect);
    try {
      const { will, client } = this;
      if (client === undefined) return;
      if (will !== undefined && !suppressesWill(reason))
        leaveWill(will, this.uplink ?? this.openUplink(), client);
      this.services.registry.release(this, client);
    } finally {
      this.roll.remove(this, wasConnected);
      this.socket.end();
    }
  }
}

/** A PUBLISH that is to be answered. */
function isConfirmed(packet: Buffer): boolean {
  const first = packet[0] as number;
  return first >> 4 === PacketType.PUBLISH && (first & 0b0110) !== 0;
}
