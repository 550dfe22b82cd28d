import type { AckLevel } from '../../../ack-level.js';
import { type Lane, natsBytesOf, type UplinkMessage } from '../../forward/forwarder.js';
import { withoutTtl } from '../../forward/mqtt-headers.js';
import { readPlace, type StoredPlace } from '../../forward/pub-ack.js';
import { shortenText } from '../../live.js';
import type { LedgerEntry } from '../live/ledger-entry.js';
import type { CloseReason, MessageRefusal } from '../protocol/close-reason.js';
import type { MessageProperties } from '../protocol/codec.js';
import type { QoS } from '../protocol/packet-type.js';
import type { Exchanges } from '../sessions/exchanges.js';
import type { RefusedMessages } from './refused-messages.js';
import type { Route, Rules } from './route.js';

/** The client that sends, with the counts that its messages are held against. */
export interface Sender {
  /** Bytes of its messages waiting for their store confirmation. */
  inFlightBytes: number;
  readonly device: {
    inFlight: number;
    inFlightBytes: number;
    readonly rules: Rules | undefined;
    readonly ledger: LedgerEntry;
    awaitingRoom: Set<{ onRoom(): void }> | undefined;
  };
}

/** What a message tells of itself, and asks: the uplink of its connection. */
export interface PublishOwner {
  readonly client: Sender;
  /** When the client's last bytes arrived, in microseconds modulo 2^32. */
  readonly receivedUs: number;
  /** The stream of NATS_SUBJECT takes times to live. */
  readonly streamTakesTtl: boolean;
  /** It was stored: gives it to its subscribers. Answers false when `onKept` follows, before which nothing is acknowledged. */
  pass(message: UplinkPublish): boolean;
  /** It is stored and kept wherever it has to be. */
  settle(message: UplinkPublish): void;
  /** It is not stored, and its client is told so in its turn, for which `stored` is set when nothing else has to be. */
  answerRefused(message: UplinkPublish, detail: string): void;
  /** Where those go that are not to be stored any more; undefined: nowhere. */
  readonly refused: RefusedMessages | undefined;
  /** Its connection is that of the client. */
  readonly isThere: boolean;
  /** It can never be stored, or is given up, and nobody is told. */
  refuse(message: UplinkPublish, reason: CloseReason, fields: Readonly<Record<string, unknown>>): void;
  /** The client's connection, this one or a later one, may go on. */
  wakeClient(): void;
}

/** Memory held beside a payload that is not worth a copy. */
const smallBytes = 1_024;

/** One PUBLISH of a client on its way to NATS. */
export class UplinkPublish implements UplinkMessage {
  subject: Uint8Array;
  headers: Uint8Array;
  payload: Buffer;
  readonly confirm: boolean;
  messageId: string | undefined;
  batchable: boolean;
  repeated = false;
  ackLevel: AckLevel | undefined;
  /** Counted for the bounds of client and device. */
  private bytes = 0;
  /** Those that it is held against. */
  private rules: Rules | undefined;
  private denied = false;
  readonly packetId: number;
  readonly qos: QoS;
  readonly retain: boolean;
  readonly topic: string;
  /** Microseconds modulo 2^32: a whole number of 32 bits is kept in the object, a larger one beside it. */
  readonly receivedUs: number;
  /** PUBACK or PUBREC says where it is stored, once that is known. */
  wantsReceipt = false;
  place: StoredPlace | undefined;
  /** PUBACK or PUBREC says why it is not stored. */
  tellsRefusal = false;
  /** The client can be told. */
  mayTellRefusal = false;
  refusal: MessageRefusal | undefined;
  /** Those of MQTT 5, for subscribers. */
  properties: MessageProperties | undefined;
  /** `Date.now()` from which on they do not get it. */
  expiresAtMs: number | undefined;
  stored = false;
  /** The connection's uplink that is to answer; a client that reconnects brings a new one. */
  uplink: PublishOwner;
  private readonly client: Sender;
  /** Where the QoS 2 exchange is noted; that of a will is not. */
  readonly exchanges: Exchanges<UplinkPublish> | undefined;

