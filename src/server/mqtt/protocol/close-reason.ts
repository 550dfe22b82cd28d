/**
 * Why the gateway ends a connection: a closed list, so that each can be counted. Clauses are those of MQTT 3.1.1.
 */
export const closeReasons = {
  'client-disconnect': 'the client sent DISCONNECT [3.14]',
  'connection-lost': 'the network connection ended without DISCONNECT',
  'server-shutdown': 'the server is stopping',

  'bad-credentials': 'no user name, an unknown one or a wrong password [CONNACK 4]',
  'revoked-at-connect': 'the device is revoked [CONNACK 5]',
  'certificate-missing': 'the client shows no certificate, and MQTT_CLIENT_CERT wants one [CONNACK 5]',
  'certificate-untrusted':
    'the client certificate has expired or is of no authority in MQTT_CLIENT_CA [CONNACK 5]',
  'certificate-unknown': 'no device has a name that the client certificate carries [CONNACK 5]',
  'certificate-mismatch': 'the user name is not one that the client certificate carries [CONNACK 5]',
  'expired-at-connect': 'the device has expired [CONNACK 5]',
  'will-denied': "the will's topic is outside the device's policy [CONNACK 5]",
  'will-too-large': 'a will of more than MAX_WILL_BYTES [CONNACK 5]',
  'database-away': 'the database did not answer in time and the device is not remembered [CONNACK 3]',
  'protocol-version': 'a protocol level that is not spoken here [MQTT-3.1.2-2]',
  'identifier-rejected': 'a client id that cannot be used [MQTT-3.1.3-8, 3.1.3-9]',
  'too-many-connections': 'MAX_CONNECTIONS is reached, or what the limit of open files allows',
  'too-many-from-address': 'MAX_CONNECTIONS_PER_ADDRESS of this address is reached',
  'too-many-connects': 'MAX_WAITING_CONNECTS is reached',
  'too-many-failed-logins': 'too many wrong logins of this device or address before [CONNACK 5]',
  'too-many-clients': 'MAX_CLIENTS_PER_DEVICE of this device are connected [CONNACK 3]',

  revoked: 'the device was revoked',
  expired: 'the device has expired',
  deleted: 'the device was deleted',
  'secret-changed': "the device's secret changed",
  'secret-ended': 'the secret that it logged in with was replaced, and its time has ended',
  'certificate-ended': 'the client certificate that it logged in with has expired',
  'type-changed': "the device's type changed",
  kicked: 'an operator ended the connection',
  'policy-changed': "the policy of the device's type no longer allows what the client has subscribed to",
  'taken-over': 'the same client id of the same device connected again [MQTT-3.1.4-2]',

  'proxy-header': 'no PROXY protocol header, or a malformed one, from an address in PROXY_PROTOCOL_FROM',
  'tls-handshake': 'the TLS handshake failed',
  'websocket-handshake': 'no WebSocket request for /mqtt with the sub-protocol mqtt [MQTT-6.0.0-3]',
  'websocket-text': 'a WebSocket text frame [MQTT-6.0.0-1]',
  'websocket-protocol': 'bytes that are no WebSocket frames [RFC 6455]',
  'handshake-timeout': 'handshakes not done within CONNECT_TIMEOUT_SEC',

  'connect-timeout': 'no CONNECT in time [3.1.4]',
  'keepalive-timeout': 'nothing received for one and a half times the keep alive [MQTT-3.1.2-24]',
  'slow-reader': 'the client does not read what is sent to it',
  'publish-denied': "a topic outside the device's policy [MQTT-3.3.5-2]",
  'internal-error': 'a defect of this program, which the log describes',
  'refused-by-nats': 'NATS can never store the message',

  'connect-expected': 'the first packet is not CONNECT [MQTT-3.1.0-1]',
  'second-connect': 'CONNECT twice on one connection [MQTT-3.1.0-2]',
  'protocol-name': 'an unknown protocol name [MQTT-3.1.2-1]',
  'server-packet': 'a packet that only servers send, or a reserved packet type [2.2.1]',
  'reserved-bits': 'reserved bits or flags that are not as prescribed [MQTT-2.2.2-2]',
  'remaining-length': 'a remaining length of more than four bytes [2.2.3]',
  'packet-too-large': 'a packet over the limit',
  'malformed-packet': 'a packet whose fields are shorter or longer than it says',
  'invalid-utf8': 'ill-formed UTF-8 or U+0000 in a string [MQTT-1.5.3-1, 1.5.3-2]',
  'invalid-qos': 'QoS 3 [MQTT-3.3.1-4, 3.1.2-14, 3.8.3-4]',
  'packet-id-zero': 'packet identifier 0 [MQTT-2.3.1-1]',
  'password-without-user-name': 'a password without a user name [MQTT-3.1.2-22]',
  'empty-topic': 'an empty topic name or filter [MQTT-4.7.3-1]',
  'topic-with-wildcards': 'a topic name with wildcards [MQTT-3.3.2-2]',
  'topic-too-long': 'a topic name of more than MAX_TOPIC_BYTES',
  'topic-too-deep': 'a topic name of more than MAX_TOPIC_LEVELS',
  'malformed-filter': 'a topic filter with misplaced wildcards [MQTT-4.7.1-2, 4.7.1-3]',
  'no-topic-filter': 'SUBSCRIBE or UNSUBSCRIBE without a topic filter [MQTT-3.8.3-3, 3.10.3-2]',
  'too-many-exchanges': 'MAX_EXCHANGES_PER_CLIENT of QoS 2 are begun and not ended with PUBREL',
  'too-many-exchanges-in-all':
    "MAX_EXCHANGES_IN_ALL, or the device's share of it, of QoS 2 are begun and not ended with PUBREL",
  'early-pubrel': 'PUBREL for a message that PUBREC has not answered yet [MQTT-4.3.3-1]',
  'wrong-acknowledgement':
    'PUBACK, PUBREC or PUBCOMP where the message sent with this identifier wants another [MQTT-4.8.0-1]',
} as const;

export type CloseReason = keyof typeof closeReasons;

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
  return reason === 'client-disconnect' || reason === 'connection-lost' || reason === 'server-shutdown';
}
