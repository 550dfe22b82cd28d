import { maxTopicLevels } from '../topic-template.js';
import { count, setting, textOf } from './setting.js';

/** Bounds: each says what happens at it. */
export const limitsSettings = {
  maxConnections: setting({
    schema: count(1, 10_000_000),
    default: 100_000,
    help: 'Most MQTT connections, those in their handshakes and those that wait included, and no more than the limit of open files leaves room for; at it new ones are closed at once',
  }),
  maxConnectionsPerAddress: setting({
    schema: count(1, 10_000_000),
    // Whole fleets stand behind one address of a provider, or behind a load balancer that hides theirs.
    default: 50_000,
    help: 'Most MQTT connections of one address (IPv6: of one /64); at it new ones from there are closed at once',
  }),
  maxConnectsPerSecond: setting({
    schema: count(1, 1_000_000),
    default: 5_000,
    help: 'Most new connections taken in a second; over it they wait, unread, the addresses taking turns',
  }),
  maxConnectsPerSecondPerAddress: setting({
    schema: count(1, 1_000_000),
    default: 2_500,
    help: 'Most new connections of one address (IPv6: of one /64) taken in a second; over it they wait, unread',
  }),
  maxWaitingConnects: setting({
    schema: count(0, 10_000_000),
    default: 20_000,
    help: 'Most new connections that wait so; above it the newest of the address of which most wait is closed',
  }),
  maxFailedLoginsPerDevice: setting({
    schema: count(0, 1_000_000),
    default: 10,
    help: 'Most wrong logins in a minute as one device from one address, 0: no bound; over it CONNACK 5 without a look-up, except from where the device logged in last',
  }),
  maxFailedLoginsPerAddress: setting({
    schema: count(0, 1_000_000),
    default: 1_000,
    help: 'Most wrong logins in a minute from one address (IPv6: one /64), right ones taken off, 0: no bound; over it CONNACK 5 without a look-up, except for devices that logged in from there last',
  }),
  connectTimeoutSec: setting({
    schema: count(1, 600),
    default: 10,
    help: 'Longest wait for the handshakes of PROXY protocol, TLS and WebSocket, and then for the CONNECT packet and its answer; after it the connection is closed, and a CONNECT for which the database had no answer is refused with 3',
  }),
  maxConnectPacketBytes: setting({
    schema: count(128, 1_048_576),
    default: 16_384,
    help: 'Largest packet before CONNECT is accepted; a larger one closes the connection',
  }),
  maxPacketBytes: setting({
    schema: count(1_024, 268_435_460),
    default: 1_048_576,
    help: "Largest packet; NATS' max_payload less headers when that is smaller; a larger one closes the connection",
  }),
  maxInFlightPerClient: setting({
    schema: count(1, 65_535),
    default: 512,
    help: 'Most messages of one client waiting for their store confirmation; at it the socket is not read',
  }),
  maxInFlightBytesPerClient: setting({
    schema: count(65_536, 1_073_741_824),
    default: 4_194_304,
    help: 'Most bytes of messages of one client waiting for their store confirmation; at it the socket is not read',
  }),
  maxExchangesPerClient: setting({
    schema: count(1, 65_535),
    // Some clients send all they have before they read the first answer.
    default: 16_384,
    help: 'Most QoS 2 messages of one client that it has not ended with PUBREL; a further one closes the connection, with MQTT 5 it is refused',
  }),
  maxPublishRatePerDevice: setting({
    schema: count(0, 10_000_000),
    default: 0,
    help: 'Most messages a second from one device to one replica, 0: no bound; over it the socket is read more slowly',
  }),
  publishBurstSec: setting({
    schema: count(1, 3_600),
    default: 5,
    help: 'A device may send the messages of so many seconds at once when it sent none before; then its rate holds, also when it connects anew',
  }),
  maxInFlight: setting({
    schema: count(1, 1_048_576),
    // A stream queues 10,000 messages (nats-server's max_buffered_msgs) and refuses more.
    default: 8_192,
    help: 'Most messages of all clients waiting for their store confirmation, one device having at most an eighth of what is free; at it the sending sockets are not read',
  }),
  maxInFlightBytes: setting({
    schema: count(1_048_576, 68_719_476_736),
    default: 67_108_864,
    help: 'Most bytes of all messages waiting for NATS, one device having at most an eighth of what is free; at it the sending sockets are not read',
  }),
  maxTopicBytes: setting({
    schema: count(16, 65_535),
    default: 1_024,
    help: 'Longest topic; a longer one closes the connection, a longer filter (or one over 1,024) is refused',
  }),
  maxTopicLevels: setting({
    schema: count(1, maxTopicLevels),
    default: maxTopicLevels,
    help: 'Most levels of a topic; more close the connection, a filter with more is refused, a command with more is not delivered',
  }),
  maxWillBytes: setting({
    schema: count(0, 1_048_576),
    default: 4_096,
    help: 'Largest will, topic and message together; a CONNECT with a larger one is answered CONNACK 5',
  }),
  slowReaderTimeoutSec: setting({
    schema: count(1, 3_600),
    default: 30,
    help: 'Longest that a client may take nothing of more than 64 KiB that wait for it; after it the connection is closed',
  }),
  maxOutgoingBytes: setting({
    schema: count(65_536, 1_073_741_824),
    default: 4_194_304,
    help: 'Most bytes of messages that one client has not taken or not acknowledged; at it the connection is closed, and for an absent client with a persistent session new messages are dropped',
  }),
  maxQueuedMessages: setting({
    schema: count(1, 1_000_000),
    default: 1_000,
    help: 'Most messages waiting for one absent client with a persistent session, stored commands not among them; at it new ones are dropped',
  }),
  maxIndexedCommands: setting({
    schema: count(1, 100_000_000),
    default: 1_000_000,
    help: 'Most stored commands of which a replica knows in memory whose they are, the latest, 16 bytes each, and as many messages between devices, 25 bytes each; a device that comes back for older ones has them looked up in NATS, which is slower',
  }),
  maxRetainedMessages: setting({
    schema: count(0, 10_000_000),
    default: 10_000,
    help: 'Most retained messages that a replica keeps; at it a message for a further topic is delivered and not retained',
  }),
  maxRetainedBytes: setting({
    schema: count(0, 68_719_476_736),
    default: 67_108_864,
    help: 'Most bytes of retained messages that a replica keeps; at it a message is delivered and not retained',
  }),
  maxSubscriptionsPerClient: setting({
    schema: count(1, 65_535),
    default: 100,
    help: 'Most subscriptions of one client; at it a further one is refused',
  }),
  maxClientsPerDevice: setting({
    schema: count(1, 1_000_000),
    default: 1_000,
    help: 'Most client ids of one device, connected or with a session; at it its session absent longest is discarded, and when all are connected a further one gets CONNACK 3',
  }),
  maxSessions: setting({
    schema: count(1, 10_000_000),
    default: 100_000,
    help: 'Most absent clients with a persistent session in the memory of a replica; at it those absent longest go, first of devices that have more than their share: their sessions stay in NATS, and without JetStream they end',
  }),
  maxDelayedWills: setting({
    schema: count(0, 10_000_000),
    default: 10_000,
    help: 'Most wills of MQTT 5 that wait for their delay, each of at most MAX_WILL_BYTES; at it a will is published at once',
  }),
  maxSessionExpiry: setting({
    schema: textOf({
      pattern: '^[1-9][0-9]{0,8}[smhd]$',
      description: 'a whole number with the unit s, m, h or d, such as 12h',
    }),
    help: 'Longest that a session outlives its connection, e.g. 12h or 7d; a client of MQTT 5 that asks for more is told what it gets; unset: as long as the client asks for, with MQTT 3 for ever',
  }),
  maxKeepaliveSec: setting({
    schema: count(0, 65_535),
    default: 0,
    help: 'Longest keep alive of a client of MQTT 5, which is told; 0: the one that it asks for',
  }),
  maxTopicAliases: setting({
    schema: count(0, 65_535),
    default: 16,
    help: 'Most topic aliases of a connection of MQTT 5, for each direction; a client that gives a higher one is closed',
  }),
  memoryBudgetMib: setting({
    schema: count(16, 16_777_216),
    help: "MiB of memory for all clients together, absent ones included: a half for subscriptions (768 bytes each, 256 for each level of the filter, and the filter), at which a further one is refused; a quarter for messages not taken or not acknowledged, at which a connection that has some waiting is closed, and new ones for absent clients are dropped; a quarter for QoS 2 messages not ended with PUBREL (64 bytes each), at which a further one closes the connection; of each, one device or client has at most an eighth of what is free; unset: half of the machine's or the container's memory, at most 1,024",
  }),
  deviceCacheSize: setting({
    schema: count(1, 10_000_000),
    default: 200_000,
    help: 'Most devices whose credentials are remembered for reconnects and for when the database is away, and most absent ones of which it is kept what they used up of their publish rates; at it the one unused longest is forgotten',
  }),
} as const;
