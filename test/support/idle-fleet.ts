import type { StatsJson } from '../../src/api/stats.js';
import { sumStats } from '../../src/api/sum-stats.js';
import { SvcMqttError } from '../../src/errors.js';
import { EventFeed } from '../../src/server/event-feed.js';
import { openAsking } from '../../src/server/fleet/asking.js';
import { openFleetEvents } from '../../src/server/fleet/fleet-events.js';
import { openMembers } from '../../src/server/fleet/members.js';
import type { ReplicaView } from '../../src/server/live.js';

/** A replica without connections and alone, for tests of what has no part in them; with the feed of its events. */
export function openIdleFleet(): ReplicaView & { readonly feed: EventFeed } {
  const none = { messages_in: 0, messages_out: 0, bytes_in: 0, bytes_out: 0 };
  const readStats = (): StatsJson => ({
    at: new Date().toISOString(),
    version: '1.2.3',
    replica: 'r1',
    replicas: 1,
    started_at: new Date().toISOString(),
    uptime_seconds: 0,
    connections: { open: 0, connected: 0, limit: 1_000 },
    rates: none,
    totals: { ...none, stored: 0, sent: 0 },
    waiting: { messages: 0, bytes: 0, causes: [] },
    ack_latency_ms: { p50: null, p99: null },
    acknowledgement: { promised: 'stored', holds: true, level: 'stored', why: 'on 1 server' },
    nats: { ok: true, detail: 'nats://user:secret@127.0.0.1:4222' },
    database: { ok: true, detail: 'answers' },
    failures: { connects_refused: 0 },
    history: { messages_in: [], messages_out: [], bytes_in: [], bytes_out: [] },
    recent_events: [],
  });
  const feed = new EventFeed();
  const telling = { open: false, tell: () => false, reached: async () => {}, hear: () => () => {} };
  const link = {
    open: false,
    ask: async () => ({ failed: 'absent', detail: 'alone' }) as const,
    close: async () => {},
  };
  const members = openMembers({ replica: 'r1', host: 'localhost', version: '1.2.3' }, telling);
  return {
    feed,
    replica: 'r1',
    connections: {
      list: async (_request, take) =>
        await take(() => ({
          at: new Date().toISOString(),
          matching: 0,
          total: 0,
          connections: [],
          replicas: [],
        })),
      find: async () => undefined,
      kick: async () => false,
    },
    sessions: {
      list: async () => ({ sessions: [], next: undefined }),
      find: async () => undefined,
      end: async () => undefined,
    },
    commands: {
      progress: async () => {
        throw new SvcMqttError('COMMAND_NOT_FOUND', 'Commands are not stored, so that none can be followed');
      },
    },
    events: openFleetEvents({ replica: 'r1', feed, asking: openAsking(members, link), telling }),
    readLedger: async () => undefined,
    readFleet: async () => {
      const stats = readStats();
      const replicas = [
        { replica: 'r1', host: 'localhost', version: '1.2.3', ok: true, detail: null, stats },
      ];
      return { at: stats.at, replicas, total: sumStats([stats]) };
    },
    readStats: async () => readStats(),
  };
}
