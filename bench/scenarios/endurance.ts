import { setTimeout as delay } from 'node:timers/promises';
import { startLoad } from '../load/load-process.js';
import {
  joinQuantiles,
  type Measurement,
  readBrokerRss,
  readCosts,
  readPeaks,
  takeMark,
} from '../measure.js';
import { progress } from '../scope.js';
import { verifyStream } from '../verify.js';
import type { RunContext, Scenario } from './scenario.js';
import { checkLoad } from './throughput.js';

const publishers = 50;
const visitors = 2_000;
const payloadBytes = 64;
const visitsPerSec = 2_000;
const visitsAtOnce = 64;
const drainWithinMs = 60_000;
const endWithinMs = 15 * 60_000;
const lookEveryMs = 1_000;
/** RSS swings with garbage collection: a value is the mean of so many looks. */
const looks = 10;

/** One process for a long time: does anything grow? */
export const endurance: Scenario = {
  name: 'endurance',
  load: '10,000,000 messages (durable) and 200,000 clients that come, publish once and go, through one process',
  unit: 'message',
  systems: ['gateway'],
  byNameOnly: true,
  devices: () => publishers + visitors,
  clients: () => publishers + visitsAtOnce,
  run: runEndurance,
};

async function runEndurance(context: RunContext): Promise<Measurement> {
  const { scope, fleet, sizes, system } = context;
  const port = system.mqttPort;
  const identities = fleet.identities.slice(0, publishers);
  const publisher = await startLoad(scope, 'publisher', {
    ...{ port, identities, firstIndex: 0, qos: 1, payloadBytes, window: 100, ratePerSec: undefined },
  });
  const churn = await startLoad(scope, 'churn', {
    port,
    identities: fleet.identities.slice(publishers, publishers + visitors),
    firstIndex: 1_000_000,
    ...{ ratePerSec: visitsPerSec, atOnce: visitsAtOnce, total: sizes.enduranceConnects },
  });
  await publisher.call('connect');
  const from = takeMark(system, [publisher.pid, churn.pid]);
  const fromCount = await publisher.call('snapshot');
  await publisher.call('start');
  await churn.call('start');

  const rss: { share: number; bytes: number }[] = [];
  const endMs = performance.now() + endWithinMs;
  let share = 0;
  while (share < 1) {
    await delay(lookEveryMs);
    const { done } = await publisher.call('snapshot');
    const { served } = await churn.call('snapshot');
    const next = Math.min(done / sizes.enduranceMessages, served / sizes.enduranceConnects);
    if (Math.floor(next * 10) > Math.floor(share * 10))
      progress(
        `endurance: ${done} messages, ${served} clients, RSS ${Math.round(readBrokerRss(system) / 2 ** 20)} MiB`,
      );
    share = next;
    rss.push({ share, bytes: readBrokerRss(system) });
    if (performance.now() > endMs) throw new Error(`only ${(share * 100).toFixed(0)} % in 15 minutes`);
  }
  const toCount = await publisher.call('snapshot');
  const to = takeMark(system, [publisher.pid, churn.pid]);
  const visits = await churn.call('finish', { timeoutMs: drainWithinMs });
  const result = await publisher.call('finish', { timeoutMs: drainWithinMs });
  const latency = joinQuantiles(await publisher.call('latency'));
  const peakBytes = readPeaks(system);
  await publisher.stop();
  await churn.stop();

  const problems = checkLoad(result);
  if (visits.served < visits.started)
    problems.push(`${visits.started - visits.served} of ${visits.started} clients were not served`);
  if (system.nats === undefined) throw new Error('there is no stream to check');
  const { verified, problems: missing } = await verifyStream(system.nats, {
    ...{ result, identities, firstIndex: 0, payloadBytes, contents: false, lossy: false },
    extraMessages: visits.served,
  });
  const tenth = mean(rss.filter((look) => look.share >= 0.1).slice(0, looks));
  const last = mean(rss.slice(-looks));
  const messages = toCount.done - fromCount.done;
  return {
    scenario: endurance.name,
    system: system.name,
    ratePerSec: (messages * 1_000) / (toCount.atMs - fromCount.atMs),
    ...readCosts(system, from, to, messages),
    latency,
    peakBytes,
    verified: `${verified}, ${visits.served} clients`,
    problems: [...problems, ...missing],
    figures: {
      'RSS after a tenth MiB': tenth / 2 ** 20,
      'RSS at the end MiB': last / 2 ** 20,
      'RSS growth %': (last / tenth - 1) * 100,
    },
  };
}

function mean(values: readonly { bytes: number }[]): number {
  return values.reduce((sum, { bytes }) => sum + bytes, 0) / values.length;
}
