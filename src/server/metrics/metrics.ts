import { Registry } from 'prom-client';
import { ackLevels } from '../../ack-level.js';
import type { Config } from '../../config.js';
import type { DeviceDirectory } from '../directory/device-directory.js';
import type { Downlink } from '../forward/commands/downlink.js';
import { type DeadLetters, noDeadLetters } from '../forward/dead-letters.js';
import type { Forwarder } from '../forward/forwarder.js';
import type { Presence } from '../forward/state/presence.js';
import type { SharedState } from '../forward/state/shared-state.js';
import type { BrokerView } from '../mqtt/broker-view.js';
import type { Traffic } from '../mqtt/live/counters.js';
import type { PendingWatch } from '../operate/session-pending.js';
import type { CertificateInfo } from '../tls/certificate-info.js';
import { addAcceptQueue } from './accept-queue.js';
import { addProcessMetrics } from './process-metrics.js';
import { openSeriesRegistry, type ReadSeries, type Series, type SeriesRegistry } from './series.js';

/** What the metrics are read from. */
export interface MetricSources {
  readonly broker: BrokerView;
  readonly forwarder: Pick<Forwarder, 'state'>;
  readonly downlink: Pick<Downlink, 'store' | 'notStored'>;
  /** What replicas share; undefined without JetStream. */
  readonly shared?: Pick<SharedState, 'messages'> | undefined;
  /** Undefined: nobody knows which replicas live. */
  readonly presence?: Presence | undefined;
  /** How long commands wait for sessions that are away. */
  readonly pending: Pick<PendingWatch, 'oldestMs'>;
  /** The streams that svc-mqtt has for itself and uses. */
  stateStreams(): readonly { readonly name: string; readonly usable: boolean }[];
  readonly directory: Pick<DeviceDirectory, 'problem' | 'cacheState'>;
  /** Most connections: MAX_CONNECTIONS, or what the limit of open files allows. */
  readonly maxConnections: number;
  readonly config: Pick<
    Config,
    | 'maxInFlight'
    | 'maxInFlightBytes'
    | 'maxRetainedMessages'
    | 'deviceCacheSize'
    | 'ackLevel'
    | 'maxIndexedCommands'
  >;
  readonly version: string;
  /** Those that are in use. */
  readonly certificates: { list(): Pick<CertificateInfo, 'path' | 'expiresAt'>[] };
  /** Undefined without DEVICE_EVENTS. */
  readonly deadLetters?: Pick<DeadLetters, 'counts'> | undefined;
  readonly deviceEvents?: { readonly sent: number; readonly dropped: number } | undefined;
  /** Of a worker its number, which every series bears. */
  readonly worker: number | undefined;
}

/** Prepares the metrics. Those of the process are watched from the first reading on: nobody who does not read pays. */
export function openMetrics(sources: MetricSources) {
  const registry = new Registry();
  if (sources.worker !== undefined) registry.setDefaultLabels({ worker: String(sources.worker) });
  const series = openSeriesRegistry(registry);
  addClients(series, sources);
  addAcceptQueue(registry, () => sources.broker.arrivals().ports);
  addMessages(series, sources);
  addCommands(series, sources);
  addParts(series, sources);
  let watching = false;
  return {
    /** All of them in the text format of Prometheus. */
    async read(): Promise<{ readonly contentType: string; readonly text: string }> {
      if (!watching) addProcessMetrics(registry);
      watching = true;
      return { contentType: registry.contentType, text: await registry.metrics() };
    },
  };
}

function addClients(series: SeriesRegistry, { broker, maxConnections }: MetricSources): void {
  const { counters } = broker;
  addAll(series, {
    svc_mqtt_connections: [
      'MQTT connections open now, by transport',
      () => byLabel('transport', broker.connectionCounts()),
    ],
    svc_mqtt_protocol_connections: [
      'MQTT connections that were accepted and are open now, by version of MQTT',
      () => byLabel('protocol', broker.protocolCounts()),
    ],
    svc_mqtt_connections_limit: [
      'Most MQTT connections: MAX_CONNECTIONS, or what the limit of open files allows',
      () => maxConnections,
    ],
    svc_mqtt_waiting_connects: [
      'Connections accepted that wait for their turn, at MAX_CONNECTS_PER_SECOND or that of their address',
      () => broker.arrivals().waiting,
    ],
    svc_mqtt_sockets_total: ['Sockets accepted, those turned away included', () => counters.opened],
    svc_mqtt_connects_total: [
      'How connections began: accepted, or why they ended before CONNECT was accepted',
      () => [[{ result: 'accepted' }, counters.accepted], ...byLabel('result', counters.refused)],
    ],
    svc_mqtt_closes_total: [
      'Connections ended, by reason, refused ones included',
      () => byLabel('reason', counters.closed),
    ],
    svc_mqtt_subscriptions_denied_total: ['Topic filters refused', () => counters.subscribeDenied],
    svc_mqtt_limits_hit_total: [
      'How often each bound was reached; what is held back counts once until it goes on',
      () => byLabel('limit', counters.limits),
    ],
  });
}

