import { setTimeout as delay } from 'node:timers/promises';
import { startLoad } from '../load/load-process.js';
import { type Measurement, readPeaks } from '../measure.js';
import { median } from '../median.js';
import type { Replica } from '../systems/system.js';
import { readCpuUs } from '../usage.js';
import { type RunContext, replicasOf, type Scenario } from './scenario.js';

const replicas = 3;
const atOnce = 200;
const forgetMs = 12_000;
/** Of each view: what one uses more than at rest is mostly when garbage is collected. */
const rounds = 3;
/** Messages of each replica: few, so that what they cost does not hide what looking costs. */
const ratePerSec = 50;
const connectWithinMs = 300_000;
const views = [
  { name: 'first page', deep: false, filter: '', sort: 'rate' },
  { name: 'deep page', deep: true, filter: '', sort: 'client' },
  { name: 'deep by rate', deep: true, filter: '', sort: 'rate' },
  { name: 'filter', deep: false, filter: 'watch tcp 1', sort: 'rate' },
] as const;

/** What it costs to look at a fleet. */
export const watch: Scenario = {
  name: 'watch',
  load: 'top and the page of connections of the console, both open on one of three replicas with 18,500 connections each, of which 200 publish 50 messages a second',
  unit: 'connect',
  systems: ['gateway-fleet'],
  devices: (sizes) => sizes.replicaClients * replicas,
  clients: (sizes) => sizes.replicaClients,
  byNameOnly: true,
  run: runWatch,
};

async function runWatch({ scope, fleet, sizes, system }: RunContext): Promise<Measurement> {
  const all = replicasOf(system);
  const each = sizes.replicaClients;
  let accepted = 0;
  for (const [index, { mqttPort: port }] of all.entries()) {
    const identities = fleet.identities.slice(index * each, (index + 1) * each);
    const publishers = Math.floor(identities.length / 92);
    const load = await startLoad(scope, 'connector', {
      port,
      identities: identities.slice(publishers),
      prefix: `watch${index}`,
    });
    accepted += (await load.call('connect', { atOnce }, connectWithinMs)).accepted + publishers;
    const publisher = await startLoad(scope, 'publisher', {
      ...{ port, identities: identities.slice(0, publishers), firstIndex: 0 },
      ...{ qos: 1, payloadBytes: 64, window: 4, ratePerSec },
    });
    await publisher.call('connect');
    await publisher.call('start');
  }
  await delay(sizes.restMs);
  const watcher = await startLoad(scope, 'watcher', { apiUrl: (all[0] as Replica).apiUrl });
  const use = async <T>(work: () => Promise<T>) => {
    const from = all.map(({ pid }) => readCpuUs(pid));
    const fromMs = performance.now();
    const result = await work();
    const elapsedMs = performance.now() - fromMs;
    const percents = all.map(({ pid }, index) => (readCpuUs(pid) - (from[index] as number)) / elapsedMs / 10);
    return { result, percents };
  };
  const problems = new Set<string>();
  const rest = async () => (await use(() => delay(sizes.restMs))).percents;
  let before = await rest();
  let highest = Math.max(...before);
  const seen = views.map(() => ({ more: [] as number[], updateMs: [] as number[], longestMs: 0 }));
  for (let round = 0; round < rounds; round += 1) {
    for (const [at, { name, ...view }] of views.entries()) {
      const found = seen[at] as (typeof seen)[number];
      const looking = watcher.call('watch', { ...view, warmUpMs: sizes.restMs, forMs: sizes.restMs });
      await delay(sizes.restMs);
      const { result, percents } = await use(() => looking);
      // What is kept while somebody watches is dropped after ten seconds.
      await delay(forgetMs);
      const after = await rest();
      found.more.push(
        Math.max(
          ...percents.map((used, index) => used - ((before[index] as number) + (after[index] as number)) / 2),
        ),
      );
      before = after;
      highest = Math.max(highest, ...after);
      const updates = [result.topMs, result.consoleMs].map((ms) => ms.slice(1));
      found.updateMs.push(Math.max(...updates.map(median)));
      found.longestMs = Math.max(found.longestMs, ...updates.flat());
      if (result.failed > 0) problems.add(`${name}: questions were not answered`);
      if (result.total < accepted)
        problems.add(`${name}: ${accepted - result.total} connections are not counted`);
    }
  }
  const figures = Object.fromEntries(
    views.flatMap(({ name }, at) => {
      const { more, updateMs, longestMs } = seen[at] as (typeof seen)[number];
      return [
        [`${name} CPU %`, median(more)],
        [`${name} s`, median(updateMs) / 1_000],
        [`${name} longest s`, longestMs / 1_000],
      ];
    }),
  );
  return {
    scenario: watch.name,
    system: system.name,
    ratePerSec: undefined,
    cpuUs: {},
    latency: undefined,
    peakBytes: readPeaks(system),
    foreignCores: undefined,
    verified: `${accepted} connections`,
    problems: [...problems],
    figures: { 'rest CPU %': highest, ...figures },
  };
}
