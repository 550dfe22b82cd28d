import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { AckLevel } from '../ack-level.js';
import type { Config } from '../config.js';
import type { Actor } from '../db/audit.js';
import { startChangeFeed } from '../db/change-feed.js';
import { revokeDevices } from '../db/device-changes.js';
import { migrate, readMigrationStatus } from '../db/migrate.js';
import { type Database, openDatabase } from '../db/open.js';
import { readDurationMs } from '../duration.js';
import { openFilesAdvice, SvcMqttError } from '../errors.js';
import { type Log, limitLog } from '../log.js';
import { describeRisks } from '../policy.js';
import { readVersion } from '../version.js';
import { startAuditRetention } from './audit-retention.js';
import { type DatabaseHealth, startDatabaseHealth } from './database-health.js';
import { startDeviceDirectory } from './device-directory.js';
import { startDropReport } from './drop-report.js';
import { openEventFeed } from './event-feed.js';
import { openDownlink } from './forward/downlink.js';
import type { Forwarder, ForwarderState } from './forward/forwarder.js';
import { checkForwarderSettings, startForwarder } from './forward/start-forwarder.js';
import type { Durability } from './forward/stream/durability.js';
import { compileSubject, encodeHeaders } from './forward/subject.js';
import { holdAddress } from './http/listener.js';
import type { PartReadiness, Readiness } from './http/start.js';
import { startHttp } from './http/start.js';
import type { ReplicaView } from './live.js';
import { memoryBoundsOf } from './memory-bounds.js';
import { openMetrics } from './metrics/metrics.js';
import { type Broker, openBroker } from './mqtt/broker.js';
import { holdPorts, planListeners } from './mqtt/transport/listeners.js';
import { readOpenFilesLimit, shareOpenFiles } from './open-files.js';
import { startPolicyDirectory } from './policy-directory.js';
import { openReleasers } from './releasers.js';
import { startReplicaView } from './replica.js';
import { openStartWait } from './start-wait.js';
import { openSubjectCoverage } from './subject-coverage.js';
import { openServerCertificates } from './tls/server-certificates.js';

/** A running replica. */
export interface RunningServer {
  /** The ports in use, of interest when 0 was asked for. */
  readonly ports: {
    /** Undefined with MQTT_TCP=false; so are the others that are not listened on. */
    readonly mqtt: number | undefined;
    readonly mqtts: number | undefined;
    readonly ws: number | undefined;
    readonly wss: number | undefined;
    readonly http: number;
  };
  /** What the replica shows of itself and its connections. */
  readonly view: ReplicaView;
  /** Revokes a device. @throws SvcMqttError DEVICE_NOT_FOUND. */
  revoke(deviceId: string, actor: Actor): Promise<void>;
  /** There are certificate files to read again. */
  readonly hasCertificates: boolean;
  /** Reads the certificate files now instead of at the next check; what is wrong with them is logged. */
  reloadCertificates(): Promise<void>;
  /** Drains and stops, within the shutdown timeout. Idempotent: every call answers the same promise. */
  close(): Promise<void>;
}

export interface StartOptions {
  /** Ends a wait for PostgreSQL or NATS, and with it the start. */
  readonly signal?: AbortSignal | undefined;
  /** Is told, as the log is, what is waited for and why. */
  readonly onWaiting?: ((line: string) => void) | undefined;
}

/**
 * Connections that each port takes in a turn of the event loop. With 30,000 messages a second a turn takes some 4 ms: a fleet
 * comes back at 2,000 connections a second and not 240, and the messages wait a few milliseconds more.
 */
const acceptsPerTurn = 16;
/** Connections to the database for logins, revocations, policies and the keys of the API, beside the pool and the change feed's. */
const urgentConnections = 2;

/**
 * Starts a replica: database, schema, NATS and its stream, session engine, HTTP, and last the listener for devices; before
 * all that it looks whether the ports are free. PostgreSQL and NATS are waited for as START_WAIT says. A failed start undoes
 * what it began.
 *
 * @throws SvcMqttError with what failed, where, and what to do; StartAborted.
 */
