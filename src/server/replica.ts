import { writeAudit } from '../db/audit.js';
import { toDatabaseError } from '../db/database-errors.js';
import type { Database } from '../db/open.js';
import { countReplicas } from '../db/replicas.js';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';
import type { EventFeed } from './event-feed.js';
import type { Forwarder } from './forward/forwarder.js';
import type { FleetView, LiveConnections, ReplicaStats } from './live.js';
import type { BrokerCounters, Traffic } from './mqtt/live/counters.js';
import { startTrafficHistory } from './traffic-history.js';

/** How long the number of replicas is remembered: it costs a query. */
const replicasMs = 5_000;

/** What a running replica shows of itself and its connections. */
export interface RunningFleetView extends FleetView {
  close(): void;
}

/** Joins what is known of the fleet for those who look at it; keeps the last minute of traffic. */
export function startFleetView(options: {
  /** Most connections: MAX_CONNECTIONS, or what the limit of open files allows. */
  maxConnections: number;
  version: string;
  replica: string;
  db: Database;
  broker: {
    readonly live: LiveConnections;
    readonly counters: Readonly<BrokerCounters>;
    connectionCount(): number;
  };
  forwarder: Forwarder;
  health: { readonly ok: boolean; readonly detail: string };
  events: EventFeed;
  log: Log;
}): RunningFleetView {
  const { maxConnections, version, replica, db, broker, forwarder, health, events, log } = options;
  const { live, counters } = broker;
  const startedMs = performance.now();
  const startedAtMs = Date.now();
  const history = startTrafficHistory(
    () => ({
      messagesIn: sum(counters.received.messages),
      messagesOut: sum(counters.sent.messages),
      bytesIn: sum(counters.received.bytes),
      bytesOut: sum(counters.sent.bytes),
    }),
    () => counters.ackLatency.snapshot(),
  );

  let replicas: number | undefined;
  let replicasReadMs = Number.NEGATIVE_INFINITY;
  async function readReplicas(): Promise<number | undefined> {
    const nowMs = performance.now();
    if (nowMs - replicasReadMs < replicasMs) return replicas;
    replicasReadMs = nowMs;
    replicas = health.ok ? await countReplicas(db).catch(() => undefined) : undefined;
    return replicas;
  }

  function readCauses(): ReplicaStats['waiting']['causes'] {
    return forwarder.troubles().map(({ cause, detail, lanes, sinceMs }) => ({
      cause,
      detail,
      clients: lanes,
      sinceAtMs: Math.round(Date.now() - (performance.now() - sinceMs)),
    }));
  }

  async function readStats(): Promise<ReplicaStats> {
    const nats = forwarder.state();
    const replicasNow = await readReplicas();
    return {
      atMs: Date.now(),
      version,
      replica,
      replicas: replicasNow,
      startedAtMs,
      uptimeSec: Math.floor((performance.now() - startedMs) / 1_000),
      connections: {
        open: broker.connectionCount(),
        connected: live.count(),
        limit: maxConnections,
      },
      rates: history.rates(),
      totals: {
        ...totalsOf(counters.received, counters.sent),
        stored: nats.counters.stored,
        sent: nats.counters.sent,
      },
      waiting: { messages: nats.inFlight, bytes: nats.inFlightBytes, causes: readCauses() },
      ackLatency: history.quantiles(),
      nats: { ok: nats.connected, detail: nats.detail },
      database: { ok: health.ok, detail: `${db.where} ${health.detail}` },
      failures: {
        ...countFailures(counters, forwarder),
        event_listeners_dropped: events.droppedListeners,
      },
      history: history.read(),
    };
  }

  const connections: LiveConnections = {
    ...live,
    kick(id, actor) {
      const kicked = live.kick(id, actor);
      if (kicked === undefined) return undefined;
      const details = { client: kicked.clientId, connection: id };
      // It is done, whether the database is there to note it or not.
      writeAudit(db.orm, actor, [{ action: 'connection.kick', target: kicked.deviceId, details }]).catch(
        (error: unknown) => {
          // The driver's own error is wrapped in one that quotes the statement with what it was given.
          const reason = messageOf(toDatabaseError(error, db.where));
          const fields = { event: 'audit_failed', action: 'connection.kick', reason };
          log.error(fields, 'A kick is not in the audit log');
        },
      );
      return kicked;
    },
  };
  return { replica, connections, events, readStats, close: () => history.close() };
}

function totalsOf(received: Traffic, sent: Traffic) {
  return {
    messagesIn: sum(received.messages),
    messagesOut: sum(sent.messages),
    bytesIn: sum(received.bytes),
    bytesOut: sum(sent.bytes),
  };
}

function countFailures(counters: Readonly<BrokerCounters>, forwarder: Forwarder): Record<string, number> {
  const { dropped, refused, abandoned } = forwarder.state().counters;
  return {
    connects_refused: countRefused(counters),
    publish_denied: counters.closed['publish-denied'],
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
