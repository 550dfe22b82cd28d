import type { CloseReason } from '../protocol/close-reason.js';

/** The bounds of the MQTT side, each with what happens at it: a closed list, so that every hit can be counted. */
export const limitNames = {
  connections: 'MAX_CONNECTIONS: a new connection is closed',
  'open-files':
    'the limit of open files (ulimit -n), less what the rest of the replica needs: a new connection is closed',
  'connections-per-address': 'MAX_CONNECTIONS_PER_ADDRESS: a new connection is closed',
  'clients-per-device': 'MAX_CLIENTS_PER_DEVICE: a session is discarded, or CONNACK 3',
  'connects-per-second': 'MAX_CONNECTS_PER_SECOND: a new connection waits',
  'connects-per-address': 'MAX_CONNECTS_PER_SECOND_PER_ADDRESS: a new connection waits',
  'waiting-connects': 'MAX_WAITING_CONNECTS: a waiting connection is closed',
  'failed-logins-per-device': 'MAX_FAILED_LOGINS_PER_DEVICE: CONNACK 5',
  'failed-logins-per-address': 'MAX_FAILED_LOGINS_PER_ADDRESS: CONNACK 5',
  'connect-packet-bytes': 'MAX_CONNECT_PACKET_BYTES: the connection is closed',
  'packet-bytes': 'MAX_PACKET_BYTES, or what NATS or the policy allows: the connection is closed',
  'topic-bytes': 'MAX_TOPIC_BYTES: the connection is closed, a filter is refused',
  'topic-levels':
    'MAX_TOPIC_LEVELS: the connection is closed, a filter is refused, a command is not delivered',
  'will-bytes': 'MAX_WILL_BYTES: CONNACK 5',
  'in-flight-per-client': 'MAX_IN_FLIGHT_PER_CLIENT: the socket is not read',
  'in-flight-bytes-per-client': 'MAX_IN_FLIGHT_BYTES_PER_CLIENT: the socket is not read',
  'in-flight-per-device': "a device's share of MAX_IN_FLIGHT and MAX_IN_FLIGHT_BYTES: the socket is not read",
  'in-flight': 'MAX_IN_FLIGHT or MAX_IN_FLIGHT_BYTES: the socket is not read',
  'publish-rate': "MAX_PUBLISH_RATE_PER_DEVICE, or the policy's rate: the socket is read more slowly",
  'exchanges-per-client':
    'MAX_EXCHANGES_PER_CLIENT: the connection is closed; MQTT 5: the message is refused',
  'exchanges-in-all':
    "a device's share of MEMORY_BUDGET_MIB for QoS 2 messages: the connection is closed; MQTT 5: the message is refused",
  'outgoing-bytes': 'MAX_OUTGOING_BYTES: the connection is closed, or a message for an absent client dropped',
  'outgoing-bytes-in-all':
    "a client's share of MEMORY_BUDGET_MIB for messages to clients: the connection is closed, or a message for an absent client dropped",
  'slow-reader': 'SLOW_READER_TIMEOUT_SEC: the connection is closed',
  'queued-messages': 'MAX_QUEUED_MESSAGES: a message for an absent client is dropped',
  'subscriptions-per-client': 'MAX_SUBSCRIPTIONS_PER_CLIENT: a filter is refused',
  'subscription-bytes-in-all': "a device's share of MEMORY_BUDGET_MIB for subscriptions: a filter is refused",
  'shared-subscription':
    'MAX_OUTGOING_BYTES or MAX_QUEUED_MESSAGES of every member of a shared subscription: a message is dropped',
  'retained-messages': 'MAX_RETAINED_MESSAGES or MAX_RETAINED_BYTES: a message is not retained',
  sessions: 'MAX_SESSIONS: a session is discarded',
  'delayed-wills': 'MAX_DELAYED_WILLS: a will is published without its delay',
  'waiting-wills': 'the wills that wait for NATS: a will is dropped',
} as const;

export type LimitName = keyof typeof limitNames;

/** Reasons to end a connection that are a bound's. */
export const limitOfReason: Partial<Record<CloseReason, LimitName>> = {
  'packet-too-large': 'packet-bytes',
  'topic-too-long': 'topic-bytes',
  'topic-too-deep': 'topic-levels',
  'will-too-large': 'will-bytes',
  'too-many-exchanges': 'exchanges-per-client',
  'too-many-exchanges-in-all': 'exchanges-in-all',
};