export async function startServer(
  config: Config,
  log: Log,
  options: StartOptions = {},
): Promise<RunningServer> {
  if (config.acl === 'open') {
    log.warn({ event: 'acl_open' }, 'ACL=open: every device may publish and subscribe to every topic');
  }
  const releasers = openReleasers(log);
  try {
    return await start(config, log, releasers, options);
  } catch (error) {
    await releasers.releaseAll();
    throw error;
  }
}

async function start(
  config: Config,
  log: Log,
  releasers: ReturnType<typeof openReleasers>,
  options: StartOptions,
): Promise<RunningServer> {
  const certificates = await openServerCertificates(config, log);
  releasers.add('certificates', () => certificates.close());
  const { planned } = planListeners(config, certificates.mqtt !== undefined);
  checkForwarderSettings(config);
  const openFiles = shareOpenFiles(readOpenFilesLimit() ?? Number.POSITIVE_INFINITY, config);
  const maxConnections = Math.min(config.maxConnections, openFiles.mqtt);
  if (maxConnections < 1) {
    throw new SvcMqttError(
      'LISTEN_FAILED',
      'The limit of open files leaves no room for connections of devices',
      {
        suggestion: openFilesAdvice,
      },
    );
  }
  if (maxConnections < config.maxConnections) tellOfOpenFiles(maxConnections, config, log);
  await requirePorts(config, planned, log);
  const wait = openStartWait({ timeMs: readDurationMs(config.startWait) ?? 0, log, ...options });

  // What is embedded is started here, and not waited for.
  const openTheDatabase = () => openDatabase(config, log);
  const db = await (config.databaseUrl === undefined
    ? openTheDatabase()
    : wait.until('PostgreSQL', openTheDatabase));
  releasers.add('database', () => db.close());
  const urgent = db.reserve(urgentConnections);
  await bringSchemaUpToDate(config, db, log);
  const retention = startAuditRetention({ db, days: config.auditRetentionDays, log });
  releasers.add('audit retention', () => retention.close());

  const openNats = () => startForwarder({ config, log });
  const nats = await (config.natsUrl === undefined ? openNats() : wait.until('NATS', openNats));
  releasers.add('forwarder', () => nats.close());
  const { forwarder } = nats;

  const downlink = openDownlink(nats.link, log);
  releasers.add('downlink', () => downlink.close());

  const replica = randomBytes(3).toString('hex');
  const events = openEventFeed();
  const core = await openBroker({
    config: {
      ...config,
      ...memoryBoundsOf(config.memoryBudgetMib),
      maxOpenSockets: openFiles.mqtt,
      acceptsPerTurn,
    },
    replica,
    events,
    certificates: certificates.mqtt,
    forwarder,
    downlink,
    log,
    addressingOf: (device, policy) => ({
      subjectOf: compileSubject(policy.natsSubject ?? config.natsSubject, device),
      headersOf: encodeHeaders,
      batchable: (policy.natsSubject ?? config.natsSubject) === config.natsSubject,
      ackLevel: policy.ackLevel,
    }),
  });
  releasers.add('session engine', () => core.close());

  const coverage = openSubjectCoverage({
    readCoverage: nats.readCoverage,
    onUnusable: nats.setUnusable,
    settings: config,
    log,
  });
  releasers.add('subject coverage', () => coverage.close());
  const feed = await startChangeFeed(urgent, log);
  releasers.add('change feed', () => feed.close());
  const policies = await startPolicyDirectory({
    db: urgent,
    feed,
    log,
    onLoaded(loaded) {
      core.setPolicies(loaded);
      coverage.check(loaded);
      nats.setPromised(new Set(loaded.flatMap(({ ackLevel }) => ackLevel ?? [])));
    },
  });
  releasers.add('policy directory', () => policies.close());

  const directory = startDeviceDirectory({
    db: urgent,
    feed,
    cacheSize: config.deviceCacheSize,
    holdMs: config.connectTimeoutSec * 1_000,
    log,
    connectedIds: () => core.deviceIds(),
    onLost: (id, reason, isNews, device) => {
      const connections = core.kick(id, reason, device);
      if (isNews || connections > 0) events.emit({ kind: 'revoked', device: id, reason, count: connections });
      if (connections > 0)
        log.info({ event: 'device_dropped', device: id, reason, connections }, 'A device was dropped');
    },
    onRefreshed: (device) => core.refresh(device),
  });
  releasers.add('device directory', () => directory.close());

  const health = await startDatabaseHealth({ db, log, isLive: () => feed.live });
  releasers.add('database health', () => health.close());

  const version = readVersion();
  const metrics = openMetrics({
    broker: core,
    maxConnections,
    forwarder,
    directory,
    config,
    version,
    certificates,
  });
  const view = startReplicaView({
    maxConnections,
    version,
    replica,
    db,
    broker: core,
    forwarder,
    health,
    events,
    log,
  });
  releasers.add('replica view', () => view.close());
  let broker: Broker | undefined;
  let stopping = false;
  const http = await startHttp({
    db,
    urgent,
    feed,
    config,
    certificates: certificates.http,
    limits: { maxConnections: openFiles.http, maxConnectionsPerAddress: Math.ceil(openFiles.http / 2) },
    log,
    version,
    policyRisks: async (rules) => {
      const uncovered = await coverage.describe(rules);
      return [
        ...describeRisks(rules, config.maxPacketBytes),
        ...(uncovered === undefined ? [] : [uncovered]),
      ];
    },
    readMetrics: () => metrics.read(),
    view,
    readiness: () =>
      readReadiness({
        health,
        forwarder,
        needsStorage: config.readyNeedsStorage,
        ackLevel: config.ackLevel,
        listening: broker !== undefined && !stopping,
      }),
  });
  releasers.add('HTTP API', () => http.close());

  broker = await core.listen(directory);
  const listening = broker;
  const { ports } = broker;
  const endDropReport = startDropReport(
    () => {
      const { dropped, refused, abandoned } = forwarder.state().counters;
      const { deliveriesDropped, willsDropped } = listening.counters;
      return { qos0: dropped, refused, abandoned, deliveries: deliveriesDropped, wills: willsDropped };
    },
    log,
    (reason, count) => events.emit({ kind: 'dropped', reason, count }),
  );
  releasers.add('drop report', endDropReport);
  releasers.add('broker', () => drainBroker(listening, forwarder, config.shutdownTimeoutSec * 1_000, log));

  return {
    ports: {
      mqtt: ports.tcp,
      mqtts: ports.tls,
      ws: ports.ws,
      wss: ports.wss,
      http: http.port,
    },
    view,
    async revoke(deviceId, actor) {
      const { unknown } = await revokeDevices(db, actor, [deviceId]);
      if (unknown.length > 0) throw new SvcMqttError('DEVICE_NOT_FOUND', `There is no device ${deviceId}`);
    },
    hasCertificates: certificates.list().length > 0,
    reloadCertificates: () => certificates.reload(),
    close: () => {
      stopping = true;
      return releasers.releaseAll();
    },
  };
}

