/** A reason and how it is told in each version. */
export interface Reason {
  /** For logs and people. */
  readonly why: string;
  /** The reason code of CONNACK and DISCONNECT in MQTT 5 (§2.4); undefined: nothing is sent. */
  readonly code?: number;
  /** The return code of CONNACK in MQTT 3 (3.1.1 §3.2.2.3); undefined: the connection ends without an answer. */
  readonly connack3?: 1 | 2 | 3 | 4 | 5;
}

/**
 * Why the gateway ends a connection: a closed list, so that each can be counted. Clauses are those of MQTT 3.1.1 where
 * no other version is named.
 */
export const closeReasons = {
  'client-disconnect': { why: 'the client sent DISCONNECT [3.14]' },
  'client-disconnect-with-will': {
    why: 'the client sent DISCONNECT and asked for its will [MQTT 5.0 3.14.2.1]',
  },
  'connection-lost': { why: 'the network connection ended without DISCONNECT' },
  'server-shutdown': { why: 'the server is stopping', code: 0x8b },

  'bad-credentials': { why: 'no user name, an unknown one or a wrong password', code: 0x86, connack3: 4 },
  'revoked-at-connect': { why: 'the device is revoked', code: 0x87, connack3: 5 },
  'certificate-missing': {
    why: 'the client shows no certificate, and MQTT_CLIENT_CERT wants one',
    code: 0x87,
    connack3: 5,
  },
  'certificate-untrusted': {
    why: 'the client certificate has expired or is of no authority in MQTT_CLIENT_CA',
    code: 0x87,
    connack3: 5,
  },
  'certificate-unknown': {
    why: 'no device has a name that the client certificate carries',
    code: 0x87,
    connack3: 5,
  },
  'certificate-mismatch': {
    why: 'the user name is not one that the client certificate carries',
    code: 0x87,
    connack3: 5,
  },
  'expired-at-connect': { why: 'the device has expired', code: 0x87, connack3: 5 },
  'will-denied': { why: "the will's topic is outside the device's policy", code: 0x87, connack3: 5 },
  'will-too-large': { why: 'a will of more than MAX_WILL_BYTES', code: 0x95, connack3: 5 },
  'database-away': {
    why: 'the database did not answer in time and the device is not remembered',
    code: 0x88,
    connack3: 3,
  },
  'sessions-away': {
    why: 'NATS did not give or take the session of the client in time, and this replica does not have it',
    code: 0x88,
    connack3: 3,
  },
  'session-unreadable': {
    why: 'the session of the client is stored in a form that this program cannot read',
    code: 0x88,
    connack3: 3,
  },
  'protocol-version': {
    why: 'a protocol level that is not spoken here [MQTT-3.1.2-2]',
    code: 0x84,
    connack3: 1,
  },
  'identifier-rejected': {
    why: 'a client id that cannot be used [MQTT-3.1.3-8, 3.1.3-9]',
    code: 0x85,
    connack3: 2,
  },
  'too-many-connections': {
    why: 'MAX_CONNECTIONS is reached, or what the limit of open files allows',
    code: 0x97,
  },
  'too-many-from-address': { why: 'MAX_CONNECTIONS_PER_ADDRESS of this address is reached', code: 0x97 },
  'too-many-connects': { why: 'MAX_WAITING_CONNECTS is reached', code: 0x9f },
  'too-many-failed-logins': {
    why: 'too many wrong logins of this device or address before',
    code: 0x87,
    connack3: 5,
  },
  'too-many-clients': { why: 'MAX_CLIENTS_PER_DEVICE of this device are connected', code: 0x97, connack3: 3 },

  revoked: { why: 'the device was revoked', code: 0x87 },
  expired: { why: 'the device has expired', code: 0x87 },
  deleted: { why: 'the device was deleted', code: 0x87 },
  'secret-changed': { why: "the device's secret changed", code: 0x87 },
  'secret-ended': {
    why: 'the secret that it logged in with was replaced, and its time has ended',
    code: 0x87,
  },
  'certificate-ended': { why: 'the client certificate that it logged in with has expired', code: 0x87 },
  'type-changed': { why: "the device's type changed", code: 0x98 },
  kicked: { why: 'an operator ended the connection', code: 0x98 },
  'policy-changed': {
    why: "the policy of the device's type no longer allows what the client has subscribed to",
    code: 0x87,
  },
  'taken-over': { why: 'the same client id of the same device connected again [MQTT-3.1.4-2]', code: 0x8e },

  'proxy-header': {
    why: 'no PROXY protocol header, or a malformed one, from an address in PROXY_PROTOCOL_FROM',
  },
  'tls-handshake': { why: 'the TLS handshake failed' },
  'websocket-handshake': { why: 'no WebSocket request for /mqtt with the sub-protocol mqtt [MQTT-6.0.0-3]' },
  'websocket-text': { why: 'a WebSocket text frame [MQTT-6.0.0-1]' },
  'websocket-protocol': { why: 'bytes that are no WebSocket frames [RFC 6455]' },
  'handshake-timeout': { why: 'handshakes not done within CONNECT_TIMEOUT_SEC' },

  'connect-timeout': { why: 'no CONNECT in time [3.1.4]' },
  'keepalive-timeout': {
    why: 'nothing received for one and a half times the keep alive [MQTT-3.1.2-24]',
    code: 0x8d,
  },
  'slow-reader': { why: 'the client does not read what is sent to it', code: 0x97 },
  'publish-denied': { why: "a topic outside the device's policy [MQTT-3.3.5-2]", code: 0x87 },
  'internal-error': { why: 'a defect of this program, which the log describes', code: 0x80 },
  'refused-by-nats': { why: 'NATS can never store the message', code: 0x83 },

  'connect-expected': { why: 'the first packet is not CONNECT [MQTT-3.1.0-1]', code: 0x82 },
  'second-connect': { why: 'CONNECT twice on one connection [MQTT-3.1.0-2]', code: 0x82 },
  'protocol-name': { why: 'an unknown protocol name [MQTT-3.1.2-1]', code: 0x84 },
  'server-packet': { why: 'a packet that only servers send, or a reserved packet type [2.2.1]', code: 0x82 },
  'reserved-bits': { why: 'reserved bits or flags that are not as prescribed [MQTT-2.2.2-2]', code: 0x81 },
  'remaining-length': {
    why: 'a remaining length of more than four bytes [2.2.3], or of more than it needs [MQTT 5.0 1.5.5]',
    code: 0x81,
  },
  'packet-too-large': { why: 'a packet over the limit', code: 0x95 },
  'malformed-packet': { why: 'a packet whose fields are shorter or longer than it says', code: 0x81 },
  'invalid-utf8': { why: 'ill-formed UTF-8 or U+0000 in a string [MQTT-1.5.3-1, 1.5.3-2]', code: 0x81 },
  'invalid-qos': { why: 'QoS 3 [MQTT-3.3.1-4, 3.1.2-14, 3.8.3-4]', code: 0x81 },
  'packet-id-zero': { why: 'packet identifier 0 [MQTT-2.3.1-1]', code: 0x82 },
  'password-without-user-name': { why: 'a password without a user name [MQTT-3.1.2-22]', code: 0x81 },
  'empty-topic': { why: 'an empty topic name or filter [MQTT-4.7.3-1]', code: 0x82 },
  'topic-with-wildcards': { why: 'a topic name with wildcards [MQTT-3.3.2-2]', code: 0x82 },
  'topic-too-long': { why: 'a topic name of more than MAX_TOPIC_BYTES', code: 0x90, connack3: 5 },
  'topic-too-deep': { why: 'a topic name of more than MAX_TOPIC_LEVELS', code: 0x90, connack3: 5 },
  'malformed-filter': { why: 'a topic filter with misplaced wildcards [MQTT-4.7.1-2, 4.7.1-3]', code: 0x8f },
  'no-topic-filter': {
    why: 'SUBSCRIBE or UNSUBSCRIBE without a topic filter [MQTT-3.8.3-3, 3.10.3-2]',
    code: 0x82,
  },
  'too-many-exchanges': {
    why: 'MAX_EXCHANGES_PER_CLIENT of QoS 2 are begun and not ended with PUBREL',
    code: 0x97,
  },
  'too-many-exchanges-in-all': {
    why: "the device's share of MEMORY_BUDGET_MIB is taken by QoS 2 messages begun and not ended with PUBREL",
    code: 0x97,
  },
  'early-pubrel': { why: 'PUBREL for a message that PUBREC has not answered yet [MQTT-4.3.3-1]', code: 0x82 },
  'wrong-acknowledgement': {
    why: 'PUBACK, PUBREC or PUBCOMP where the message sent with this identifier wants another [MQTT-4.8.0-1]',
    code: 0x82,
  },

  'malformed-property': {
    why: 'a property that is unknown, not of its packet, or longer than it [MQTT 5.0 2.2.2]',
    code: 0x81,
  },
  'invalid-property': {
    why: 'a property that is there twice, or with a value that it cannot have [MQTT 5.0 2.2.2]',
    code: 0x82,
  },
  'invalid-reason-code': { why: 'a reason code that the packet does not have [MQTT 5.0 2.4]', code: 0x81 },
  'invalid-subscription-options': {
    why: 'QoS 3 or retain handling 3 of a subscription [MQTT 5.0 3.8.3.1]',
    code: 0x82,
  },
  'topic-alias-invalid': {
    why: 'a topic alias that is 0 or over the maximum [MQTT 5.0 3.3.2.3.4]',
    code: 0x94,
  },
  'topic-alias-unknown': {
    why: 'no topic, and a topic alias that was not given one before [MQTT 5.0 3.3.2.3.4]',
    code: 0x82,
  },
  'shared-no-local': { why: 'a shared subscription with No Local [MQTT 5.0 MQTT-3.8.3-4]', code: 0x82 },
  'payload-not-utf8': {
    why: 'a payload that its properties call text, and that is none [MQTT 5.0 3.3.2.3.2]',
    code: 0x99,
  },
  'session-expiry-zero': {
    why: 'DISCONNECT with a session expiry where CONNECT had none [MQTT-3.14.2-2]',
    code: 0x82,
  },
  'receive-maximum-exceeded': {
    why: 'more QoS 1 and 2 messages unanswered than CONNACK allowed [MQTT 5.0 4.9]',
    code: 0x93,
  },
  'answer-too-large': {
    why: 'an answer larger than the client takes, by its Maximum Packet Size [MQTT 5.0 MQTT-3.1.2-24]',
    code: 0x95,
  },
  'storage-full': { why: 'the stream takes no more messages', code: 0x97 },
  'denied-by-nats': { why: 'NATS does not let the gateway publish there', code: 0x87 },
  'auth-method': { why: 'an authentication method, of which there is none here [MQTT 5.0 4.12]', code: 0x8c },
} as const satisfies Readonly<Record<string, Reason>>;

