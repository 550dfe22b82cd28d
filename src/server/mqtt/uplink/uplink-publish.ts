import { type Lane, natsBytesOf, type UplinkMessage } from '../../forward/forwarder.js';
import { shortenText } from '../../live.js';
import type { QoS } from '../protocol/packets/packet-type.js';
import type { ClientState, Rules } from '../sessions/client-state.js';
import type { Exchanges } from '../sessions/exchanges.js';
import type { Uplink } from './uplink.js';

/** Where messages of one topic go: worked out once, used for every message of the topic. */
export interface Route {
  readonly topicBytes: Buffer;
  readonly topic: string;
  readonly retain: boolean;
  readonly subject: Uint8Array;
  readonly headers: Uint8Array;
  readonly batchable: boolean;
}

/** Memory held beside a payload that is not worth a copy. */
const smallBytes = 1_024;

/** One PUBLISH of a client on its way to NATS. */
export class UplinkPublish implements UplinkMessage {
  subject: Uint8Array;
  readonly headers: Uint8Array;
  payload: Buffer;
  readonly confirm: boolean;
  readonly messageId: string | undefined;
  batchable: boolean;
  /** Those that it is held against. */
  private rules: Rules | undefined;
  private denied = false;
  readonly packetId: number;
  readonly qos: QoS;
  readonly retain: boolean;
  readonly topic: string;
  /** Microseconds modulo 2^32: a whole number of 32 bits is kept in the object, a larger one beside it. */
  readonly receivedUs: number;
  stored = false;
  /** The connection's uplink that is to answer; a client that reconnects brings a new one. */
  uplink: Uplink;
  private readonly state: ClientState;
  /** Where the QoS 2 exchange is noted; that of a will is not. */
  readonly exchanges: Exchanges | undefined;

  constructor(
    uplink: Uplink,
    route: Route,
    packet: { payload: Buffer; qos: QoS; retain: boolean; packetId: number },
    exchange: { messageId: string; exchanges?: Exchanges } | undefined,
  ) {
    this.uplink = uplink;
    this.state = uplink.state;
    this.receivedUs = uplink.receivedUs;
    this.rules = uplink.device.rules;
    this.subject = route.subject;
    this.headers = route.headers;
    this.topic = route.topic;
    this.payload = packet.payload;
    this.qos = packet.qos;
    this.retain = packet.retain;
    this.packetId = packet.packetId;
    this.confirm = packet.qos > 0;
    this.messageId = exchange?.messageId;
    this.batchable = route.batchable;
    this.exchanges = exchange?.exchanges;
  }

  renew(): string | undefined {
    const { rules } = this.state.device;
    if (rules === this.rules || rules === undefined) return undefined;
    this.rules = rules;
    if (!rules.policy.mayPublish(this.topic)) {
      this.denied = true;
      return 'the policy of the device changed while the message waited, and no longer allows its topic';
    }
    this.subject = Buffer.from(rules.addressing.subjectOf(this.topic));
    this.batchable = rules.addressing.batchable;
    return undefined;
  }

  /** The payload is a view of the socket's chunk, or of the packet. */
  compact(): void {
    const { payload } = this;
    if (payload.buffer.byteLength <= 2 * payload.length + smallBytes) return;
    this.payload = Buffer.allocUnsafeSlow(payload.length);
    payload.copy(this.payload);
  }

  /** Gives the message to the forwarder. */
  publish(lane: Lane): void {
    if (this.confirm) this.count(1);
    lane.publish(this);
  }

  /** Counts the message in, or out, for the bounds of client and device. */
  private count(sign: 1 | -1): void {
    const { state } = this;
    const bytes = sign * (this.headers.length + this.payload.length);
    state.inFlightBytes += bytes;
    state.device.inFlightBytes += bytes;
    state.device.inFlight += sign;
  }

  /** There is room for another message of this device. */
  private leave(): void {
    const { device } = this.state;
    this.count(-1);
    // Not the connection that sent it: the client may have another one by now, which waits for the room.
    this.uplink.wakeClient();
    if (device.awaitingRoom.size === 0) return;
    const waiting = [...device.awaitingRoom];
    device.awaitingRoom.clear();
    // A will for which there is no room yet asks again at once.
    for (const waiter of waiting) waiter.onRoom();
  }

  onStored(): void {
    this.leave();
    this.stored = true;
    this.uplink.settle(this);
  }

  onRefused(detail: string): void {
    this.leave();
    // The exchange is over without an answer; the client may send the message again.
    if (this.exchanges?.get(this.packetId) === this) this.exchanges.end(this.packetId);
    this.uplink.refuse(this.denied ? 'publish-denied' : 'refused-by-nats', {
      topic: shortenText(this.topic),
      bytes: natsBytesOf(this),
      detail,
    });
  }
}
