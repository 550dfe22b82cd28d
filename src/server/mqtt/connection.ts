import type { DeviceCredentials } from '../../db/devices/device-credentials.js';
import type { Refusal } from './admission/authenticate.js';
import type { Policy } from './admission/authorize.js';
import { checkConnect, type Login } from './admission/login.js';
import { LoginTerm } from './admission/login-term.js';
import { updatePublishRate } from './admission/publish-rate.js';
import { ConnectionReport } from './connection-report.js';
import type { ConnectionServices } from './connection-services.js';
import { type Joined, type JoiningConnection, join } from './joining.js';
import type { ConnectionMeter } from './live/connection-meters.js';
import type { ConnectionRoll } from './live/connection-roll.js';
import { PacketIntake } from './packet-intake.js';
import type { PacketOwner } from './process-packet.js';
import { type CloseReason, closeReasons, suppressesWill } from './protocol/close-reason.js';
import type { Codec, Connect, Will } from './protocol/codec.js';
import { PacketType, protocolNames } from './protocol/packet-type.js';
import { readFirstPacket } from './protocol/read-connect.js';
import { codecs3 } from './protocol/v3/codec.js';
import type { Client } from './sessions/client.js';
import { CommandsRequest } from './sessions/commands/commands-request.js';
import { type ClientLimits, unlimited } from './sessions/delivery/delivery-writer.js';
import { Silence } from './silence.js';
import type { AcceptedSocket } from './transport/accepted-socket.js';
import { ClientSocket, type PacketProcessor } from './transport/client-socket.js';
import { Answers } from './uplink/answers.js';
import type { Rules } from './uplink/route.js';
import { Uplink, type UplinkConnection } from './uplink/uplink.js';

/**
 * One MQTT connection from its first packet to its end. How it joins is in `joining.ts`; what it sends then comes in its order by
 * `packet-intake.ts` to `process-packet.ts`. Only a client that subscribes, or has subscribed in a persistent session, has a session.
 */
export class Connection implements JoiningConnection, UplinkConnection, PacketOwner, PacketProcessor {
  device: DeviceCredentials | undefined;
  clientId = '';
  readonly id: string;
  /** `performance.now()`. */
  readonly openedAtMs: number;
  readonly received: [number, number, number] = [0, 0, 0];
  /** Rate and search text; undefined while nobody watches. */
  meter: ConnectionMeter | undefined;
  lastMessageMs = 0;
  readonly socket: ClientSocket;
  /** The language of the client, once it has said which it speaks. */
  codec: Codec = codecs3[4];
  /** The version of the protocol, as people call it. */
  protocol = protocolNames[4];
  clientLimits: ClientLimits = unlimited;
  /** QoS 1 and 2 messages that the client may have sent and that are not answered. */
  private receiveMaximum = Number.POSITIVE_INFINITY;
  aliasesTaken = 0;
  private asksForReceipts = false;
  will: Will | undefined;
  client: Client | undefined;
  uplink: Uplink | undefined;
  readonly loginTerm: LoginTerm;
  readonly services: ConnectionServices;
  private readonly roll: ConnectionRoll<Connection>;
  private phase: 'new' | 'joining' | 'connected' | 'closed' = 'new';
  policy: Policy | undefined;
  readonly silence: Silence;
  readonly intake: PacketIntake;
  readonly commands: CommandsRequest;
  readonly answers: Answers;
  readonly report: ConnectionReport;

  /** @param roll that it is on until it ends. */
  constructor(accepted: AcceptedSocket, services: ConnectionServices, roll: ConnectionRoll<Connection>) {
    this.services = services;
    this.roll = roll;
    this.loginTerm = new LoginTerm(accepted.certificate);
    this.silence = new Silence(accepted.socket, services.config.connectTimeoutSec * 1_000);
    this.intake = new PacketIntake(this);
    this.commands = new CommandsRequest(services.session.downlink, services.session.calls, this);
    this.answers = new Answers(this);
    this.report = new ConnectionReport(this, services);
    this.id = services.nextConnectionId();
    this.openedAtMs = this.silence.lastReadMs;
    this.socket = new ClientSocket(accepted, services.turns, this);
  }

  /** Where the client comes from and by which transport. */
  get accepted(): AcceptedSocket {
    return this.socket.accepted;
  }

  get wantsReceipts(): boolean {
    return this.asksForReceipts || (this.policy?.receipts === true && this.codec.explains);
  }

  get isConnected(): boolean {
    return this.phase === 'connected';
  }