/** Fewer connections than this are less than anybody expects; else the setting is only its default. */
const fewConnections = 10_000;

function tellOfOpenFiles(connections: number, { maxConnections }: Config, log: Log): void {
  log[connections < fewConnections ? 'warn' : 'info'](
    { event: 'open_files_low', connections, maxConnections },
    `The limit of open files leaves room for ${connections} connections of devices, not ${maxConnections} (MAX_CONNECTIONS): raise it (ulimit -n, LimitNOFILE in systemd)`,
  );
}

/**
 * Takes every port for a moment. Nobody is let in before everything else is up, and what asks on the port of the API whether
 * the process lives takes the answer for ready; so they are not kept.
 */
async function requirePorts(
  config: Config,
  planned: Parameters<typeof holdPorts>[1],
  log: Log,
): Promise<void> {
  const limitedLog = limitLog(log);
  try {
    const letHttpGo = await holdAddress(config.listenAddr);
    try {
      const letMqttGo = await holdPorts(config, planned, limitedLog);
      await letMqttGo();
    } finally {
      letHttpGo();
    }
  } finally {
    limitedLog.close();
  }
}

async function bringSchemaUpToDate(config: Config, db: Database, log: Log): Promise<void> {
  if (config.migrate) {
    const { applied, converted } = await migrate(db);
    if (applied.length > 0)
      log.info({ event: 'schema_migrated', applied, converted }, 'The schema was brought up to date');
    return;
  }
  const status = await readMigrationStatus(db);
  if (status.newer || status.pending.length > 0) {
    throw new SvcMqttError(
      'DATABASE_SCHEMA',
      status.newer
        ? 'The database has a newer schema than this program knows'
        : `The database lacks ${status.pending.length} migration${status.pending.length === 1 ? '' : 's'}`,
      {
        suggestion: status.newer
          ? 'Run a newer svc-mqtt'
          : 'Run "svc-mqtt migrate", or start without --no-migrate',
      },
    );
  }
}

