import type { MessageProperties, UserProperties } from '../../message-properties.js';
import type { CloseReason } from './close-reason.js';
import type { PacketType, ProtocolVersion, QoS } from './packet-type.js';

export type { MessageProperties, UserProperties };

/** Packet Identifier not found: there is no such exchange (MQTT 5.0 §2.4). */
export const unknownPacketId = 0x92;

/** The properties of a PUBLISH that a client sends. */
export interface PublishProperties extends MessageProperties {
  /** 1 to 65,535. */
  readonly topicAlias?: number | undefined;
}

/** A will (MQTT 5.0 §3.1.2.5, §3.1.3.2). */
export interface Will {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: QoS;
  readonly retain: boolean;
  /** Seconds from the end of the connection; MQTT 3: 0. */
  readonly delaySec: number;
  readonly properties: MessageProperties | undefined;
}

/** CONNECT in the words of MQTT 5.0 (§3.1), which that of an older version is put into. */
export interface Connect {
  readonly version: ProtocolVersion;
  readonly clientId: string;
  readonly cleanStart: boolean;
  /** Seconds after the end of the connection; infinite for 0xFFFFFFFF, and for MQTT 3 without clean session. */
  readonly sessionExpirySec: number;
  /** Seconds; 0: none. */
  readonly keepaliveSec: number;
  /** QoS 1 and 2 messages that the client takes unacknowledged; 65,535 where it does not say. */
  readonly receiveMaximum: number;
  /** Bytes of the largest packet that the client takes; infinite where it does not say. */
  readonly maxPacketBytes: number;
  /** Topic aliases that the client takes; 0: none. */
  readonly topicAliasMaximum: number;
  readonly wantsResponseInformation: boolean;
  /** Reason Strings and User Properties may stand on every packet; true where it does not say. */
  readonly wantsProblemInformation: boolean;
  readonly userProperties: UserProperties;
  /** Undefined: no extended authentication. */
  readonly authenticationMethod: string | undefined;
  readonly userName: string | undefined;
  readonly password: Buffer | undefined;
  readonly will: Will | undefined;
}

/** What the server tells of itself and of the session in CONNACK (MQTT 5.0 §3.2.2.3); undefined: the default holds. */
export interface ConnackProperties {
  readonly sessionExpirySec?: number | undefined;
  readonly receiveMaximum?: number | undefined;
  readonly maximumQos?: 0 | 1 | undefined;
  readonly retainAvailable?: boolean | undefined;
  readonly maxPacketBytes?: number | undefined;
  readonly assignedClientId?: string | undefined;
  readonly topicAliasMaximum?: number | undefined;
  readonly reasonString?: string | undefined;
  readonly wildcardSubscriptionAvailable?: boolean | undefined;
  readonly subscriptionIdentifiersAvailable?: boolean | undefined;
  readonly sharedSubscriptionAvailable?: boolean | undefined;
  readonly serverKeepaliveSec?: number | undefined;
  readonly responseInformation?: string | undefined;
  readonly userProperties?: UserProperties | undefined;
}

/** PUBLISH (MQTT 5.0 §3.3); the payload is a view of the packet. */
export interface Publish {
  readonly qos: QoS;
  readonly retain: boolean;
  readonly packet: Buffer;
  /** Where the topic stands in the packet. Its text is not checked yet: the route does that once per topic. */
  readonly topicStart: number;
  readonly topicEnd: number;
  /** 0 with QoS 0. */
  readonly packetId: number;
  /** Where the properties stand, without their length. They are not checked yet; both are equal where there are none. */
  readonly propertiesStart: number;
  readonly propertiesEnd: number;
  readonly payload: Buffer;
}

/** PUBACK, PUBREC, PUBREL and PUBCOMP of a client. */
export interface Acknowledge {
  readonly packetId: number;
  /** 0 in MQTT 3; from 0x80 on it is a failure. */
  readonly reasonCode: number;
}

/** Where a message is stored. */
export interface Receipt {
  readonly stream: string;
  readonly sequence: number;
}

