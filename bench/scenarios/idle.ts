import { setTimeout as delay } from 'node:timers/promises';
import { startLoad } from '../load/load-process.js';
import { brokerPid, type Measurement, readBrokerRss, readPeaks } from '../measure.js';
import type { RunningSystem } from '../systems/system.js';
import { readCpuUs } from '../usage.js';
import type { RunContext, Scenario } from './scenario.js';

const atOnce = 200;
/** Clients that come and go before, so that what a process allocates once is not counted as a connection's. */
const warmUpClients = 500;
const connectWithinMs = 120_000;

/** Clients that are connected and say nothing, then subscribe and say nothing. */
export const idle: Scenario = {
  name: 'idle',
  load: '10,000 clients connected and silent, then with one subscription each',
  unit: 'connect',
  systems: ['gateway', 'gateway-mqtt5', 'nats-mqtt', 'mosquitto', 'aedes'],
  devices: (sizes) => sizes.idleClients,
  clients: (sizes) => sizes.idleClients,
  run: runIdle,
};

async function runIdle({ scope, fleet, sizes, system }: RunContext): Promise<Measurement> {
  const port = system.mqttPort;
  const warmUp = await startLoad(scope, 'connector', {
    port,
    identities: fleet.identities.slice(0, warmUpClients),
    dialect: system.dialect,
  });
  await warmUp.call('connect', { atOnce }, connectWithinMs);
  await warmUp.call('disconnect');
  await warmUp.stop();
  await delay(sizes.restMs / 2);

  const identities = fleet.identities.slice(0, sizes.idleClients);
  const load = await startLoad(scope, 'connector', { port, identities, dialect: system.dialect });
  const emptyBytes = readBrokerRss(system);
  const result = await load.call('connect', { atOnce }, connectWithinMs);
  const silent = await rest(system, sizes.restMs);
  await load.call('subscribe', undefined, connectWithinMs);
  const subscribed = await rest(system, sizes.restMs);
  const dropped = await load.call('dropped');
  const peakBytes = readPeaks(system);
  await load.stop();

  const perConnection = (rssBytes: number) => (rssBytes - emptyBytes) / 1_000 / identities.length;
  const problems: string[] = [];
  if (result.accepted < identities.length)
    problems.push(`${identities.length - result.accepted} clients were not let in`);
  if (dropped > 0) problems.push(`${dropped} silent clients were disconnected`);
  return {
    scenario: idle.name,
    system: system.name,
    ratePerSec: undefined,
    cpuUs: {},
    latency: undefined,
    peakBytes,
    foreignCores: undefined,
    verified: `${result.accepted} connected`,
    problems,
    figures: {
      'KB/connection': perConnection(silent.rssBytes),
      'KB subscribed': perConnection(subscribed.rssBytes),
      'rest CPU %': silent.cpuPercent,
      'rest CPU % subscribed': subscribed.cpuPercent,
    },
  };
}

/** Lets what has just happened settle, then looks at memory and at CPU time, of one core, while nothing happens. */
async function rest(
  system: RunningSystem,
  restMs: number,
): Promise<{ rssBytes: number; cpuPercent: number }> {
  await delay(restMs);
  const fromUs = readCpuUs(brokerPid(system));
  const fromMs = performance.now();
  await delay(restMs);
  const cpuUs = readCpuUs(brokerPid(system)) - fromUs;
  return {
    rssBytes: readBrokerRss(system),
    cpuPercent: cpuUs / (performance.now() - fromMs) / 10,
  };
}
