import type { CloseReason } from '../close-reason.js';
import type { ConnackProperties, PublishProperties } from '../codec.js';

/** Where properties stand: a bit for each kind of packet, and one for the will in CONNECT (MQTT 5.0, table 2-4). */
export const Place = {
  connect: 0x001,
  connack: 0x002,
  publish: 0x004,
  will: 0x008,
  /** PUBACK, PUBREC, PUBREL and PUBCOMP. */
  acknowledge: 0x010,
  subscribe: 0x020,
  /** SUBACK and UNSUBACK. */
  suback: 0x040,
  unsubscribe: 0x080,
  disconnect: 0x100,
  auth: 0x200,
} as const;

export type Place = (typeof Place)[keyof typeof Place];

/** Every property of MQTT 5.0 by the name that it has here. */
export interface Properties extends PublishProperties, ConnackProperties {
  readonly subscriptionId?: number | undefined;
  readonly authenticationMethod?: string | undefined;
  readonly authenticationData?: Buffer | undefined;
  readonly wantsProblemInformation?: boolean | undefined;
  readonly wantsResponseInformation?: boolean | undefined;
  readonly willDelaySec?: number | undefined;
  readonly serverReference?: string | undefined;
}

/**
 * `flag` is a byte of 0 or 1, `lifetime` a four byte integer whose highest value stands for ever. Only `pair` may be
 * there more than once in what a client sends.
 */
export type PropertyType =
  | 'flag'
  | 'uint16'
  | 'uint32'
  | 'lifetime'
  | 'variable'
  | 'text'
  | 'topic'
  | 'binary'
  | 'pair';

export interface Property {
  readonly id: number;
  readonly name: keyof Properties;
  readonly type: PropertyType;
  /** Of a value of its type; undefined: that depends on the value. */
  readonly bytes: number | undefined;
  /** A sum of places. */
  readonly places: number;
  /** The places where only a server has it. */
  readonly serverPlaces: number;
  /** What a zero is answered with; undefined: it is a value like others. */
  readonly zero: CloseReason | undefined;
  /** Its own among all properties. */
  readonly bit: number;
}

type Row = readonly [
  id: number,
  name: keyof Properties,
  type: PropertyType,
  places: number,
  more?: { readonly serverPlaces?: number; readonly zero?: CloseReason },
];

const { connect, connack, publish, will, acknowledge, subscribe, suback, unsubscribe, disconnect, auth } =
  Place;
const reasoned = connack | acknowledge | suback | disconnect | auth;

const rows: readonly Row[] = [
  [0x01, 'isText', 'flag', publish | will],
  [0x02, 'expirySec', 'uint32', publish | will],
  [0x03, 'contentType', 'text', publish | will],
  [0x08, 'responseTopic', 'topic', publish | will],
  [0x09, 'correlationData', 'binary', publish | will],
  // Not in a PUBLISH of a client [MQTT-3.3.4-6].
  [
    0x0b,
    'subscriptionId',
    'variable',
    publish | subscribe,
    { serverPlaces: publish, zero: 'invalid-property' },
  ],
  [0x11, 'sessionExpirySec', 'lifetime', connect | connack | disconnect],
  [0x12, 'assignedClientId', 'text', connack],
  [0x13, 'serverKeepaliveSec', 'uint16', connack],
  [0x15, 'authenticationMethod', 'text', connect | connack | auth],
  [0x16, 'authenticationData', 'binary', connect | connack | auth],
  [0x17, 'wantsProblemInformation', 'flag', connect],
  [0x18, 'willDelaySec', 'uint32', will],
  [0x19, 'wantsResponseInformation', 'flag', connect],
  [0x1a, 'responseInformation', 'text', connack],
  [0x1c, 'serverReference', 'text', connack | disconnect, { serverPlaces: disconnect }],
  [0x1f, 'reasonString', 'text', reasoned],
  [0x21, 'receiveMaximum', 'uint16', connect | connack, { zero: 'invalid-property' }],
  [0x22, 'topicAliasMaximum', 'uint16', connect | connack],
  [0x23, 'topicAlias', 'uint16', publish, { zero: 'topic-alias-invalid' }],
  [0x24, 'maximumQos', 'flag', connack],
  [0x25, 'retainAvailable', 'flag', connack],
  [0x26, 'userProperties', 'pair', connect | publish | will | subscribe | unsubscribe | reasoned],
  [0x27, 'maxPacketBytes', 'uint32', connect | connack, { zero: 'invalid-property' }],
  [0x28, 'wildcardSubscriptionAvailable', 'flag', connack],
  [0x29, 'subscriptionIdentifiersAvailable', 'flag', connack],
  [0x2a, 'sharedSubscriptionAvailable', 'flag', connack],
];

const bytesOf: Readonly<Partial<Record<PropertyType, number>>> = {
  flag: 1,
  uint16: 2,
  uint32: 4,
  lifetime: 4,
};

/** Every property, in the order of identifiers. */
export const properties: readonly Property[] = rows.map(([id, name, type, places, more], index) => ({
  id,
  name,
  type,
  bytes: bytesOf[type],
  places,
  serverPlaces: more?.serverPlaces ?? 0,
  zero: more?.zero,
  bit: 1 << index,
}));

/** The properties by their identifiers, which all are below 0x80; undefined: there is none. */
export const propertyById: readonly (Property | undefined)[] = Array.from({ length: 256 }, (_, id) =>
  properties.find((property) => property.id === id),
);
