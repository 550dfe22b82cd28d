import { setTimeout as delay } from 'node:timers/promises';
import { startLoad } from '../load/load-process.js';
import { joinQuantiles, type Measurement, readCosts, readPeaks, takeMark } from '../measure.js';
import type { RunContext, Scenario } from './scenario.js';

const subscribers = 1_000;
const commandsPerSec = 1_000;
const drainWithinMs = 30_000;

/** The way down: stored commands beside those that core NATS passes on. */
export const command: Scenario = {
  name: 'command',
  load: '1,000 subscribers, QoS 1, 1,000 commands a second to one after the other, each published to NATS',
  unit: 'message',
  systems: ['gateway', 'gateway-core'],
  devices: () => subscribers,
  clients: () => subscribers,
  run: runCommand,
};

async function runCommand({ scope, fleet, sizes, system }: RunContext): Promise<Measurement> {
  const subscriber = await startLoad(scope, 'subscribers', {
    port: system.mqttPort,
    identities: fleet.identities.slice(0, subscribers),
    ratePerSec: commandsPerSec,
    natsUrl: system.nats?.url,
  });
  await subscriber.call('connect');
  await subscriber.call('start');
  await delay(sizes.warmUpMs);
  const fromCount = await subscriber.call('clearLatency');
  const from = takeMark(system, [subscriber.pid]);
  await delay(sizes.measureMs);
  const to = takeMark(system, [subscriber.pid]);
  const result = await subscriber.call('finish', { timeoutMs: drainWithinMs });
  const peakBytes = readPeaks(system);
  await subscriber.stop();
  const messages = result.delivered - fromCount.delivered;
  const missing = result.commands - result.delivered;
  return {
    scenario: command.name,
    system: system.name,
    ratePerSec: (messages * 1_000) / (to.atMs - from.atMs),
    ...readCosts(system, from, to, Math.max(messages, 1)),
    latency: joinQuantiles(result.latency),
    peakBytes,
    verified: `${result.delivered} commands`,
    problems: missing > 0 ? [`${missing} of ${result.commands} commands did not arrive`] : [],
    figures: {},
  };
}
