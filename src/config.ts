import Type, { type Static, type TSchema } from 'typebox';

/**
 * One setting. `env` lists the variables that set it, the first being the documented one; `flag` is the long
 * option. What is counted as a limit says in `help` what happens at it.
 */
interface Setting<S extends TSchema = TSchema, D = unknown> {
  readonly env: readonly [string, ...string[]];
  readonly flag: string;
  readonly schema: S;
  readonly default: D;
  /** Never shown, and never an argument, which every user of a machine can read: see `flagForms`. */
  readonly secret?: true;
  /** A secret setting that is harmless without a password: its flag takes a value that carries none. */
  readonly url?: true;
  readonly group: 'database' | 'nats' | 'mqtt' | 'http' | 'limits' | 'process';
  readonly help: string;
}

function setting<S extends TSchema, const D extends Static<S> | undefined>(
  value: Setting<S, D>,
): Setting<S, D> {
  return value;
}

const port = Type.Integer({ minimum: 0, maximum: 65_535 });
const text = Type.String({ minLength: 1 });
const count = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum });

/** The schema of the whole configuration: types, environment, flags, `--help` and the table in docs/configuration.md come from it. */
export const settings = {
  databaseUrl: setting({
    env: ['DATABASE_URL', 'DATABASE_DSN'],
    flag: 'database-url',
    schema: text,
    default: undefined,
    secret: true,
    url: true,
    group: 'database',
    help: 'PostgreSQL, as postgres://user:password@host:port/name or as a "host=… user=…" DSN; unset: embedded PGlite in DATA_DIR',
  }),
  dataDir: setting({
    env: ['DATA_DIR'],
    flag: 'data-dir',
    schema: text,
    default: './.svc-mqtt',
    group: 'database',
    help: 'Directory of everything the embedded database and the embedded NATS server keep',
  }),
  databasePoolSize: setting({
    env: ['DATABASE_POOL_SIZE'],
    flag: 'database-pool-size',
    schema: count(2, 1_000),
    default: 10,
    group: 'database',
    help: 'Most connections to PostgreSQL; at it queries wait',
  }),
  databaseTimeoutMs: setting({
    env: ['DATABASE_TIMEOUT_MS'],
    flag: 'database-timeout-ms',
    schema: count(100, 600_000),
    default: 5_000,
    group: 'database',
    help: 'Longest wait for a database connection and for one query of the running server; after it the database counts as away',
  }),
  migrate: setting({
    env: ['MIGRATE'],
    flag: 'migrate',
    schema: Type.Boolean(),
    default: true,
    group: 'database',
    help: 'Bring the schema up to date at start; with --no-migrate an old schema refuses to start',
  }),
  natsUrl: setting({
    env: ['NATS_URL'],
    flag: 'nats-url',
    schema: text,
    default: undefined,
    secret: true,
    url: true,
    group: 'nats',
    help: 'NATS servers, comma-separated; unset: a server already on 127.0.0.1:EMBEDDED_NATS_PORT, else an own nats-server child process',
  }),
  natsServerBin: setting({
    env: ['NATS_SERVER_BIN'],
    flag: 'nats-server-bin',
    schema: text,
    default: undefined,
    group: 'nats',
    help: 'The nats-server program of the embedded server; unset: PATH, then the cache of `svc-mqtt setup`',
  }),
  embeddedNatsPort: setting({
    env: ['EMBEDDED_NATS_PORT'],
    flag: 'embedded-nats-port',
    schema: port,
    default: 4222,
    group: 'nats',
    help: 'Port on 127.0.0.1 of the embedded NATS server',
  }),
  natsUser: setting({
    env: ['NATS_USER'],
    flag: 'nats-user',
    schema: text,
    default: undefined,
    group: 'nats',
    help: 'User name at NATS',
  }),
  natsPassword: setting({
    env: ['NATS_PASSWORD'],
    flag: 'nats-password',
    schema: text,
    default: undefined,
    secret: true,
    group: 'nats',
    help: 'Password at NATS',
  }),
  natsToken: setting({
    env: ['NATS_TOKEN'],
    flag: 'nats-token',
    schema: text,
    default: undefined,
    secret: true,
    group: 'nats',
    help: 'Token at NATS',
  }),
  natsNkeyFile: setting({
    env: ['NATS_NKEY_FILE'],
    flag: 'nats-nkey-file',
    schema: text,
    default: undefined,
    group: 'nats',
    help: 'File with the nkey seed for NATS',
  }),
  natsCredsFile: setting({
    env: ['NATS_CREDS_FILE'],
    flag: 'nats-creds-file',
    schema: text,
    default: undefined,
    group: 'nats',
    help: 'Credentials file (JWT and seed) for NATS',
  }),
  natsTlsCa: setting({
    env: ['NATS_TLS_CA'],
    flag: 'nats-tls-ca',
    schema: text,
    default: undefined,
    group: 'nats',
    help: 'File with the certificate authority of the NATS servers; setting it requires TLS',
  }),
  natsTlsCert: setting({
    env: ['NATS_TLS_CERT'],
    flag: 'nats-tls-cert',
    schema: text,
    default: undefined,
    group: 'nats',
    help: 'File with the client certificate for NATS',
  }),
  natsTlsKey: setting({
    env: ['NATS_TLS_KEY'],
    flag: 'nats-tls-key',
    schema: text,
    default: undefined,
    group: 'nats',
    help: 'File with the key of the client certificate for NATS',
  }),
  enableJetstream: setting({
    env: ['ENABLE_JETSTREAM'],
    flag: 'jetstream',
    schema: Type.Boolean(),
    default: true,
    group: 'nats',
    help: 'Store in JetStream before acknowledging; false: core NATS, acknowledged when the NATS server has the message in memory',
  }),
  natsStream: setting({
    env: ['NATS_STREAM'],
    flag: 'nats-stream',
    schema: Type.String({ pattern: '^[A-Za-z0-9_-]{1,255}$' }),
    default: 'RAW',
    group: 'nats',
    help: 'Stream to create when none covers the subject; an existing stream is never changed',
  }),
  natsSubject: setting({
    env: ['NATS_SUBJECT'],
    flag: 'nats-subject',
    schema: Type.String({ minLength: 1, maxLength: 256 }),
    default: 'raw.{id}',
    group: 'nats',
    help: 'Subject of a device message, with {id}, {type} and {topic}',
  }),
  natsIngest: setting({
    env: ['NATS_INGEST'],
    flag: 'nats-ingest',
    schema: Type.Enum(['auto', 'batch', 'plain']),
    default: 'auto',
    group: 'nats',
    help: 'auto: store in batches (NATS 2.14 fast ingest) where the existing stream has allow_batched; batch: a stream that svc-mqtt creates has it too, and servers below 2.14 then do not serve it; plain: one confirmation a message',
  }),
  publishTimeoutSec: setting({
    env: ['PUBLISH_TIMEOUT_SEC'],
    flag: 'publish-timeout-sec',
    schema: count(1, 600),
    default: 5,
    group: 'nats',
    help: 'Longest wait for a store confirmation before the message is sent to NATS again',
  }),
  mqttHost: setting({
    env: ['MQTT_HOST'],
    flag: 'mqtt-host',
    schema: text,
    default: '::',
    group: 'mqtt',
    help: 'Address the MQTT broker listens on',
  }),
  mqttPort: setting({
    env: ['MQTT_PORT'],
    flag: 'mqtt-port',
    schema: port,
    default: 1883,
    group: 'mqtt',
    help: 'Port of the MQTT broker; 0: any free one',
  }),
  mqttTcp: setting({
    env: ['MQTT_TCP'],
    flag: 'mqtt-tcp',
    schema: Type.Boolean(),
    default: true,
    group: 'mqtt',
    help: 'Listen on MQTT_PORT, without encryption; false: on the other ports only',
  }),
  tlsCert: setting({
    env: ['TLS_CERT'],
    flag: 'tls-cert',
    schema: text,
    default: undefined,
    group: 'mqtt',
    help: 'File (PEM) with the certificate of the MQTT broker and its chain; with TLS_KEY it opens MQTTS_PORT. Read again when it changes',
  }),
  tlsKey: setting({
    env: ['TLS_KEY'],
    flag: 'tls-key',
    schema: text,
    default: undefined,
    group: 'mqtt',
    help: 'File (PEM, without passphrase) with the private key of TLS_CERT',
  }),
  mqttsPort: setting({
    env: ['MQTTS_PORT'],
    flag: 'mqtts-port',
    schema: port,
    default: 8883,
    group: 'mqtt',
    help: 'Port for MQTT over TLS, 1.2 or newer, open when TLS_CERT and TLS_KEY are set; 0: any free one',
  }),
  wsPort: setting({
    env: ['WS_PORT'],
    flag: 'ws-port',
    schema: port,
    default: undefined,
    group: 'mqtt',
    help: 'Port for MQTT over WebSocket, path /mqtt, without encryption; 0: any free one; unset: none',
  }),
  wssPort: setting({
    env: ['WSS_PORT'],
    flag: 'wss-port',
    schema: port,
    default: undefined,
    group: 'mqtt',
    help: 'Port for MQTT over WebSocket and TLS, path /mqtt; wants TLS_CERT and TLS_KEY; 0: any free one; unset: none',
  }),
  mqttClientCa: setting({
    env: ['MQTT_CLIENT_CA'],
    flag: 'mqtt-client-ca',
    schema: text,
    default: undefined,
    group: 'mqtt',
    help: 'File (PEM) with the authorities whose client certificates log devices in: the subject common name or an alternative name is the device id; unset: none are asked for',
  }),
  mqttClientCert: setting({
    env: ['MQTT_CLIENT_CERT'],
    flag: 'mqtt-client-cert',
    schema: Type.Enum(['optional', 'required', 'with-password']),
    default: 'optional',
    group: 'mqtt',
    help: 'With MQTT_CLIENT_CA: optional: a certificate or a password; required: a certificate, on every port; with-password: a certificate and the password',
  }),
  mqttClientCertUri: setting({
    env: ['MQTT_CLIENT_CERT_URI'],
    flag: 'mqtt-client-cert-uri',
    schema: Type.String({ pattern: '^[^{}]{0,200}\\{id\\}[^{}]{0,200}$' }),
    default: '{id}',
    group: 'mqtt',
    help: 'Form of the URI in a client certificate that holds the device id, for example urn:device:{id}',
  }),
  proxyProtocolFrom: setting({
    env: ['PROXY_PROTOCOL_FROM'],
    flag: 'proxy-protocol-from',
    schema: text,
    default: undefined,
    group: 'mqtt',
    help: 'Addresses of load balancers, comma-separated, as 10.0.0.0/8,::1: every MQTT connection from them must begin with a PROXY protocol header (v1 or v2) and is closed without one; from other addresses none is read',
  }),
  acl: setting({
    env: ['ACL'],
    flag: 'acl',
    schema: Type.Enum(['confined', 'open']),
    default: 'confined',
    group: 'mqtt',
    help: 'confined: publish raw.<id>, raw/<id>, raw/<id>/#, subscribe cmd/<id>/#; open: every device may publish and subscribe anywhere, as in the old service',
  }),
  listenAddr: setting({
    env: ['LISTEN_ADDR'],
    flag: 'listen-addr',
    schema: Type.String({ pattern: '^(.*:)?[0-9]{1,5}$' }),
    default: ':9091',
    group: 'http',
    help: 'Address of the HTTP API, as host:port or :port; port 0: any free one',
  }),
  apiToken: setting({
    env: ['API_TOKEN'],
    flag: 'api-token',
    schema: Type.String({ minLength: 16, pattern: '^[\\x21-\\x7e]+$' }),
    default: undefined,
    secret: true,
    group: 'http',
    help: 'Bearer token of an operator at the HTTP API, at least 16 characters; unset and without API keys: only loopback addresses are answered',
  }),
  apiKey: setting({
    env: ['API_KEY'],
    flag: 'api-key',
    schema: text,
    default: undefined,
    secret: true,
    group: 'http',
    help: 'Key that `svc-mqtt top` shows the HTTP API; unset: API_TOKEN',
  }),
  apiAllowUnauthenticated: setting({
    env: ['API_ALLOW_UNAUTHENTICATED'],
    flag: 'api-allow-unauthenticated',
    schema: Type.Boolean(),
    default: false,
    group: 'http',
    help: 'Answer the HTTP API to every address without a token, as long as there are neither API_TOKEN nor API keys',
  }),
  apiHosts: setting({
    env: ['API_HOSTS'],
    flag: 'api-hosts',
    schema: Type.String({ minLength: 1, maxLength: 4_096 }),
    default: undefined,
    group: 'http',
    help: 'Host names, comma-separated, by which the HTTP API may be called without a token or key, besides localhost and IP addresses',
  }),
  apiRequestsPerSecond: setting({
    env: ['API_REQUESTS_PER_SECOND'],
    flag: 'api-requests-per-second',
    schema: count(1, 1_000_000),
    default: 500,
    group: 'http',
    help: 'Most requests a second of one API key or of API_TOKEN to one replica, and at once; over it 429 with Retry-After',
  }),
  auditRetentionDays: setting({
    env: ['AUDIT_RETENTION_DAYS'],
    flag: 'audit-retention-days',
    schema: count(1, 36_500),
    default: 400,
    group: 'database',
    help: 'Days that the audit log is kept; older entries are deleted',
  }),
  httpTlsCert: setting({
    env: ['HTTP_TLS_CERT'],
    flag: 'http-tls-cert',
    schema: text,
    default: undefined,
    group: 'http',
    help: 'File (PEM) with the certificate of the HTTP API and its chain; with HTTP_TLS_KEY the API speaks HTTPS only. Read again when it changes',
  }),
  httpTlsKey: setting({
    env: ['HTTP_TLS_KEY'],
    flag: 'http-tls-key',
    schema: text,
    default: undefined,
    group: 'http',
    help: 'File (PEM, without passphrase) with the private key of HTTP_TLS_CERT',
  }),
  maxConnections: setting({
    env: ['MAX_CONNECTIONS'],
    flag: 'max-connections',
    schema: count(1, 10_000_000),
    default: 100_000,
    group: 'limits',
    help: 'Most MQTT connections, those in their handshakes and those that wait included; at it new ones are closed at once',
  }),
  maxConnectionsPerAddress: setting({
    env: ['MAX_CONNECTIONS_PER_ADDRESS'],
    flag: 'max-connections-per-address',
    schema: count(1, 10_000_000),
    // Whole fleets stand behind one address of a provider, or behind a load balancer that hides theirs.
    default: 50_000,
    group: 'limits',
    help: 'Most MQTT connections of one address (IPv6: of one /64); at it new ones from there are closed at once',
  }),
  maxConnectsPerSecond: setting({
    env: ['MAX_CONNECTS_PER_SECOND'],
    flag: 'max-connects-per-second',
    schema: count(1, 1_000_000),
    default: 5_000,
    group: 'limits',
    help: 'Most new connections taken in a second; over it they wait, unread, the addresses taking turns',
  }),
  maxConnectsPerSecondPerAddress: setting({
    env: ['MAX_CONNECTS_PER_SECOND_PER_ADDRESS'],
    flag: 'max-connects-per-second-per-address',
    schema: count(1, 1_000_000),
    default: 2_500,
    group: 'limits',
    help: 'Most new connections of one address (IPv6: of one /64) taken in a second; over it they wait, unread',
  }),
  maxWaitingConnects: setting({
    env: ['MAX_WAITING_CONNECTS'],
    flag: 'max-waiting-connects',
    schema: count(0, 10_000_000),
    default: 20_000,
    group: 'limits',
    help: 'Most new connections that wait so; above it the newest of the address of which most wait is closed',
  }),
  maxFailedLoginsPerDevice: setting({
    env: ['MAX_FAILED_LOGINS_PER_DEVICE'],
    flag: 'max-failed-logins-per-device',
    schema: count(0, 1_000_000),
    default: 10,
    group: 'limits',
    help: 'Most wrong logins in a minute as one device from one address, 0: no bound; over it CONNACK 5 without a look-up, except from where the device logged in last',
  }),
  maxFailedLoginsPerAddress: setting({
    env: ['MAX_FAILED_LOGINS_PER_ADDRESS'],
    flag: 'max-failed-logins-per-address',
    schema: count(0, 1_000_000),
    default: 1_000,
    group: 'limits',
    help: 'Most wrong logins in a minute from one address (IPv6: one /64), right ones taken off, 0: no bound; over it CONNACK 5 without a look-up, except for devices that logged in from there last',
  }),
  connectTimeoutSec: setting({
    env: ['CONNECT_TIMEOUT_SEC'],
    flag: 'connect-timeout-sec',
    schema: count(1, 600),
    default: 10,
    group: 'limits',
    help: 'Longest wait for the handshakes of PROXY protocol, TLS and WebSocket, and then for the CONNECT packet; after it the connection is closed',
  }),
  maxConnectPacketBytes: setting({
    env: ['MAX_CONNECT_PACKET_BYTES'],
    flag: 'max-connect-packet-bytes',
    schema: count(128, 1_048_576),
    default: 16_384,
    group: 'limits',
    help: 'Largest packet before CONNECT is accepted; a larger one closes the connection',
  }),
  maxPacketBytes: setting({
    env: ['MAX_PACKET_BYTES'],
    flag: 'max-packet-bytes',
    schema: count(1_024, 268_435_460),
    default: 1_048_576,
    group: 'limits',
    help: "Largest packet; NATS' max_payload less headers when that is smaller; a larger one closes the connection",
  }),
  maxInFlightPerClient: setting({
    env: ['MAX_IN_FLIGHT_PER_CLIENT'],
    flag: 'max-in-flight-per-client',
    schema: count(1, 65_535),
    default: 512,
    group: 'limits',
    help: 'Most messages of one client waiting for their store confirmation; at it the socket is not read',
  }),
  maxInFlightBytesPerClient: setting({
    env: ['MAX_IN_FLIGHT_BYTES_PER_CLIENT'],
    flag: 'max-in-flight-bytes-per-client',
    schema: count(65_536, 1_073_741_824),
    default: 4_194_304,
    group: 'limits',
    help: 'Most bytes of messages of one client waiting for their store confirmation; at it the socket is not read',
  }),
  maxExchangesPerClient: setting({
    env: ['MAX_EXCHANGES_PER_CLIENT'],
    flag: 'max-exchanges-per-client',
    schema: count(1, 65_535),
    // Some clients send all they have before they read the first answer.
    default: 16_384,
    group: 'limits',
    help: 'Most QoS 2 messages of one client that it has not ended with PUBREL; a further one closes the connection',
  }),
  maxPublishRatePerDevice: setting({
    env: ['MAX_PUBLISH_RATE_PER_DEVICE'],
    flag: 'max-publish-rate-per-device',
    schema: count(0, 10_000_000),
    default: 0,
    group: 'limits',
    help: 'Most messages a second from one device to one replica, 0: no bound; over it the socket is read more slowly',
  }),
  publishBurstSec: setting({
    env: ['PUBLISH_BURST_SEC'],
    flag: 'publish-burst-sec',
    schema: count(1, 3_600),
    default: 5,
    group: 'limits',
    help: 'A device may send the messages of so many seconds at once when it sent none before; then its rate holds',
  }),
  maxInFlight: setting({
    env: ['MAX_IN_FLIGHT'],
    flag: 'max-in-flight',
    schema: count(1, 1_048_576),
    // A stream queues 10,000 messages (nats-server's max_buffered_msgs) and refuses more.
    default: 8_192,
    group: 'limits',
    help: 'Most messages of all clients waiting for their store confirmation, one device having at most an eighth of what is free; at it the sending sockets are not read',
  }),
  maxInFlightBytes: setting({
    env: ['MAX_IN_FLIGHT_BYTES'],
    flag: 'max-in-flight-bytes',
    schema: count(1_048_576, 68_719_476_736),
    default: 67_108_864,
    group: 'limits',
    help: 'Most bytes of all messages waiting for NATS, one device having at most an eighth of what is free; at it the sending sockets are not read',
  }),
  maxTopicBytes: setting({
    env: ['MAX_TOPIC_BYTES'],
    flag: 'max-topic-bytes',
    schema: count(16, 65_535),
    default: 1_024,
    group: 'limits',
    help: 'Longest topic; a longer one closes the connection, a longer filter (or one over 1,024) is answered 0x80',
  }),
  maxTopicLevels: setting({
    env: ['MAX_TOPIC_LEVELS'],
    flag: 'max-topic-levels',
    schema: count(1, 65_536),
    default: 100,
    group: 'limits',
    help: 'Most levels of a topic; more close the connection, a filter with more (or over 100) is answered 0x80',
  }),
  maxWillBytes: setting({
    env: ['MAX_WILL_BYTES'],
    flag: 'max-will-bytes',
    schema: count(0, 1_048_576),
    default: 4_096,
    group: 'limits',
    help: 'Largest will, topic and message together; a CONNECT with a larger one is answered CONNACK 5',
  }),
  slowReaderTimeoutSec: setting({
    env: ['SLOW_READER_TIMEOUT_SEC'],
    flag: 'slow-reader-timeout-sec',
    schema: count(1, 3_600),
    default: 30,
    group: 'limits',
    help: 'Longest that a client may take nothing of more than 64 KiB that wait for it; after it the connection is closed',
  }),
  maxOutgoingBytes: setting({
    env: ['MAX_OUTGOING_BYTES'],
    flag: 'max-outgoing-bytes',
    schema: count(65_536, 1_073_741_824),
    default: 4_194_304,
    group: 'limits',
    help: 'Most bytes of messages that one client has not taken or not acknowledged; at it the connection is closed, and for an absent client with a persistent session new messages are dropped',
  }),
  maxOutgoingBytesInAll: setting({
    env: ['MAX_OUTGOING_BYTES_IN_ALL'],
    flag: 'max-outgoing-bytes-in-all',
    schema: count(1_048_576, 68_719_476_736),
    default: 268_435_456,
    group: 'limits',
    help: 'The same of all clients, one having at most an eighth of what is free; at it a connection that has messages waiting is closed, and new ones for absent clients are dropped',
  }),
  maxQueuedMessages: setting({
    env: ['MAX_QUEUED_MESSAGES'],
    flag: 'max-queued-messages',
    schema: count(1, 1_000_000),
    default: 1_000,
    group: 'limits',
    help: 'Most messages waiting for one absent client with a persistent session; at it new ones are dropped',
  }),
  maxRetainedMessages: setting({
    env: ['MAX_RETAINED_MESSAGES'],
    flag: 'max-retained-messages',
    schema: count(0, 10_000_000),
    default: 10_000,
    group: 'limits',
    help: 'Most retained messages of a replica; at it a message for a further topic is delivered and not retained',
  }),
  maxRetainedBytes: setting({
    env: ['MAX_RETAINED_BYTES'],
    flag: 'max-retained-bytes',
    schema: count(0, 68_719_476_736),
    default: 67_108_864,
    group: 'limits',
    help: 'Most bytes of retained messages of a replica; at it a message is delivered and not retained',
  }),
  maxSubscriptionsPerClient: setting({
    env: ['MAX_SUBSCRIPTIONS_PER_CLIENT'],
    flag: 'max-subscriptions-per-client',
    schema: count(1, 65_535),
    default: 100,
    group: 'limits',
    help: 'Most subscriptions of one client; at it a further one is answered 0x80',
  }),
  maxClientsPerDevice: setting({
    env: ['MAX_CLIENTS_PER_DEVICE'],
    flag: 'max-clients-per-device',
    schema: count(1, 1_000_000),
    default: 1_000,
    group: 'limits',
    help: 'Most client ids of one device, connected or with a session; at it its session absent longest is discarded, and when all are connected a further one gets CONNACK 3',
  }),
  maxSessions: setting({
    env: ['MAX_SESSIONS'],
    flag: 'max-sessions',
    schema: count(1, 10_000_000),
    default: 100_000,
    group: 'limits',
    help: 'Most persistent sessions kept for absent clients; at it those absent longest are discarded, first of devices that have more than their share',
  }),
  deviceCacheSize: setting({
    env: ['DEVICE_CACHE_SIZE'],
    flag: 'device-cache-size',
    schema: count(1, 10_000_000),
    default: 200_000,
    group: 'limits',
    help: 'Most devices whose credentials are remembered for reconnects and for when the database is away; at it the one unused longest is forgotten',
  }),
  shutdownTimeoutSec: setting({
    env: ['SHUTDOWN_TIMEOUT_SEC'],
    flag: 'shutdown-timeout-sec',
    schema: count(0, 600),
    default: 15,
    group: 'process',
    help: 'Longest wait at shutdown for messages to be stored and acknowledged',
  }),
  logLevel: setting({
    env: ['LOG_LEVEL'],
    flag: 'log-level',
    schema: Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']),
    default: 'info',
    group: 'process',
    help: 'Least severe log lines written',
  }),
  logFormat: setting({
    env: ['LOG_FORMAT'],
    flag: 'log-format',
    schema: Type.Enum(['auto', 'json', 'pretty']),
    default: 'auto',
    group: 'process',
    help: 'json, pretty, or auto: pretty on a terminal',
  }),
} as const;

