import { setTimeout as delay } from 'node:timers/promises';
import { type LoadProcess, startLoad } from '../load/load-process.js';
import { joinQuantiles, type Measurement, readCosts, readPeaks, takeMark } from '../measure.js';
import type { RunContext, Scenario } from './scenario.js';

const stormWithinMs = 120_000;
/** After the clients have gone, so that their going is not counted with the next coming. */
const pauseMs = 3_000;

/** A fleet that lost its network comes back: every client connects in the same moment. */
export const storm: Scenario = {
  name: 'storm',
  load: '10,000 devices of 100,000 connect at once with passwords; the row shows the cold cache, the figures add the warm one',
  unit: 'connect',
  systems: ['gateway', 'nats-mqtt', 'mosquitto', 'aedes'],
  devices: (sizes) => sizes.stormDevices,
  clients: (sizes) => sizes.stormClients,
  run: runStorm,
};

async function runStorm(context: RunContext): Promise<Measurement> {
  const { scope, fleet, sizes, system } = context;
  const step = Math.floor(fleet.identities.length / sizes.stormClients);
  const identities = fleet.identities.filter((_, index) => index % step === 0).slice(0, sizes.stormClients);
  const load = await startLoad(scope, 'connector', { port: system.mqttPort, identities });
  const cold = await connectAll(context, load, identities.length);
  await load.call('disconnect');
  await delay(pauseMs);
  const warm = await connectAll(context, load, identities.length);
  const dropped = await load.call('dropped');
  const peakBytes = readPeaks(system);
  await load.stop();

  const lost = 2 * identities.length - cold.result.accepted - warm.result.accepted;
  const problems: string[] = [];
  if (lost > 0) problems.push(`${lost} of ${2 * identities.length} logins were lost`);
  if (dropped > 0) problems.push(`${dropped} connections were ended by the broker`);
  const { broker = 0, nats = 0 } = cold.costs.cpuUs;
  const warmCpu = warm.costs.cpuUs;
  return {
    scenario: storm.name,
    system: system.name,
    ratePerSec: cold.ratePerSec,
    ...cold.costs,
    latency: joinQuantiles(cold.result.latency),
    peakBytes,
    verified: `${cold.result.accepted} + ${warm.result.accepted} logins`,
    problems,
    figures: {
      'cold µs/connect': broker + nats,
      'warm µs/connect': (warmCpu.broker ?? 0) + (warmCpu.nats ?? 0),
      'warm connect/s': warm.ratePerSec,
      ...(cold.costs.cpuUs.postgres === undefined ? {} : { 'PostgreSQL cold µs': cold.costs.cpuUs.postgres }),
      lost,
    },
  };
}

async function connectAll({ system }: RunContext, load: LoadProcess<'connector'>, clients: number) {
  const from = takeMark(system, [load.pid]);
  const result = await load.call('connect', { atOnce: clients }, stormWithinMs);
  const costs = readCosts(system, from, takeMark(system, [load.pid]), clients);
  return { result, costs, ratePerSec: (result.accepted * 1_000) / result.elapsedMs };
}
