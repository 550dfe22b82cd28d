import { randomBytes } from 'node:crypto';
import type { Config } from '../config.js';
import type { Actor } from '../db/audit.js';
import { revokeDevices } from '../db/devices/device-revocation.js';
import { startChangeFeed } from '../db/feed/change-feed.js';
import { countReplicas } from '../db/replicas.js';
import { readDurationMs } from '../duration.js';
import { SvcMqttError } from '../errors.js';
import type { Log } from '../log.js';
import { describeRisks } from '../policy.js';
import { readVersion } from '../version.js';
import { startDeviceDirectory } from './directory/device-directory.js';
import { startPolicyDirectory } from './directory/policy-directory.js';
import { EventFeed } from './event-feed.js';
import { joinFleet } from './fleet/fleet.js';
import { readSharedSettings } from './fleet/shared-settings.js';
import { openCloudEvents } from './forward/cloud-events.js';
import { openCommandSender } from './forward/commands/command-sender.js';
import { openPeeks, type Peeks } from './forward/peek.js';
import { compileSubject, encodeHeaders } from './forward/subject.js';
import { defaultHttpLimits } from './http/limits.js';
import { bindDeviceQueries, type DeviceQueries } from './http/resources/device-queries.js';
import { showReadiness } from './http/resources/health.js';
import { startHttp } from './http/start.js';
import { openTurns } from './http/turns.js';
import type { ReplicaView } from './live.js';
import { memoryBoundsOf } from './memory-bounds.js';
import { openMetrics } from './metrics/metrics.js';
import { type Broker, openBroker } from './mqtt/broker.js';
import { deviceOfKey } from './mqtt/sessions/store/session-key.js';
import { startAuditRetention } from './operate/audit-retention.js';
import { openCommandProgress } from './operate/command-progress.js';
import { startDatabaseHealth } from './operate/database-health.js';
import { startDeviceEvents } from './operate/device-events.js';
import { startDeviceLedger } from './operate/device-ledger.js';
import { startDropReport } from './operate/drop-report.js';
import { readReadiness } from './operate/readiness.js';
import { startSessionCheck } from './operate/session-check.js';
import { openSessionList } from './operate/session-list.js';
import { startPendingWatch } from './operate/session-pending.js';
import { startReplicaView } from './replica.js';
import { drainBroker } from './start/drain-broker.js';
import { type Releasers, releaseOnFailure } from './start/releasers.js';
import type { ServerPorts } from './start/server-ports.js';
import { bringSchemaUpToDate, startDatabase } from './start/start-database.js';
import { startNats } from './start/start-nats.js';
import { planStart, requirePorts, tellOfOpenFiles } from './start/start-plan.js';
import { openStartWait } from './start/start-wait.js';
import { openSubjectCoverage } from './start/subject-coverage.js';
import { openServerCertificates } from './tls/server-certificates.js';
import { readAllMetrics } from './workers/all-metrics.js';
import type { Peers } from './workers/peers.js';

/** A running replica. */
export interface RunningServer {
  readonly ports: ServerPorts;
  /** What the replica shows of itself and its connections. */
  readonly view: ReplicaView;
  /** The devices that the database knows. */
  readonly devices: Pick<DeviceQueries, 'list' | 'find' | 'ledger'>;
  /** The messages of a device as they pass. */
  readonly peeks: Peeks;
  /** Revokes a device. @throws SvcMqttError DEVICE_NOT_FOUND. */
  revoke(deviceId: string, actor: Actor): Promise<void>;
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
  /** Of a worker: the others. The process that started it has looked at ports and schema, and runs what is embedded. */
  readonly peers?: Peers | undefined;
}

/**
 * Connections that each port takes in a turn of the event loop. With 30,000 messages a second a turn takes some 4 ms: a fleet
 * comes back at 2,000 connections a second and not 240, and the messages wait a few milliseconds more.
 */
const acceptsPerTurn = 16;
/** The listener waits so long for what replicas share to be read. */
const stateReadyMs = 10_000;
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
  return await releaseOnFailure(log, (releasers) => start(config, log, releasers, options));
}