function addMessages(
  series: SeriesRegistry,
  { broker, forwarder, config, shared, presence }: MetricSources,
): void {
  const { counters } = broker;
  const traffic = (unit: keyof Traffic): Series[] => [
    ...byQos('in', counters.received[unit]),
    ...byQos('out', counters.sent[unit]),
  ];
  addAll(series, {
    svc_mqtt_messages_total: [
      'PUBLISH packets from (in) and to (out) clients, by QoS',
      () => traffic('messages'),
    ],
    svc_mqtt_payload_bytes_total: [
      'Bytes of payload in PUBLISH packets from (in) and to (out) clients, by QoS',
      () => traffic('bytes'),
    ],
    svc_mqtt_messages_stored_total: [
      'Messages that NATS has confirmed as stored',
      () => forwarder.state().counters.stored,
    ],
    svc_mqtt_messages_unconfirmed_total: [
      'Messages of QoS 0 handed to NATS, which is not asked to confirm them',
      () => forwarder.state().counters.sent,
    ],
    svc_mqtt_messages_dropped_total: [
      'Messages dropped, by reason',
      () => {
        const { dropped, abandoned } = forwarder.state().counters;
        return byLabel('reason', {
          'nats-away': dropped,
          abandoned,
          'client-queue-full': counters.deliveriesDropped,
          expired: counters.deliveriesExpired,
          'client-packet-bytes': counters.deliveriesTooLarge,
          'client-refused': counters.deliveriesRefused,
          'not-passed': counters.deliveriesNotPassed,
          'will-queue-full': counters.willsDropped,
        });
      },
    ],
    svc_mqtt_messages_refused_total: [
      'Messages refused, by reason; each also closes its connection, where the client cannot be told',
      () => {
        const { closed, refused, publishesRefused: told } = counters;
        return byLabel('reason', {
          nats: forwarder.state().counters.refused,
          policy: closed['publish-denied'] + told['publish-denied'],
          // What comes before CONNECT, such as of another protocol, is no message.
          'too-large': closed['packet-too-large'] - refused['packet-too-large'] + told['packet-too-large'],
        });
      },
    ],
    svc_mqtt_refusals_told_total: [
      'Messages of clients of MQTT 5 that were refused and whose connection goes on, by reason',
      () => byLabel('reason', counters.publishesRefused),
    ],
    svc_mqtt_forward_retries_total: [
      'Attempts to store a message that failed and are repeated',
      () => {
        const { retriedTimeout, retriedRefused, retriedReconnect } = forwarder.state().counters;
        return byLabel('cause', {
          timeout: retriedTimeout,
          refused: retriedRefused,
          reconnect: retriedReconnect,
        });
      },
    ],
    svc_mqtt_batches_stored_total: [
      'Atomic batches that the stream has stored',
      () => forwarder.state().counters.batches,
    ],
    svc_mqtt_batch_messages_stored_total: [
      'Messages stored in them',
      () => forwarder.state().counters.batched,
    ],
    svc_mqtt_ack_level: [
      'What an acknowledgement is worth: 1 at the level that holds',
      () => {
        const { durability } = forwarder.state();
        if (durability === undefined) return [];
        return ackLevels.map((level) => [{ level }, Number(level === durability.level)]);
      },
      ['level'],
    ],
    svc_mqtt_ack_level_broken: [
      '1 while ACK_LEVEL does not hold',
      () => {
        const { breaches } = forwarder.state().durability ?? {};
        return Number(breaches?.[config.ackLevel] !== undefined);
      },
    ],
    svc_mqtt_in_flight_messages: [
      'Messages waiting for their store confirmation',
      () => forwarder.state().inFlight,
    ],
    svc_mqtt_in_flight_messages_limit: ['Most of them: MAX_IN_FLIGHT', () => config.maxInFlight],
    svc_mqtt_in_flight_bytes: [
      'Bytes of messages waiting for their store confirmation',
      () => forwarder.state().inFlightBytes,
    ],
    svc_mqtt_in_flight_bytes_limit: ['Most of them: MAX_IN_FLIGHT_BYTES', () => config.maxInFlightBytes],
    svc_mqtt_waiting_packets: [
      'Packets read from clients that wait for room in flight',
      () => broker.waiting().packets,
    ],
    svc_mqtt_waiting_bytes: ['Bytes of those packets', () => broker.waiting().bytes],
    svc_mqtt_waiting_wills: ['Wills that wait for room', () => broker.waitingWills()],
    svc_mqtt_holding_clients: [
      'Clients whose messages are held back because NATS refused one or did not confirm it in time',
      () => forwarder.state().holdingLanes,
    ],
    svc_mqtt_fleet_messages_total: [
      'Messages of devices given to other replicas (out), and taken from them (in)',
      () =>
        byLabel('direction', {
          out: shared?.messages.counts.passed ?? 0,
          in: shared?.messages.counts.taken ?? 0,
        }),
    ],
    svc_mqtt_replicas: [
      'Replicas that live, this one among them, as NATS knows them; nothing while that is not known',
      () => (presence?.known === true ? [[{}, presence.alive.size]] : []),
      [],
    ],
    svc_mqtt_fleet_replicas: [
      'Other replicas that say what their clients subscribe to',
      () => shared?.messages.interest.others ?? 0,
    ],
    svc_mqtt_kept_messages_indexed: [
      'Messages between devices in their stream that this replica knows of',
      () => shared?.messages.kept.known ?? 0,
    ],
    svc_mqtt_kept_messages_read_total: [
      'Messages between devices read from their stream for sessions that came back or did not keep up; gone: it did not have them any more',
      () => {
        const { read, gone } = shared?.messages.kept.counters ?? { read: 0, gone: 0 };
        return byLabel('result', { found: read - gone, gone });
      },
    ],
    svc_mqtt_retained_messages: [
      'Retained messages that this replica knows',
      () => broker.retained().messages,
    ],
    svc_mqtt_retained_messages_limit: [
      'Most of them: MAX_RETAINED_MESSAGES',
      () => config.maxRetainedMessages,
    ],
    svc_mqtt_retained_bytes: ['Bytes of retained messages', () => broker.retained().bytes],
    svc_mqtt_retained_waiting: [
      'Retained messages that the stream of the fleet has not confirmed yet',
      () => broker.retained().waiting,
    ],
    svc_mqtt_sessions: [
      'Sessions of the fleet that outlive their connection, as this replica knows them',
      () => broker.sessions().stored,
    ],
    svc_mqtt_sessions_waiting: [
      'Sessions of which not all is stored yet; SUBACK and UNSUBACK wait for it',
      () => broker.sessions().waiting,
    ],
    svc_mqtt_session_writes_failed_total: [
      'Attempts to store a session that failed, and are repeated',
      () => counters.sessionWritesFailed,
    ],
  });
  series.latency(
    'svc_mqtt_ack_latency_seconds',
    'Time from the arrival of a PUBLISH of QoS 1 or 2 until it is stored',
    () => counters.ackLatency.snapshot(),
  );
}