  get mustHold(): boolean {
    return this.phase === 'joining' || this.intake.mustHold;
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
    this.silence.onRead();
  }

  fail(error: unknown): void {
    this.report.failed(error);
    this.close('internal-error');
  }

  maxPacketBytes(): number {
    const { config, uplink } = this.services;
    if (this.phase !== 'connected') return config.maxConnectPacketBytes;
    // What the stream does not take is read where it is kept elsewhere.
    return this.services.maxPacketBytesOf(this.policy, uplink.deadLetters?.maxMessageBytes);
  }

  /** Of a client that has logged in. */
  get agreedPacketBytes(): number {
    return this.services.maxPacketBytesOf(this.policy);
  }

  onPacket(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    if (this.phase === 'new') return this.onFirstPacket(packet, bodyOffset);
    if (isConfirmed(packet) && this.answers.note() > this.receiveMaximum) return 'receive-maximum-exceeded'; // [MQTT-3.3.4-9]
    return this.intake.take(packet, bodyOffset);
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
    this.protocol = protocolNames[connect.version];
    const joined = await join(this, connect, this.services);
    if (!this.isJoining || joined === undefined) return;
    if ('refused' in joined) this.refuse(joined);
    else this.begin(connect, joined);
  }

  onLogin(login: Login, clientId: string): void {
    this.device = login.device;
    this.policy = login.policy;
    this.loginTerm.begin(login);
    this.clientId = clientId;
  }

  /** The first packet of a session that is going on is its CONNACK [MQTT-3.2.0-1]. */
  private begin(connect: Connect, joined: Joined): void {
    const { login, client, sessionPresent, terms, limits, connack } = joined;
    this.receiveMaximum = terms.receiveMaximum;
    this.aliasesTaken = terms.topicAliasMaximum;
    this.clientLimits = limits;
    this.asksForReceipts = connect.userProperties.some(
      ([name, value]) => name === 'receipt' && value === '1',
    );
    this.will = connect.will;
    this.silence.onJoined(terms.keepaliveSec);
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

  /** Made when there is something to send: a client that connects and is silent has no use for it. */
  openUplink(): Uplink {
    this.uplink ??= this.makeUplink();
    return this.uplink;
  }

  private makeUplink(): Uplink {
    const { services } = this;
    const client = this.client as Client;
    const { rules = services.rulesOf(this.device as DeviceCredentials, this.policy as Policy) } =
      client.device;
    return new Uplink(services.uplink, this, { client, rules });
  }

  get isJoining(): boolean {
    return this.phase === 'joining';
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
    this.loginTerm.learn(device);
    if (typeChanged) this.close('type-changed');
    else if (this.loginTerm.untilMs <= Date.now()) this.close(this.loginTerm.endReason);
  }

  /** Answers CONNACK with a refusal, where the version has one for the reason, and closes [MQTT-3.2.2-5]. */
  private refuse({ refused, fields }: Refusal): void {
    if (this.phase === 'closed') return;
    const connack = this.codec.encodeRefusal(refused);
    if (connack !== undefined) this.socket.write(connack);
    this.close(refused, fields, connack === undefined ? undefined : this.codec.codeOf(refused, 'connack'));
  }

  onRoom(): void {
    this.intake.onRoom();
  }

  onTurn(): void {
    this.intake.onTurn();
  }

  onEnd(): void {
    // What waits for room was sent before the end, DISCONNECT perhaps among it.
    if (this.intake.parked.isEmpty) this.close('connection-lost');
  }

  onDrain(): void {
    this.client?.session?.outgoing.pump();
  }

  /** Stops reading for good: the server drains, then closes. */
  stopReading(): void {
    if (this.intake.heedFarewell()) this.will = undefined;
    this.intake.stop();
    this.socket.updateHold();
  }

  /** Called about once a second. */
  onTick(nowMs: number): void {
    if (this.socket.stuckForMs(nowMs) > this.services.config.slowReaderTimeoutSec * 1_000) {
      this.services.counters.limits['slow-reader'] += 1;
      this.close('slow-reader');
      return;
    }
    this.intake.onTick();
    const reason = this.silence.check(nowMs, this.socket.held);
    if (reason !== undefined) this.close(reason);
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
    if (this.intake.heedFarewell()) this.will = undefined;
    this.phase = 'closed';
    this.intake.close(this.uplink);
    this.commands.end();
    if (disconnect !== undefined) this.socket.write(disconnect);
    try {
      const { will, client } = this;
      if (client === undefined) return;
      if (will !== undefined && !suppressesWill(reason)) this.openUplink().leaveWill(will);
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