/** One filter of SUBSCRIBE and its options (MQTT 5.0 §3.8.3.1). */
export interface SubscriptionRequest {
  readonly filter: string;
  readonly qos: QoS;
  readonly noLocal: boolean;
  /** MQTT 3: false. */
  readonly retainAsPublished: boolean;
  /** 0: retained messages are sent; 1: when the subscription is new; 2: not. MQTT 3: 0. */
  readonly retainHandling: 0 | 1 | 2;
}

export interface Subscribe {
  readonly packetId: number;
  readonly requests: readonly SubscriptionRequest[];
  /** 1 to 268,435,455. */
  readonly subscriptionId: number | undefined;
}

export interface Unsubscribe {
  readonly packetId: number;
  readonly filters: readonly string[];
}

/** DISCONNECT of a client (MQTT 5.0 §3.14). */
export interface Disconnect {
  /** Reason code 0x04: the will is published all the same. */
  readonly withWill: boolean;
  /** Undefined: that of CONNECT stays. */
  readonly sessionExpirySec: number | undefined;
}

/** A message as it is sent to one client. */
export interface OutgoingPublish {
  readonly topic: string;
  readonly payload: Buffer;
  readonly retain: boolean;
  readonly properties?: MessageProperties | undefined;
  /** Of the subscriptions that it matches. */
  readonly subscriptionIds?: readonly number[] | undefined;
}

export interface Delivery {
  readonly qos: QoS;
  /** 0 with QoS 0. */
  readonly packetId: number;
  readonly dup: boolean;
  /** An alias that stands for the topic, or is given to it. */
  readonly alias?: { readonly number: number; readonly isNew: boolean } | undefined;
}

/**
 * The packets of one version of the protocol. Decoders answer a reason when the connection must end; whatever they answer
 * otherwise is well-formed. Every property of MQTT 5 has a place here; a version that does not know it leaves it out.
 */
export interface Codec {
  /** It can tell a client on which terms it is served, and why a message is refused. */
  readonly explains: boolean;
  /** Checks the flags of any packet but PUBLISH. */
  checkFlags(firstByte: number): CloseReason | undefined;
  decodePublish(packet: Buffer, bodyOffset: number): Publish | CloseReason;
  /** The properties between `start` and `end` of a PUBLISH. */
  decodePublishProperties(packet: Buffer, start: number, end: number): PublishProperties | CloseReason;
  decodeAcknowledge(packet: Buffer, bodyOffset: number): Acknowledge | CloseReason;
  decodeSubscribe(packet: Buffer, bodyOffset: number): Subscribe | CloseReason;
  decodeUnsubscribe(packet: Buffer, bodyOffset: number): Unsubscribe | CloseReason;
  decodeDisconnect(packet: Buffer, bodyOffset: number): Disconnect | CloseReason;

  /** CONNACK 0. */
  encodeConnack(sessionPresent: boolean, properties: ConnackProperties): Buffer;
  /** The code by which a packet of the server tells a reason; undefined: it does not. PUBREC has those of PUBACK. */
  codeOf(reason: CloseReason, packet: 'connack' | 'puback' | 'disconnect'): number | undefined;
  /** CONNACK with the code that a refusal has in this version, undefined when it is to end without an answer. */
  encodeRefusal(reason: CloseReason): Buffer | undefined;
  /** PUBACK, PUBREC, PUBREL or PUBCOMP. */
  encodeAcknowledge(
    type: PacketType,
    packetId: number,
    reasonCode?: number,
    details?: { readonly reasonString?: string; readonly userProperties?: UserProperties },
  ): Buffer;
  /**
   * PUBACK or PUBREC of a message that is stored, and where, as far as the version can say that. The bytes hold until the
   * next one is encoded.
   */
  encodeReceipt(type: PacketType, packetId: number, receipt: Receipt): Buffer;
  encodePublish(message: OutgoingPublish, delivery: Delivery): Buffer;
  /** One code for each filter: the granted QoS, or a refusal of MQTT 5.0 §3.9.3, in their order. */
  encodeSuback(packetId: number, codes: readonly number[], requests: readonly SubscriptionRequest[]): Buffer;
  /** One code for each filter (MQTT 5.0 §3.11.3). */
  encodeUnsuback(packetId: number, codes: readonly number[]): Buffer;
  /** DISCONNECT, undefined in a version whose server has none. */
  encodeDisconnect(reason: CloseReason, reasonString?: string): Buffer | undefined;
}
