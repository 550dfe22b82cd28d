/** Which packets may have a reason code: a bit for each of these. */
export const ReasonPlace = {
  connack: 0x001,
  /** PUBACK and PUBREC. */
  received: 0x002,
  /** PUBREL and PUBCOMP. */
  released: 0x004,
  suback: 0x008,
  unsuback: 0x010,
  serverDisconnect: 0x020,
  clientDisconnect: 0x040,
  serverAuth: 0x080,
  clientAuth: 0x100,
} as const;

export type ReasonPlace = (typeof ReasonPlace)[keyof typeof ReasonPlace];

const {
  connack,
  received,
  released,
  suback,
  unsuback,
  serverDisconnect,
  clientDisconnect,
  serverAuth,
  clientAuth,
} = ReasonPlace;
const disconnect = serverDisconnect | clientDisconnect;
const answers = connack | received | suback | unsuback;

/** MQTT 5.0 §2.4 and the section of each packet. */
const table = {
  /** Also normal disconnection, and QoS 0 granted. */
  success: [0x00, connack | received | released | suback | unsuback | disconnect | serverAuth],
  grantedQos1: [0x01, suback],
  grantedQos2: [0x02, suback],
  disconnectWithWill: [0x04, clientDisconnect],
  noMatchingSubscribers: [0x10, received],
  noSubscriptionExisted: [0x11, unsuback],
  continueAuthentication: [0x18, serverAuth | clientAuth],
  reauthenticate: [0x19, clientAuth],
  unspecifiedError: [0x80, answers | disconnect],
  malformedPacket: [0x81, connack | disconnect],
  protocolError: [0x82, connack | disconnect],
  implementationSpecificError: [0x83, answers | disconnect],
  unsupportedProtocolVersion: [0x84, connack],
  clientIdentifierNotValid: [0x85, connack],
  badUserNameOrPassword: [0x86, connack],
  notAuthorized: [0x87, answers | serverDisconnect],
  serverUnavailable: [0x88, connack],
  serverBusy: [0x89, connack | serverDisconnect],
  banned: [0x8a, connack],
  serverShuttingDown: [0x8b, serverDisconnect],
  badAuthenticationMethod: [0x8c, connack | serverDisconnect],
  keepAliveTimeout: [0x8d, serverDisconnect],
  sessionTakenOver: [0x8e, serverDisconnect],
  topicFilterInvalid: [0x8f, suback | unsuback | serverDisconnect],
  topicNameInvalid: [0x90, connack | received | disconnect],
  packetIdentifierInUse: [0x91, received | suback | unsuback],
  packetIdentifierNotFound: [0x92, released],
  receiveMaximumExceeded: [0x93, disconnect],
  topicAliasInvalid: [0x94, disconnect],
  packetTooLarge: [0x95, connack | disconnect],
  messageRateTooHigh: [0x96, disconnect],
  quotaExceeded: [0x97, connack | received | suback | disconnect],
  administrativeAction: [0x98, disconnect],
  payloadFormatInvalid: [0x99, connack | received | disconnect],
  retainNotSupported: [0x9a, connack | serverDisconnect],
  qosNotSupported: [0x9b, connack | serverDisconnect],
  useAnotherServer: [0x9c, connack | serverDisconnect],
  serverMoved: [0x9d, connack | serverDisconnect],
  sharedSubscriptionsNotSupported: [0x9e, suback | serverDisconnect],
  connectionRateExceeded: [0x9f, connack | serverDisconnect],
  maximumConnectTime: [0xa0, serverDisconnect],
  subscriptionIdentifiersNotSupported: [0xa1, suback | serverDisconnect],
  wildcardSubscriptionsNotSupported: [0xa2, suback | serverDisconnect],
} as const;

type ReasonCodes = { readonly [Name in keyof typeof table]: (typeof table)[Name][0] };

/** The reason codes of MQTT 5.0 by name. */
export const ReasonCode = Object.fromEntries(
  Object.entries(table).map(([name, [code]]) => [name, code]),
) as ReasonCodes;

export type ReasonCode = ReasonCodes[keyof ReasonCodes];

const placesByCode: readonly number[] = Array.from(
  { length: 256 },
  (_, code) => Object.values(table).find((row) => row[0] === code)?.[1] ?? 0,
);

/** Whether a packet of this kind may have this reason code. */
export function isReasonOf(code: number, place: ReasonPlace): boolean {
  return ((placesByCode[code] ?? 0) & place) !== 0;
}