export type CloseReason = keyof typeof closeReasons;

/** What a message is refused for while its connection goes on, where the version has an answer to it. */
export const messageRefusals = [
  'publish-denied',
  'topic-too-long',
  'topic-too-deep',
  'payload-not-utf8',
  'packet-too-large',
  'too-many-exchanges',
  'too-many-exchanges-in-all',
  'storage-full',
  'denied-by-nats',
  'refused-by-nats',
] as const satisfies readonly CloseReason[];

export type MessageRefusal = (typeof messageRefusals)[number];

export function isMessageRefusal(reason: CloseReason): reason is MessageRefusal {
  return (messageRefusals as readonly CloseReason[]).includes(reason);
}

/** After these the will is not published: the client said goodbye, or lost the right to speak. */
const willSuppressing: ReadonlySet<CloseReason> = new Set<CloseReason>([
  'client-disconnect',
  'revoked',
  'expired',
  'deleted',
  'secret-changed',
  'secret-ended',
  'certificate-ended',
]);

export function suppressesWill(reason: CloseReason): boolean {
  return willSuppressing.has(reason);
}

/** What happens in the ordinary life of a fleet and is not worth a line of the log. */
export function isExpected(reason: CloseReason): boolean {
  return (
    reason === 'client-disconnect' ||
    reason === 'client-disconnect-with-will' ||
    reason === 'connection-lost' ||
    reason === 'server-shutdown'
  );
}