  constructor(
    uplink: PublishOwner,
    route: Route,
    packet: { payload: Buffer; qos: QoS; retain: boolean; packetId: number },
    exchange: { messageId: string; exchanges?: Exchanges<UplinkPublish> } | undefined,
  ) {
    this.uplink = uplink;
    this.client = uplink.client;
    this.receivedUs = uplink.receivedUs;
    this.rules = uplink.client.device.rules;
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
    this.ackLevel = route.ackLevel;
    this.exchanges = exchange?.exchanges;
  }

  renew(): string | undefined {
    const { rules } = this.client.device;
    const problem = rules === this.rules || rules === undefined ? undefined : this.holdAgainst(rules);
    // The stream may be another one since, which would refuse it for good.
    if (this.expiresAtMs !== undefined && !(this.batchable && this.uplink.streamTakesTtl))
      this.headers = withoutTtl(this.headers);
    return problem;
  }

  private holdAgainst(rules: Rules): string | undefined {
    this.rules = rules;
    if (!rules.policy.mayPublish(this.topic)) {
      this.denied = true;
      return 'the policy of the device changed while the message waited, and no longer allows its topic';
    }
    this.subject = Buffer.from(rules.addressing.subjectOf(this.topic));
    this.batchable = rules.addressing.batchable;
    this.ackLevel = rules.addressing.ackLevel;
    this.tellsRefusal = this.mayTellRefusal && rules.policy.onRefusal === 'answer';
    return undefined;
  }

  /** A will has no packet identifier. */
  get comesAgain(): boolean {
    return this.packetId !== 0 && this.uplink.isThere;
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
    this.client.device.ledger.receive();
    if (this.confirm) this.count(1);
    lane.publish(this);
  }

  /** Counts the message in, or out, for the bounds of client and device. */
  private count(sign: 1 | -1): void {
    const { client } = this;
    // As they were counted in: the headers may have been renewed.
    if (sign === 1) this.bytes = this.headers.length + this.payload.length;
    const bytes = sign * this.bytes;
    client.inFlightBytes += bytes;
    client.device.inFlightBytes += bytes;
    client.device.inFlight += sign;
  }

  /** There is room for another message of this device. */
  private leave(): void {
    const { device } = this.client;
    this.count(-1);
    // Not the connection that sent it: the client may have another one by now, which waits for the room.
    this.uplink.wakeClient();
    const waiting = device.awaitingRoom;
    if (waiting === undefined) return;
    device.awaitingRoom = undefined;
    // A will for which there is no room yet asks again at once.
    for (const waiter of waiting) waiter.onRoom();
  }

  onStored(ack?: Uint8Array, behind?: number): void {
    this.client.device.ledger.store(ack, behind);
    if (this.wantsReceipt && ack !== undefined) this.place = readPlace(ack, behind);
    if (this.uplink.pass(this)) this.onKept();
    // What it waits for now is not the forwarder's, which would see to it.
    else if (!this.stored) this.compact();
  }

  /** It may be acknowledged. */
  onKept(): void {
    this.leave();
    this.stored = true;
    this.uplink.settle(this);
  }

  onRefused(detail: string, cause?: string, isFinal = false): void {
    this.leave();
    // The exchange is over; the client may send the message again.
    if (this.exchanges?.get(this.packetId) === this) this.exchanges.end(this.packetId);
    if (this.tellsRefusal && cause !== undefined) {
      this.refusal = refusalOf(cause);
      this.uplink.refused?.keep(this, this.refusal, detail);
      this.uplink.answerRefused(this, detail);
      if (!this.stored) this.compact();
      return;
    }
    const reason = this.denied ? 'publish-denied' : 'refused-by-nats';
    if (isFinal) this.uplink.refused?.keep(this, reason, detail);
    this.uplink.refuse(this, reason, {
      topic: shortenText(this.topic),
      bytes: natsBytesOf(this),
      detail,
    });
  }
}

/** What is told of a refusal of NATS. JetStream's codes are those of its `errors.json`. */
function refusalOf(cause: string): MessageRefusal {
  if (cause === 'too_large' || /^(10054|10097)\b/.test(cause)) return 'packet-too-large';
  if (cause === 'publish_denied') return 'denied-by-nats';
  // Store failed (a limit of messages, of bytes, or of a subject), no resources, and the account's limits.
  if (/^(10077|10047|10023|10028|10002)\b/.test(cause)) return 'storage-full';
  return 'refused-by-nats';
}