function addCommands(series: SeriesRegistry, { broker, downlink, pending, config }: MetricSources): void {
  addAll(series, {
    svc_mqtt_commands_up: [
      '1 while commands are stored and delivered from their stream; nothing without JetStream',
      () => {
        const { store, notStored } = downlink;
        if (store === undefined && notStored === undefined) return [];
        return [[{}, Number(store?.isCaughtUp === true && store.problem === undefined)]];
      },
      [],
    ],
    svc_mqtt_commands_pending: [
      'Stored commands that clients connected here have not been sent yet, up to 1,000 of each client',
      () => broker.pendingCommands(),
    ],
    svc_mqtt_session_pending_age_seconds: [
      'Age of the oldest stored command that waits for a session that is away, 0 when none does; one replica of the fleet says it, the others 0',
      () => {
        const { oldestMs = 0 } = pending;
        return oldestMs === 0 ? 0 : Math.max(0, Date.now() - oldestMs) / 1_000;
      },
    ],
    svc_mqtt_commands_indexed: [
      'Stored commands of which the replica knows in memory whose they are',
      () => downlink.store?.known ?? 0,
    ],
    svc_mqtt_commands_indexed_limit: ['Most of them: MAX_INDEXED_COMMANDS', () => config.maxIndexedCommands],
    svc_mqtt_commands_read_total: [
      'Commands read from the stream for clients that came back or did not keep up; gone: it did not have them any more',
      () => {
        const { read, gone } = downlink.store?.counters ?? { read: 0, gone: 0 };
        return byLabel('result', { found: read - gone, gone });
      },
    ],
    svc_mqtt_commands_looked_up_total: [
      'Look-ups in NATS of commands older than those known in memory',
      () => downlink.store?.counters.lookedUp ?? 0,
    ],
    svc_mqtt_command_catch_up_seconds: [
      'How long it took last to take in what is stored, at the start or after NATS was away',
      () => downlink.store?.counters.catchUpSec ?? 0,
    ],
  });
}

