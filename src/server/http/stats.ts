import Type, { type Static } from 'typebox';
import type { EventFeed } from '../event-feed.js';
import type { ReplicaStats, TrafficHistory } from '../live.js';
import { FleetEventResponse, showEvent } from './event-schemas.js';
import { listProblems, refer } from './responses.js';
import type { TypedApp } from './typed-app.js';

const closed = { additionalProperties: false };
const time = (description: string) => Type.String({ format: 'date-time', description });

const traffic = {
  messages_in: Type.Number({ description: 'Messages from devices' }),
  messages_out: Type.Number({ description: 'Messages to devices' }),
  bytes_in: Type.Number({ description: 'Bytes of the payloads from devices' }),
  bytes_out: Type.Number({ description: 'Bytes of the payloads to devices' }),
};

const Part = Type.Object({ ok: Type.Boolean(), detail: Type.String() }, closed);
const numbers = Type.Array(Type.Number());

const StatsResponse = Type.Object(
  {
    at: time('When this was read'),
    version: Type.String(),
    replica: Type.String({ description: 'Which replica answers; every number is its own' }),
    replicas: Type.Union([Type.Number(), Type.Null()], {
      description: 'Running replicas on the same database; null when the database does not tell',
    }),
    started_at: time('When the replica started'),
    uptime_seconds: Type.Number(),
    connections: Type.Object(
      {
        open: Type.Number({ description: 'Sockets, also of clients that are not logged in' }),
        connected: Type.Number({ description: 'Clients' }),
        limit: Type.Number({ description: 'MAX_CONNECTIONS, or what the limit of open files allows' }),
      },
      closed,
    ),
    rates: Type.Object(traffic, { ...closed, description: 'A second, over the last seconds' }),
    totals: Type.Object(
      {
        ...traffic,
        stored: Type.Number({ description: 'Messages that NATS has confirmed' }),
        sent: Type.Number({ description: 'Messages of QoS 0 handed to NATS' }),
      },
      { ...closed, description: 'Since the start' },
    ),
    waiting: Type.Object(
      {
        messages: Type.Number(),
        bytes: Type.Number(),
        causes: Type.Array(
          Type.Object(
            {
              cause: Type.String(),
              detail: Type.String(),
              clients: Type.Number(),
              since: time('Since when'),
            },
            closed,
          ),
          { description: 'What clients wait for that NATS refuses or does not confirm, by cause' },
        ),
      },
      { ...closed, description: 'Waiting for a store confirmation' },
    ),
    ack_latency_ms: Type.Object(
      {
        p50: Type.Union([Type.Number(), Type.Null()]),
        p99: Type.Union([Type.Number(), Type.Null()]),
      },
      {
        ...closed,
        description:
          'From the arrival of a message until it is stored, of the last ten seconds; null: there were none',
      },
    ),
    nats: Part,
    database: Part,
    failures: Type.Unsafe<Record<string, number>>({
      type: 'object',
      additionalProperties: { type: 'number' },
      description: 'What went wrong since the start, by kind',
    }),
    history: Type.Object(
      { messages_in: numbers, messages_out: numbers, bytes_in: numbers, bytes_out: numbers },
      { ...closed, description: 'The last minute, a number a second, the latest last' },
    ),
    recent_events: Type.Array(refer(FleetEventResponse), { description: 'The latest ones, the latest last' }),
  },
  { $id: 'Stats', ...closed },
);

const recentEvents = 20;

/** Adds the route that tells how this replica is doing. */
export function addStatsRoute(
  app: TypedApp,
  fleet: { readonly events: EventFeed; readStats(): Promise<ReplicaStats> },
): void {
  app.addSchema(StatsResponse);
  app.get(
    '/stats',
    {
      config: { role: 'viewer' },
      schema: {
        tags: ['stats'],
        operationId: 'getStats',
        summary: 'How this replica is doing',
        description:
          'Traffic, latency, what it depends on and what went wrong, with the last minute of traffic.',
        response: { 200: refer(StatsResponse, { description: 'The numbers' }), ...listProblems() },
      },
    },
    async (_request, reply) => {
      return reply.code(200).send(showStats(await fleet.readStats(), fleet.events));
    },
  );
}

/** The numbers as the API shows them, with the latest events. */
export function showStats(stats: ReplicaStats, events: EventFeed): Static<typeof StatsResponse> {
  const { p50Ms, p99Ms } = stats.ackLatency;
  return {
    at: new Date(stats.atMs).toISOString(),
    version: stats.version,
    replica: stats.replica,
    replicas: stats.replicas ?? null,
    started_at: new Date(stats.startedAtMs).toISOString(),
    uptime_seconds: stats.uptimeSec,
    connections: { ...stats.connections },
    rates: showTraffic(stats.rates),
    totals: { ...showTraffic(stats.totals), stored: stats.totals.stored, sent: stats.totals.sent },
    waiting: {
      messages: stats.waiting.messages,
      bytes: stats.waiting.bytes,
      causes: stats.waiting.causes.map(({ cause, detail, clients, sinceAtMs }) => ({
        cause,
        detail,
        clients,
        since: new Date(sinceAtMs).toISOString(),
      })),
    },
    ack_latency_ms: { p50: roundMs(p50Ms), p99: roundMs(p99Ms) },
    nats: showPart(stats.nats),
    database: showPart(stats.database),
    failures: { ...stats.failures },
    history: showHistory(stats.history),
    recent_events: events.since(Math.max(0, events.last - recentEvents)).map(showEvent),
  };
}

function showTraffic(numbersOf: {
  readonly messagesIn: number;
  readonly messagesOut: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}) {
  return {
    messages_in: numbersOf.messagesIn,
    messages_out: numbersOf.messagesOut,
    bytes_in: numbersOf.bytesIn,
    bytes_out: numbersOf.bytesOut,
  };
}

function showHistory(history: TrafficHistory) {
  return {
    messages_in: [...history.messagesIn],
    messages_out: [...history.messagesOut],
    bytes_in: [...history.bytesIn],
    bytes_out: [...history.bytesOut],
  };
}

/** Credentials in an address are taken out here, whoever wrote the detail. */
function showPart(part: { readonly ok: boolean; readonly detail: string }) {
  return { ok: part.ok, detail: part.detail.replace(/\/\/[^/@\s]+@/g, '//') };
}

function roundMs(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.round(ms * 100) / 100;
}
