import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnection } from 'nats';
import { afterEach, describe, expect, it } from 'vitest';
import type { AckLevel } from '../../src/ack-level.js';
import { isAtLeast } from '../../src/server/forward/connection/server-version.js';
import type { Forwarder } from '../../src/server/forward/forwarder.js';
import { openServerSync } from '../../src/server/forward/stream/server-sync.js';
import {
  openObserver,
  openTestForwarder,
  openTestLog,
  readStream,
  until,
  uplink,
} from '../support/forwarding.js';
import { freePort } from '../support/free-port.js';
import { startCluster } from '../support/nats-cluster.js';

const undo: (() => Promise<unknown>)[] = [];
const lanesPerRun = 8;

afterEach(async () => {
  for (const release of undo.splice(0).reverse()) await release();
});

async function addReplicatedStream(observer: NatsConnection): Promise<void> {
  await until(async () => {
    try {
      const manager = await observer.jetstreamManager({ timeout: 1_000 });
      await manager.streams.add({
        name: 'RAW',
        subjects: ['raw.>'],
        num_replicas: 3,
        ...{ allow_atomic: true },
      });
      return true;
    } catch {
      return false;
    }
  }, 40_000);
}

async function readLeader(observer: NatsConnection): Promise<string | undefined> {
  try {
    const manager = await observer.jetstreamManager({ timeout: 1_000, checkAPI: false });
    return (await manager.streams.info('RAW')).cluster?.leader;
  } catch {
    return undefined;
  }
}

/** Who leads, and since when. */
async function readLeadership(observer: NatsConnection): Promise<string> {
  const manager = await observer.jetstreamManager({ timeout: 5_000, checkAPI: false });
  const { leader, leader_since } = ((await manager.streams.info('RAW')).cluster ?? {}) as {
    leader?: string;
    leader_since?: string;
  };
  return `${leader} ${leader_since}`;
}

/** The leader gives way; which server is the next one is for them to decide. */
async function stepDown(observer: NatsConnection): Promise<void> {
  await observer.request('$JS.API.STREAM.LEADER.STEPDOWN.RAW', '', { timeout: 5_000 }).catch(() => undefined);
}

/** What the stream holds, asked again while the servers elect: a server that comes back may start that anew. */
async function readWhenLed(observer: NatsConnection): Promise<string[]> {
  const endMs = performance.now() + 60_000;
  for (;;) {
    try {
      return await readStream(observer);
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await delay(100);
    }
  }
}

/** Numbered messages on several lanes, as many in flight as the bound allows. */
function startSenders(forwarder: Forwarder) {
  const confirmed = new Set<string>();
  const given: number[] = [];
  let stopped = false;
  for (let lane = 0; lane < lanesPerRun; lane += 1) {
    const opened = forwarder.openLane();
    const subject = Buffer.from(`raw.d${lane}`);
    given[lane] = 0;
    const give = () => {
      while (!stopped && opened.inFlight < 100) {
        if (forwarder.fullFor(true)) {
          forwarder.whenReady(give);
          return;
        }
        const name = `${lane}:${given[lane]}`;
        given[lane] = (given[lane] ?? 0) + 1;
        opened.publish(uplink(name, { subject, onStored: () => confirmed.add(name) }));
      }
      if (!stopped) setImmediate(give);
    };
    give();
  }
  return {
    confirmed,
    given,
    stop: () => {
      stopped = true;
    },
  };
}