/** How often wills that wait for room are looked at when the server stops. */
const waitingWillsPollMs = 20;

/**
 * Nothing more is read; what was taken is stored and acknowledged; then connections close, and their wills are stored.
 */
async function drainBroker(broker: Broker, forwarder: Forwarder, timeoutMs: number, log: Log): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  await broker.stopReading();
  // Wills are stored last; a message that cannot be stored must not take all of the time.
  await forwarder.drain((endMs - performance.now()) * 0.75);
  await broker.close();
  while (broker.waitingWills() > 0 && performance.now() < endMs) await delay(waitingWillsPollMs);
  const left = (await forwarder.drain(endMs - performance.now())) + broker.waitingWills();
  if (left > 0) {
    log.warn(
      { event: 'drain_incomplete', messages: left },
      'Messages were not stored in time and are not acknowledged',
    );
  }
}

/** How the stream is asked to confirm, now. */
function describeIngest({ ingest, batching }: ForwarderState): string {
  if (ingest === 'plain') return 'confirms each message';
  return batching ? 'takes batches, used now' : 'takes batches, none used now';
}

function readReadiness(parts: {
  health: DatabaseHealth;
  forwarder: Forwarder;
  needsStorage: boolean;
  ackLevel: AckLevel;
  listening: boolean;
}): Readiness {
  const nats = parts.forwarder.state();
  return {
    database: { ok: parts.health.ok, detail: parts.health.detail },
    nats: {
      ok: nats.connected,
      detail: nats.ingest === undefined ? nats.detail : `${nats.detail}, ${describeIngest(nats)}`,
    },
    storage: { needed: parts.needsStorage, ...readStorage(parts.forwarder, parts.ackLevel) },
    listeners: {
      ok: parts.listening,
      detail: parts.listening ? 'accepting devices' : 'not accepting devices',
    },
  };
}

/** Messages that wait for less are not spoken of: the next attempt may store them. */
const heldForMs = 5_000;

/** Anybody may ask, so that no subject is named: `/stats` and `connection show` do. */
function readStorage(forwarder: Forwarder, promised: AckLevel): PartReadiness {
  const { connected, standstill, ingest, durability } = forwarder.state();
  if (!connected) return { ok: false, detail: 'nothing is stored while NATS is away' };
  const what = ingest === undefined ? 'acknowledged' : 'stored';
  if (standstill !== undefined) {
    const since = new Date(standstill.sinceMs).toISOString();
    return { ok: false, detail: `nothing is ${what} since ${since}: ${standstill.reason}` };
  }
  const longAgoMs = performance.now() - heldForMs;
  const held = forwarder.troubles().filter(({ sinceMs }) => sinceMs < longAgoMs);
  if (held.length > 0) {
    const causes = held.map(({ cause, lanes }) => `${cause} (${lanes})`).join(', ');
    // A replica that stores for the others is no worse than the next one.
    return { ok: false, needed: false, detail: `messages of some clients are not ${what}: ${causes}` };
  }
  return { ok: true, detail: describeDurability(durability, promised) };
}

/** What an acknowledgement is worth now: `synced: on 1 server, …`. */
function describeDurability(durability: Durability | undefined, promised: AckLevel): string {
  if (durability === undefined) return 'off (ENABLE_JETSTREAM=false)';
  const { level, why, breaches } = durability;
  if (breaches[promised] === undefined) return `${level}: ${why}`;
  return `ACK_LEVEL=${promised} does not hold, and messages are acknowledged all the same (ACK_LEVEL_ON_BREACH=warn): ${level}, ${why}`;
}