function addParts(series: SeriesRegistry, sources: MetricSources): void {
  const { directory, forwarder, config, version, certificates, deviceEvents, deadLetters } = sources;
  addAll(series, {
    svc_mqtt_database_up: [
      '1 when the database answers, also when devices are looked up',
      () => Number(directory.problem === undefined),
    ],
    svc_mqtt_nats_up: ['1 when NATS answers', () => Number(forwarder.state().connected)],
    svc_mqtt_state_stream_up: [
      '1 while a stream of svc-mqtt itself can be used; nothing without JetStream, or while it is not needed',
      () => sources.stateStreams().map(({ name, usable }) => [{ stream: name }, Number(usable)]),
      ['stream'],
    ],
    svc_mqtt_storage_up: [
      '0 while nothing can be stored, also while no device sends',
      () => {
        const { connected, standstill } = forwarder.state();
        return Number(connected && standstill === undefined);
      },
    ],
    svc_mqtt_device_cache_size: [
      'Devices whose credentials are remembered',
      () => directory.cacheState().size,
    ],
    svc_mqtt_device_cache_limit: ['Most of them: DEVICE_CACHE_SIZE', () => config.deviceCacheSize],
    svc_mqtt_device_lookups_total: [
      'Look-ups of devices, answered from memory (hit) or not (miss)',
      () => {
        const { hits, misses } = directory.cacheState();
        return byLabel('result', { hit: hits, miss: misses });
      },
    ],
    svc_mqtt_device_events_total: [
      'Events of devices for services: sent to NATS, or dropped because it was away or refusals came too fast',
      () => byLabel('result', { sent: deviceEvents?.sent ?? 0, dropped: deviceEvents?.dropped ?? 0 }),
    ],
    svc_mqtt_dead_letters_total: [
      'Refused messages for DEAD_LETTER_SUBJECT: sent to NATS, or dropped for a bound of rate or of bytes in flight, as too large, or because NATS was away',
      () => byLabel('result', deadLetters?.counts ?? noDeadLetters),
    ],
    svc_mqtt_certificate_expiry_timestamp_seconds: [
      'When each certificate in use expires, in seconds since 1970',
      () => certificates.list().map(({ path, expiresAt }) => [{ file: path }, expiresAt.getTime() / 1_000]),
      ['file'],
    ],
    svc_mqtt_build_info: [
      'Always 1; the version is in the label',
      () => [[{ version, node: process.versions.node }, 1]],
    ],
  });
}

/** By its name what a metric says, what reads it, and the names of its labels where it may have no series at first. */
type Metrics = Readonly<
  Record<string, readonly [help: string, read: ReadSeries, labels?: readonly string[]]>
>;

/** Those whose name ends in `_total` only ever rise. */
function addAll(series: SeriesRegistry, metrics: Metrics): void {
  for (const [name, [help, read, labels]] of Object.entries(metrics)) {
    if (name.endsWith('_total')) series.counter(name, help, read);
    else series.gauge(name, help, read, labels);
  }
}

function byLabel(label: string, counts: Readonly<Record<string, number>>): Series[] {
  return Object.entries(counts).map(([value, count]) => [{ [label]: value }, count]);
}

function byQos(direction: string, counts: Float64Array): Series[] {
  return Array.from(counts, (count, qos) => [{ direction, qos: String(qos) }, count]);
}