describe('a stream of three replicas', () => {
  it('is waited for at the start while its cluster has no leader', { timeout: 300_000 }, async () => {
    const servers = await startCluster((release) => undo.push(release));
    const [first, ...others] = servers;
    if (first === undefined) throw new Error('no server');
    const observer = await openObserver(first.url);
    undo.push(() => observer.close());
    await addReplicatedStream(observer);
    for (const server of others) await server.kill();
    // Until it notices, the server that is left answers as a leader.
    await until(async () => (await readLeader(observer)) === undefined);
    const log = openTestLog();
    const starting = openTestForwarder(first.url, log.log);
    await until(() => log.count('jetstream_starting') === 1);
    for (const server of others) await server.restart();
    const forwarder = await starting;
    undo.push(() => forwarder.close());
    let stored = false;
    forwarder.openLane().publish(
      uplink('a', {
        onStored: () => {
          stored = true;
        },
      }),
    );
    await until(() => stored);
    expect(log.count('stream_created')).toBe(0);
  });

  it.for(['steps down', 'is killed'] as const)(
    'has every message that was confirmed in batches when its leader %s',
    {
      timeout: 300_000,
    },
    async (leader, context) => {
      const servers = await startCluster((release) => undo.push(release));
      const [first] = servers;
      if (first === undefined) throw new Error('no server');
      if (!isAtLeast(first.version, 2, 14)) context.skip();
      const observer = await openObserver(first.url);
      undo.push(() => observer.close());
      await addReplicatedStream(observer);
      // The forwarder's connection stays: the leader is one of the other servers.
      let name: string | undefined;
      await until(async () => {
        name = await readLeader(observer);
        if (name === 'n0') await stepDown(observer);
        return name !== undefined && name !== 'n0';
      }, 40_000);
      const forwarder = await openTestForwarder(first.url, openTestLog().log);
      undo.push(() => forwarder.close());
      expect(forwarder.state().ingest).toBe('batches');

      const senders = startSenders(forwarder);
      const progress = async () => {
        const before = senders.confirmed.size;
        await until(() => senders.confirmed.size > before + 2_000, 60_000);
      };
      await progress();
      const server = servers[Number(name?.slice(1))];
      if (leader === 'steps down') await stepDown(observer);
      else await server?.kill();
      await progress();
      senders.stop();
      expect(await forwarder.drain(30_000)).toBe(0);
      if (leader === 'is killed') await server?.restart();

      const present = new Set(await readWhenLed(observer));
      expect([...senders.confirmed].filter((each) => !present.has(each))).toEqual([]);
      expect(present.size).toBe(senders.given.reduce((sum, count) => sum + count, 0));
    },
  );

  it.each(['batch', 'plain'] as const)(
    'stores once what its majority confirms late, NATS_INGEST=%s',
    { timeout: 300_000 },
    async (ingest) => {
      const servers = await startCluster((release) => undo.push(release));
      const [first] = servers;
      if (first === undefined) throw new Error('no server');
      const observer = await openObserver(first.url);
      undo.push(() => observer.close());
      await addReplicatedStream(observer);
      let name: string | undefined;
      await until(async () => {
        name = await readLeader(observer);
        return name !== undefined;
      }, 40_000);
      const leader = servers[Number(name?.slice(1))];
      if (leader === undefined) throw new Error('no leader');
      const log = openTestLog();
      const forwarder = await openTestForwarder(leader.url, log.log, {
        ingest,
        limits: { ackTimeoutMs: 1_000 },
      });
      undo.push(() => forwarder.close());
      const senders = startSenders(forwarder);
      await until(() => senders.confirmed.size > 2_000);
      const before = await readLeadership(observer);
      for (const server of servers) if (server !== leader) await server.pause();
      await until(() => forwarder.state().holdingLanes > 0);
      const endMs = performance.now() + 1_500;
      await until(() => performance.now() > endMs);
      for (const server of servers) server.resume();
      const { size } = senders.confirmed;
      await until(() => senders.confirmed.size > size + 2_000);
      senders.stop();
      expect(await forwarder.drain(30_000)).toBe(0);

      const stored = await readWhenLed(observer);
      expect(new Set(stored).size).toBe(senders.given.reduce((sum, count) => sum + count, 0));
      const sameLeader = (await readLeadership(observer)) === before;
      if (sameLeader) expect(stored.length).toBe(new Set(stored).size);
    },
  );
});

/** A nats-server before 2.15, which syncs each message of a batch, and before others of the cluster. */
const older = process.env.TEST_OLDER_NATS_SERVER;

it.for(['batch', 'auto', 'plain'] as const)(
  'a cluster with an older server stores all that it confirmed, whoever leads and dies, NATS_INGEST=%s',
  { timeout: 300_000 },
  async (ingest, { skip }) => {
    if (older === undefined) return skip('TEST_OLDER_NATS_SERVER names no program');
    const servers = await startCluster((release) => undo.push(release), [{ program: older }]);
    const [oldest, current] = servers;
    if (oldest === undefined || current === undefined) throw new Error('no server');
    expect(isAtLeast(oldest.version, 2, 15)).toBe(false);
    const observer = await openObserver(current.url);
    undo.push(() => observer.close());
    await addReplicatedStream(observer);
    const log = openTestLog();
    const urls = servers.map(({ url }) => url).join(',');
    const forwarder = await openTestForwarder(urls, log.log, { ingest, limits: { ackTimeoutMs: 2_000 } });
    undo.push(() => forwarder.close());
    const senders = startSenders(forwarder);
    const goesOn = async () => {
      const { size } = senders.confirmed;
      await until(() => senders.confirmed.size > size + 1_000, 120_000);
    };
    await goesOn();
    // Until the older one has led, and another after it.
    let led = false;
    await until(async () => {
      await stepDown(observer);
      await goesOn();
      const leads = (await readLeader(observer)) === 'n0';
      led ||= leads;
      return led && !leads;
    }, 200_000);
    await oldest.kill();
    await goesOn();
    await oldest.restart();
    await goesOn();
    senders.stop();
    expect(await forwarder.drain(60_000)).toBe(0);

    const present = new Set(await readWhenLed(observer));
    expect([...senders.confirmed].filter((each) => !present.has(each))).toEqual([]);
    expect(present.size).toBe(senders.given.reduce((sum, count) => sum + count, 0));
  },
);