export type SettingName = keyof typeof settings;
export type SettingGroup = Setting['group'];

type ValueOf<T> =
  T extends Setting<infer S, infer D> ? (undefined extends D ? Static<S> | undefined : Static<S>) : never;

export type Config = { readonly [K in SettingName]: ValueOf<(typeof settings)[K]> };

/** Every setting with its name, in the order of the table. */
export const settingEntries = Object.entries(settings) as [SettingName, Setting][];

/** The name of a setting in the configuration file: the documented variable in lower case. */
export function fileKey(entry: Setting): string {
  return entry.env[0].toLowerCase();
}

/** How a setting is given on the command line: with its value, with a file that holds it, or either. */
export function flagForms(entry: Setting): { readonly value: boolean; readonly file: boolean } {
  return { value: entry.secret !== true || entry.url === true, file: entry.secret === true };
}

/** What a setting accepts, in words. */
export function describeSchema(schema: TSchema): string {
  const rules = schema as {
    type?: string;
    enum?: readonly string[];
    minimum?: number;
    maximum?: number;
    minLength?: number;
    maxLength?: number;
    pattern?: string;
  };
  if (rules.enum !== undefined) return rules.enum.join(' or ');
  if (rules.type === 'boolean') return 'true or false';
  if (rules.type === 'integer') return `a whole number from ${rules.minimum} to ${rules.maximum}`;
  const lengths =
    rules.maxLength === undefined
      ? `at least ${rules.minLength ?? 1} character${(rules.minLength ?? 1) === 1 ? '' : 's'}`
      : `${rules.minLength ?? 1} to ${rules.maxLength} characters`;
  return rules.pattern === undefined ? `text of ${lengths}` : `text of ${lengths} matching ${rules.pattern}`;
}

/** Splits `host:port`, `:port` or `port`; without a host the API listens on every address. */
export function splitListenAddr(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  const host = colon <= 0 ? '::' : address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  return { host, port: Number(address.slice(colon + 1)) };
}
