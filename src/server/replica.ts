import type { AckLevel } from '../ack-level.js';
import { toEventJson } from '../api/event.js';
import type { StatsJson } from '../api/stats.js';
import { type Actor, writeAudit } from '../db/audit.js';
import { toDatabaseError } from '../db/connection/database-errors.js';
import type { Database } from '../db/connection/open.js';
import { countReplicas } from '../db/replicas.js';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';
import type { EventFeed } from './event-feed.js';
import type { Forwarder } from './forward/forwarder.js';
import type { Durability } from './forward/stream/durability.js';
import type { LiveConnections, LiveSessions, LocalCommands, LocalView } from './live.js';
import type { BrokerCounters } from './mqtt/live/counters.js';
import { startTrafficHistory, type Traffic } from './operate/traffic-history.js';

/** How long the number of replicas is remembered: it costs a query. */
const replicasMs = 5_000;
/** The latest events that are shown with the numbers. */
const recentEvents = 20;

/** Joins what is known of this replica for those who look at it; keeps the last minute of traffic. */
export function startReplicaView(options: {
  /** Most connections: MAX_CONNECTIONS, or what the limit of open files allows. */
  maxConnections: number;
  /** How many this server runs. */
  workers: number;
  version: string;
  ackLevel: AckLevel;
  replica: string;
  db: Database;
  broker: {
    readonly live: LiveConnections;
    readonly counters: Readonly<BrokerCounters>;
    connectionCount(): number;
  };
  sessions: LiveSessions;
  commands: LocalCommands;
  forwarder: Forwarder;
  health: { readonly ok: boolean; readonly detail: string };
  events: EventFeed;
  log: Log;
}): LocalView & { close(): void } {
  const { ackLevel, replica, db, broker, sessions, forwarder, health, events, log } = options;
  const { live, counters } = broker;
  const startedMs = performance.now();
  const startedAt = new Date().toISOString();
  const readTotals = () => ({
    messagesIn: sum(counters.received.messages),
    messagesOut: sum(counters.sent.messages),
    bytesIn: sum(counters.received.bytes),
    bytesOut: sum(counters.sent.bytes),
  });
  const history = startTrafficHistory(readTotals, () => counters.ackLatency.snapshot());

  let replicas: number | undefined;
  let replicasReadMs = Number.NEGATIVE_INFINITY;
  async function readReplicas(): Promise<number | undefined> {
    const nowMs = performance.now();
    if (nowMs - replicasReadMs < replicasMs) return replicas;
    replicasReadMs = nowMs;
    replicas = health.ok ? await countReplicas(db, options.workers).catch(() => undefined) : undefined;
    return replicas;
  }

  function readCauses(): StatsJson['waiting']['causes'] {
    return forwarder.troubles().map(({ cause, detail, lanes, sinceMs }) => ({
      cause,
      detail,
      clients: lanes,
      since: new Date(Date.now() - (performance.now() - sinceMs)).toISOString(),
    }));
  }

  function readAcknowledgement(durability: Durability | undefined): StatsJson['acknowledgement'] {
    if (durability === undefined) return null;
    const { level, why, breaches } = durability;
    return { promised: ackLevel, holds: breaches[ackLevel] === undefined, level, why };
  }

  async function readStats(): Promise<StatsJson> {
    const nats = forwarder.state();
    const replicasNow = await readReplicas();
    const { p50Ms, p99Ms } = history.quantiles();
    return {
      at: new Date().toISOString(),
      version: options.version,
      replica,
      replicas: replicasNow ?? null,
      started_at: startedAt,
      uptime_seconds: Math.floor((performance.now() - startedMs) / 1_000),
      connections: {
        open: broker.connectionCount(),
        connected: live.count(),
        limit: options.maxConnections,
      },
      rates: toTrafficJson(history.rates()),
      totals: { ...toTrafficJson(readTotals()), stored: nats.counters.stored, sent: nats.counters.sent },
      waiting: { messages: nats.inFlight, bytes: nats.inFlightBytes, causes: readCauses() },
      ack_latency_ms: { p50: roundMs(p50Ms), p99: roundMs(p99Ms) },
      acknowledgement: readAcknowledgement(nats.durability),
      nats: { ok: nats.connected, detail: nats.detail },
      database: { ok: health.ok, detail: `${db.where} ${health.detail}` },
      failures: {
        ...countFailures(counters, forwarder),
        event_listeners_dropped: events.droppedListeners,
      },
      history: toTrafficJson(history.read()),
      recent_events: events.since(Math.max(0, events.last - recentEvents)).map(toEventJson),
    };
  }

  /** It is done, whether the database is there to note it or not. */
  function note(actor: Actor, action: string, target: string, details: Record<string, unknown>): void {
    writeAudit(db.orm, actor, [{ action, target, details }]).catch((error: unknown) => {
      // The driver's own error is wrapped in one that quotes the statement with what it was given.
      const reason = messageOf(toDatabaseError(error, db.where));
      log.error({ event: 'audit_failed', action, reason }, 'What was ended is not in the audit log');
    });
  }

  const connections: LiveConnections = {
    ...live,
    kick(id, actor) {
      const kicked = live.kick(id, actor);
      if (kicked === undefined) return undefined;
      note(actor, 'connection.kick', kicked.deviceId, { client: kicked.clientId, connection: id });
      return kicked;
    },
  };
  const ownSessions: LiveSessions = {
    ...sessions,
    async end(id, actor) {
      const ended = await sessions.end(id, actor);
      if (ended !== undefined) note(actor, 'session.end', ended.deviceId, { client: ended.clientId });
      return ended;
    },
  };
  return {
    replica,
    connections,
    sessions: ownSessions,
    commands: options.commands,
    events,
    readStats,
    close: () => history.close(),
  };
}

function toTrafficJson<T>({ messagesIn, messagesOut, bytesIn, bytesOut }: Traffic<T>) {
  return { messages_in: messagesIn, messages_out: messagesOut, bytes_in: bytesIn, bytes_out: bytesOut };
}

function roundMs(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.round(ms * 100) / 100;
}

function countFailures(counters: Readonly<BrokerCounters>, forwarder: Forwarder): Record<string, number> {
  const { dropped, refused, abandoned } = forwarder.state().counters;
  return {
    connects_refused: countRefused(counters),
    publish_denied: counters.publishDenied,
    subscribe_denied: counters.subscribeDenied,
    messages_dropped: dropped + abandoned,
    messages_refused: refused,
    deliveries_dropped: counters.deliveriesDropped,
    wills_dropped: counters.willsDropped,
    slow_readers: counters.closed['slow-reader'],
    internal_errors: counters.closed['internal-error'],
  };
}

/** Clients that were turned away, without those that left before they had sent CONNECT. */
function countRefused({ refused }: Readonly<BrokerCounters>): number {
  const left = refused['connection-lost'] + refused['client-disconnect'] + refused['server-shutdown'];
  return sum(Object.values(refused)) - left;
}

function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