describe('what an acknowledgement is worth in a cluster', () => {
  async function start(extras: readonly string[]) {
    const options = await Promise.all(
      extras.map(async (jetstreamExtra) => ({ jetstreamExtra, http: `127.0.0.1:${await freePort()}` })),
    );
    const servers = await startCluster((release) => undo.push(release), options);
    const observer = await openObserver(servers[0]?.url ?? '');
    undo.push(() => observer.close());
    await addReplicatedStream(observer);
    const log = openTestLog();
    const sync = openServerSync({
      embedded: () => undefined,
      monitorUrls: options.map(({ http }) => `http://${http}`),
      asserted: false,
      domain: undefined,
    });
    return {
      servers,
      options,
      observer,
      log,
      open: async (level: AckLevel) => {
        const forwarder = await openTestForwarder(servers[0]?.url ?? '', log.log, {
          promise: { level, sync },
        });
        undo.push(() => forwarder.close());
        return forwarder;
      },
    };
  }

  function publish(forwarder: Forwarder): { stored: boolean } {
    const state = { stored: false };
    forwarder.openLane().publish(
      uplink('a', {
        onStored: () => {
          state.stored = true;
        },
      }),
    );
    return state;
  }

  it('is replicated on three servers, and nothing when one is to keep the stream alone', {
    timeout: 300_000,
  }, async () => {
    const { open, observer, log } = await start(['', '', '']);
    const forwarder = await open('replicated');
    expect(forwarder.state().durability?.level).toBe('replicated');
    const first = publish(forwarder);
    await until(() => first.stored);
    const manager = await observer.jetstreamManager({ timeout: 5_000 });
    await manager.streams.update('RAW', { num_replicas: 1 });
    await until(() => log.count('ack_level_broken') === 1);
    const second = publish(forwarder);
    await until(() => log.count('uplink_not_stored') > 0);
    expect(second.stored).toBe(false);
    await manager.streams.update('RAW', { num_replicas: 3 });
    await until(() => second.stored);
    expect(log.count('ack_level_kept')).toBe(1);
  });

  it('is synced when every server syncs, and nothing when one comes back and does not', {
    timeout: 300_000,
  }, async () => {
    const always = 'sync_interval: always';
    const { open, servers, options, observer, log } = await start([always, always, always]);
    const forwarder = await open('synced');
    expect(forwarder.state().durability).toMatchObject({
      level: 'synced',
      breaches: { replicated: undefined },
    });
    const first = publish(forwarder);
    await until(() => first.stored);
    let leader: string | undefined;
    await until(async () => {
      leader = await readLeader(observer);
      return leader !== undefined;
    });
    // Neither the leader nor the server of the connection.
    const other = [2, 1].find((index) => `n${index}` !== leader) ?? 1;
    await servers[other]?.kill();
    Object.assign(options[other] ?? {}, { jetstreamExtra: 'sync_interval: 10s' });
    await servers[other]?.restart();
    await until(() => log.count('ack_level_broken') === 1);
    expect(log.lines.find(({ event }) => event === 'ack_level_broken')?.reason).toContain(
      `n${other} syncs every 10 s`,
    );
    const second = publish(forwarder);
    await until(() => log.count('uplink_not_stored') > 0);
    expect(second.stored).toBe(false);
  });

  it('is not synced when one of three servers is not', { timeout: 300_000 }, async () => {
    const { open } = await start(['sync_interval: always', 'sync_interval: always', '']);
    await expect(open('synced')).rejects.toMatchObject({
      code: 'ACK_LEVEL',
      message: 'ACK_LEVEL=synced does not hold: NATS server n2 syncs every 120 s and not before it answers',
    });
  });
});
