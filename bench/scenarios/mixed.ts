import { setTimeout as delay } from 'node:timers/promises';
import { startLoad } from '../load/load-process.js';
import { joinQuantiles, type Measurement, readCosts, readPeaks, takeMark } from '../measure.js';
import { verifyStream } from '../verify.js';
import type { RunContext, Scenario } from './scenario.js';
import { checkLoad } from './throughput.js';

const publishers = 50;
const subscribers = 500;
const visitors = 1_000;
const payloadBytes = 64;
const commandsPerSec = 1_000;
const visitsPerSec = 50;
const drainWithinMs = 30_000;

/** A working day: uplink at full speed while others receive commands and clients come and go. */
export const mixed: Scenario = {
  name: 'mixed',
  load: 'durable, while 500 subscribers receive 1,000 commands a second and 50 clients a second come, publish once and go',
  unit: 'message',
  systems: ['gateway', 'nats-mqtt', 'mosquitto', 'aedes'],
  devices: () => publishers + subscribers + visitors,
  clients: () => subscribers,
  run: runMixed,
};

async function runMixed(context: RunContext): Promise<Measurement> {
  const { scope, fleet, sizes, system } = context;
  const port = system.mqttPort;
  const identities = fleet.identities.slice(0, publishers);
  const publisher = await startLoad(scope, 'publisher', {
    ...{ port, identities, firstIndex: 0, qos: 1, payloadBytes, window: 100, ratePerSec: undefined },
  });
  const subscriber = await startLoad(scope, 'subscribers', {
    port,
    identities: fleet.identities.slice(publishers, publishers + subscribers),
    ratePerSec: commandsPerSec,
    natsUrl: system.name === 'gateway' ? system.nats?.url : undefined,
  });
  const churn = await startLoad(scope, 'churn', {
    port,
    identities: fleet.identities.slice(publishers + subscribers, publishers + subscribers + visitors),
    firstIndex: 1_000_000,
    ratePerSec: visitsPerSec,
    atOnce: visitors,
    total: Number.MAX_SAFE_INTEGER,
  });
  const pids = [publisher.pid, subscriber.pid, churn.pid];
  await subscriber.call('connect');
  await publisher.call('connect');
  await subscriber.call('start');
  await churn.call('start');
  await publisher.call('start');
  await delay(sizes.warmUpMs);
  await publisher.call('clearLatency');
  const fromCount = await publisher.call('snapshot');
  const from = takeMark(system, pids);
  await delay(sizes.measureMs);
  const toCount = await publisher.call('snapshot');
  const to = takeMark(system, pids);
  const latency = joinQuantiles(await publisher.call('latency'));
  const visits = await churn.call('finish', { timeoutMs: drainWithinMs });
  const commands = await subscriber.call('finish', { timeoutMs: drainWithinMs });
  const result = await publisher.call('finish', { timeoutMs: drainWithinMs });
  const peakBytes = readPeaks(system);
  for (const load of [publisher, subscriber, churn]) await load.stop();

  const problems = checkLoad(result);
  const missing = commands.commands - commands.delivered;
  if (missing > 0) problems.push(`${missing} of ${commands.commands} commands did not arrive`);
  const failed = visits.started - visits.served;
  if (failed > 0) problems.push(`${failed} of ${visits.started} coming clients were not served`);
  // With a subscriber to everything nats-server keeps commands in the same stream.
  const checked =
    system.name === 'gateway' && system.nats !== undefined
      ? await verifyStream(system.nats, {
          ...{ result, identities, firstIndex: 0, payloadBytes, contents: false, lossy: false },
          extraMessages: visits.served,
        })
      : undefined;
  const messages = toCount.done - fromCount.done;
  return {
    scenario: mixed.name,
    system: system.name,
    ratePerSec: (messages * 1_000) / (toCount.atMs - fromCount.atMs),
    ...readCosts(system, from, to, Math.max(messages, 1)),
    latency,
    peakBytes,
    verified: [
      ...(checked === undefined ? [] : [checked.verified]),
      `${commands.delivered} commands, ${visits.served} visits`,
    ].join(', '),
    problems: [...problems, ...(checked?.problems ?? [])],
    figures: { 'command p99 ms': joinQuantiles(commands.latency).p99Us / 1_000 },
  };
}
