import { setTimeout as delay } from 'node:timers/promises';
import { startLoad } from '../load/load-process.js';
import { joinQuantiles, type Measurement, readCosts, readPeaks, takeMark } from '../measure.js';
import type { RunContext, Scenario } from './scenario.js';
import { checkLoad } from './throughput.js';

const publishers = 50;
const connectWithinMs = 120_000;
const drainWithinMs = 30_000;

/** Devices come back while the others send: neither may starve the other. */
function rushOf(name: string, beside: string, ratePerSec: number | undefined): Scenario {
  return {
    name,
    load: `as many devices as a storm has connect, 1,000 at a time, beside ${beside}: 50 clients, QoS 1, 64 B, 100 in flight each`,
    unit: 'connect',
    systems: ['gateway', 'nats-mqtt', 'mosquitto', 'aedes'],
    devices: (sizes) => publishers + sizes.stormClients,
    clients: (sizes) => sizes.stormClients,
    run: (context) => runRush(name, ratePerSec, context),
  };
}

export const rush = rushOf('rush', 'durable, as fast as it can', undefined);
export const rushPaced = rushOf('rush-paced', '29,000 messages a second', 29_000);

async function runRush(
  name: string,
  ratePerSec: number | undefined,
  context: RunContext,
): Promise<Measurement> {
  const { scope, fleet, sizes, system } = context;
  const port = system.mqttPort;
  const publisher = await startLoad(scope, 'publisher', {
    ...{ port, identities: fleet.identities.slice(0, publishers), firstIndex: 0 },
    ...{ qos: 1, payloadBytes: 64, window: 100, ratePerSec },
  });
  const identities = fleet.identities.slice(publishers, publishers + sizes.stormClients);
  const connector = await startLoad(scope, 'connector', { port, identities });
  await publisher.call('connect');
  await publisher.call('start');
  await delay(sizes.warmUpMs);
  const alone = await publisher.call('snapshot');
  await delay(sizes.measureMs);
  const fromCount = await publisher.call('snapshot');
  const from = takeMark(system, [publisher.pid, connector.pid]);
  const connects = await connector.call('connect', { atOnce: 1_000 }, connectWithinMs);
  const to = takeMark(system, [publisher.pid, connector.pid]);
  const toCount = await publisher.call('snapshot');
  const result = await publisher.call('finish', { timeoutMs: drainWithinMs });
  const dropped = await connector.call('dropped');
  const peakBytes = readPeaks(system);
  for (const load of [publisher, connector]) await load.stop();

  const problems = checkLoad(result);
  const lost = identities.length - connects.accepted;
  if (lost > 0) problems.push(`${lost} of ${identities.length} logins were lost`);
  if (dropped > 0) problems.push(`${dropped} connections were ended by the broker`);
  const rateOf = (before: typeof alone, after: typeof alone) =>
    ((after.done - before.done) * 1_000) / (after.atMs - before.atMs);
  return {
    scenario: name,
    system: system.name,
    ratePerSec: (connects.accepted * 1_000) / connects.elapsedMs,
    ...readCosts(system, from, to, Math.max(connects.accepted, 1)),
    latency: joinQuantiles(connects.latency),
    peakBytes,
    verified: `${connects.accepted} logins`,
    problems,
    figures: {
      'message/s before': rateOf(alone, fromCount),
      'message/s meanwhile': rateOf(fromCount, toCount),
    },
  };
}