async function start(
  config: Config,
  log: Log,
  releasers: Releasers,
  options: StartOptions,
): Promise<RunningServer> {
  const certificates = releasers.add('certificates', await openServerCertificates(config, log));
  const { peers } = options;
  const plan = planStart(config, certificates.mqtt !== undefined);
  const { openFiles, maxConnections } = plan;
  tellOfOpenFiles(plan, config, log);
  if (peers === undefined) await requirePorts(config, plan, log);
  const wait = openStartWait({ timeMs: readDurationMs(config.startWait) ?? 0, log, ...options });

  const db = releasers.add('database', await startDatabase(config, wait, log));
  const urgent = db.reserve(urgentConnections);
  if (peers === undefined) await bringSchemaUpToDate(config, db, log);
  releasers.add('audit retention', startAuditRetention({ db, days: config.auditRetentionDays, log }));

  const replica = randomBytes(3).toString('hex');
  const nats = await startNats({
    config,
    name: `${replica}${randomBytes(5).toString('hex')}`,
    wait,
    peers,
    log,
    releasers,
  });
  const { forwarder, downlink, store, presence } = nats;
  const events = new EventFeed();
  const core = await openBroker({
    config: {
      ...config,
      ...memoryBoundsOf(config.memoryBudgetMib, config.workers),
      maxOpenSockets: openFiles.mqtt,
      acceptsPerTurn,
    },
    ...nats,
    replica,
    events,
    certificates: certificates.mqtt,
    log,
    ledgerOf: (deviceId) => ledger.of(deviceId),
    addressingOf(device, policy) {
      const { natsSubject = config.natsSubject } = policy;
      // Not before the device sends something.
      let subjectOf: ((topic: string) => string) | undefined;
      return {
        subjectOf(topic) {
          subjectOf ??= compileSubject(natsSubject, device);
          return subjectOf(topic);
        },
        headersOf: encodeHeaders,
        batchable: natsSubject === config.natsSubject,
        ackLevel: policy.ackLevel,
      };
    },
  });
  releasers.add('session engine', core);

  const coverage = openSubjectCoverage({
    readCoverage: nats.readCoverage,
    onUnusable: nats.setUnusable,
    settings: config,
    log,
  });
  releasers.add('subject coverage', coverage);
  const feed = releasers.add('change feed', await startChangeFeed(urgent, log));
  const ledger = startDeviceLedger({
    db,
    log,
    isLive: () => feed.live,
    countReplicas: () => countReplicas(db, config.workers),
  });
  releasers.add('ledger', ledger);
  let templates: ReadonlyMap<string, string | null> = new Map();
  const peeks = openPeeks(nats.link, (type) => templates.get(type) ?? config.natsSubject);
  const policies = await startPolicyDirectory({
    db: urgent,
    feed,
    log,
    onLoaded(loaded) {
      core.setPolicies(loaded);
      templates = new Map(loaded.map(({ type, natsSubject }) => [type, natsSubject]));
      coverage.check(loaded);
      nats.setPromised(new Set(loaded.flatMap(({ ackLevel }) => ackLevel ?? [])));
    },
  });
  releasers.add('policy directory', policies);

  const directory = startDeviceDirectory({
    db: urgent,
    feed,
    cacheSize: config.deviceCacheSize,
    holdMs: config.connectTimeoutSec * 1_000,
    log,
    connectedIds: () => core.deviceIds(),
    onLost: (id, reason, isNews, device) => {
      const connections = core.kick(id, reason, device);
      // Of a device that has no connection here one replica tells.
      const tells = isNews && (presence?.known !== true || presence.isFirst);
      if (connections > 0 || tells) events.emit({ kind: 'revoked', device: id, reason, count: connections });
      if (connections > 0)
        log.info({ event: 'device_dropped', device: id, reason, connections }, 'A device was dropped');
    },
    onRefreshed: (device) => core.refresh(device),
  });
  releasers.add('device directory', directory);

  const deviceEvents = config.deviceEvents
    ? startDeviceEvents({ db, feed, events, sender: openCloudEvents(nats.link), replica, log })
    : undefined;
  releasers.add('device events', deviceEvents);

  const sessionCheck = startSessionCheck({
    db: urgent,
    readDevices: () => (store.caughtUp ? new Set([...store.keys()].map(deviceOfKey)) : undefined),
    onLost: (id) => core.removeSessions(id),
    log,
  });
  releasers.add('session check', sessionCheck);
  const pending = startPendingWatch({
    store,
    commands: () => downlink.store,
    presence,
    isConnected: (key) => core.isConnected(key),
    log,
  });
  releasers.add('pending watch', pending);
  const health = releasers.add(
    'database health',
    await startDatabaseHealth({ db, log, problem: () => directory.problem }),
  );

  const stateStreams = () =>
    [...(nats.state?.streams ?? [])].flatMap(({ name, started, problem }) =>
      started ? { name, usable: problem === undefined } : [],
    );
  const version = readVersion();
  const metrics = openMetrics({
    broker: core,
    maxConnections,
    ...nats,
    stateStreams,
    pending,
    directory,
    config,
    version,
    certificates,
    deviceEvents,
    worker: peers?.number,
  });
  peers?.answerMetrics(async () => (await metrics.read()).text);
  const own = startReplicaView({
    maxConnections,
    workers: config.workers,
    version,
    ackLevel: config.ackLevel,
    replica,
    db,
    broker: core,
    sessions: openSessionList({
      store,
      commands: () => downlink.store,
      messages: () => {
        const kept = nats.shared?.messages.kept;
        return kept?.isKnown === true ? kept : undefined;
      },
      drop: (key) => core.dropSession(key),
    }),
    commands: openCommandProgress({
      commands: () => downlink.store,
      sessions: store,
      here: (deviceId, command) => core.commandProgress(deviceId, command),
    }),
    forwarder,
    health,
    events,
    log,
  });
  releasers.add('replica view', own);
  const turns = openTurns(defaultHttpLimits.maxWaitingLists);
  let broker: Broker | undefined;
  let stopping = false;
  const readiness = () =>
    readReadiness({
      health,
      forwarder,
      unusable: stateStreams().flatMap(({ name, usable }) => (usable ? [] : name)),
      sessionsInMemory: config.enableJetstream && !store.durable ? store.detail : undefined,
      downlink,
      needsStorage: config.readyNeedsStorage,
      ackLevel: config.ackLevel,
      listening: broker !== undefined && !stopping,
      workers: peers && { ready: peers.readyCount(), all: config.workers },
    });
  const view = joinFleet({
    link: nats.link,
    telling: nats.telling,
    view: own,
    ledger,
    version,
    readReadiness: async () => showReadiness(readiness()),
    settings: readSharedSettings(config),
    take: (work) => turns.take('fleet', () => false, work),
    log,
  });
  releasers.add('fleet', view);
  const http = await startHttp({
    db,
    urgent,
    feed,
    peeks,
    topicProblem: (device, topic) => core.findCommandProblem(device, topic),
    commands: openCommandSender(nats.link, () => downlink.store !== undefined),
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
    readMetrics: peers === undefined ? () => metrics.read() : () => readAllMetrics(metrics, peers),
    view,
    readiness,
  });
  releasers.add('HTTP API', http);

  await nats.shared?.ready(stateReadyMs);
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
  releasers.add('drop report', { close: endDropReport });
  const drain = () => drainBroker(listening, nats, config.shutdownTimeoutSec * 1_000, log);
  releasers.add('broker', { close: drain });

  return {
    ports: {
      mqtt: ports.tcp,
      mqtts: ports.tls,
      ws: ports.ws,
      wss: ports.wss,
      http: http.port,
    },
    view,
    peeks,
    devices: bindDeviceQueries(db, view.readLedger),
    async revoke(deviceId, actor) {
      const { unknown } = await revokeDevices(db, actor, [deviceId]);
      if (unknown.length > 0) throw new SvcMqttError('DEVICE_NOT_FOUND', `There is no device ${deviceId}`);
    },
    reloadCertificates: () => certificates.reload(),
    close: () => {
      stopping = true;
      return releasers.releaseAll();
    },
  };
}
