import { setTimeout as delay } from 'node:timers/promises';
import { withClient } from '../../test/support/postgres.js';
import { type LoadProcess, startLoad } from '../load/load-process.js';
import { type Measurement, readPeaks } from '../measure.js';
import { readCpuUs } from '../usage.js';
import { type RunContext, replicasOf, type Scenario } from './scenario.js';
import { checkLoad } from './throughput.js';

const replicas = 3;
const devicesInAll = 50_000;
/** A device is written a minute after the first that was noted of it, so that the first are written when it is measured. */
const beforeMs = 58_000;
/** At the bound it takes a replica so long to write what it has noted of all its devices before. */
const changeMs = 130_000;
const measureMs = 45_000;
const drainWithinMs = 60_000;
const connectWithinMs = 300_000;

/** What it costs to keep a ledger of each device. */
export const ledger: Scenario = {
  name: 'ledger',
  load: '50,000 devices on three replicas with a ledger, and on three without at the same time, which then change, QoS 1, 64 B, 1 in flight each',
  unit: 'message',
  systems: ['gateway-ledger'],
  byNameOnly: true,
  devices: (sizes) => countDevices(sizes.replicaClients) * replicas,
  clients: (sizes) => countDevices(sizes.replicaClients),
  run: runLedger,
};

/** Of each replica. */
function countDevices(replicaClients: number): number {
  return Math.min(replicaClients, Math.floor(devicesInAll / replicas));
}

async function runLedger({ scope, fleet, sizes, system }: RunContext): Promise<Measurement> {
  const each = countDevices(sizes.replicaClients);
  const publishers: LoadProcess<'publisher'>[] = [];
  const all = replicasOf(system);
  for (const [index, { mqttPort: port }] of all.entries()) {
    const half = Math.floor(index / 2) * each;
    const publisher = await startLoad(scope, 'publisher', {
      ...{ port, identities: fleet.identities.slice(half, half + each), firstIndex: index * each },
      ...{ qos: 1, payloadBytes: 64, window: 1, ratePerSec: undefined },
    });
    await publisher.call('connect', undefined, connectWithinMs);
    publishers.push(publisher);
  }
  await Promise.all(publishers.map((publisher) => publisher.call('start')));

  const read = async () =>
    await Promise.all(
      publishers.map(async (publisher, index) => ({
        done: (await publisher.call('snapshot')).done,
        cpuUs: readCpuUs(all[index]?.pid ?? 0),
      })),
    );
  /** @param noted of every two replicas the one that keeps a ledger. */
  const measure = async (noted: number) => {
    const [from, fromMs] = [await read(), performance.now()];
    const rows = await countRows(fleet.databaseUrl, measureMs);
    const [to, toMs] = [await read(), performance.now()];
    const costOf = (which: number) => {
      const mine = to.map((each, index) => [from[index] as typeof each, each] as const);
      const some = mine.filter((_each, index) => index % 2 === which);
      const messages = some.reduce((sum, [before, after]) => sum + after.done - before.done, 0);
      const cpuUs = some.reduce((sum, [before, after]) => sum + after.cpuUs - before.cpuUs, 0);
      return { messages, us: cpuUs / Math.max(messages, 1) };
    };
    const [kept, without] = [costOf(noted), costOf(1 - noted)];
    return {
      kept,
      without,
      rows,
      ratePerSec: ((kept.messages + without.messages) * 1_000) / (toMs - fromMs),
    };
  };
  await delay(beforeMs);
  const first = await measure(0);
  for (const { pid } of all) process.kill(pid, 'SIGWINCH');
  await delay(changeMs);
  const second = await measure(1);
  const results = [];
  for (const publisher of publishers)
    results.push(await publisher.call('finish', { timeoutMs: drainWithinMs }, 2 * drainWithinMs));
  const peakBytes = readPeaks(system);
  for (const publisher of publishers) await publisher.stop();

  const meanOf = (one: number, other: number) => Math.sqrt(one * other);
  const [kept, without] = [
    meanOf(first.kept.us, second.kept.us),
    meanOf(first.without.us, second.without.us),
  ];
  const rows = first.rows.total + second.rows.total;
  return {
    scenario: ledger.name,
    system: system.name,
    ratePerSec: meanOf(first.ratePerSec, second.ratePerSec),
    cpuUs: { broker: kept },
    latency: undefined,
    peakBytes,
    foreignCores: undefined,
    verified: `${rows} rows written`,
    problems: [...results.flatMap(checkLoad), ...(rows === 0 ? ['no row was written'] : [])],
    figures: {
      'without µs': without,
      'CPU ×': kept / without,
      'first ×': first.kept.us / first.without.us,
      'second ×': second.kept.us / second.without.us,
      'rows/s': Math.max(first.rows.most, second.rows.most),
      'mean rows/s': (rows * 1_000) / measureMs / 2,
    },
  };
}

const sampleMs = 15_000;

/** Rows of the ledger written, in all and on the mean of the busiest fifteen seconds. */
async function countRows(databaseUrl: string, forMs: number): Promise<{ total: number; most: number }> {
  return await withClient(databaseUrl, async (client) => {
    const read = async () => {
      // Backends tell what they did once a second at most.
      const { rows } = await client.query(
        "select n_tup_ins + n_tup_upd as written from pg_stat_user_tables where relname = 'device_ledger'",
      );
      return Number(rows[0]?.written ?? 0);
    };
    const first = await read();
    let before = first;
    let atMs = performance.now();
    let most = 0;
    for (const endMs = atMs + forMs; performance.now() < endMs; ) {
      await delay(sampleMs);
      const now = await read();
      const nowMs = performance.now();
      most = Math.max(most, ((now - before) * 1_000) / (nowMs - atMs));
      before = now;
      atMs = nowMs;
    }
    return { total: before - first, most };
  });
}
