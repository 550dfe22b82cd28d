import { startLoad } from '../load/load-process.js';
import { joinQuantiles, type Measurement, readCosts, readPeaks, takeMark } from '../measure.js';
import type { RunContext, Scenario } from './scenario.js';

const devices = 1_000;
const ratePerSec = 1_000;
/** Turns of devices and service, one after the other. */
const turns = 6;

/** Devices that are asked, beside a service that is. */
export const ask: Scenario = {
  name: 'ask',
  load: '1,000 NATS requests a second to 1,000 devices that answer at once, in turns with as many to a service of Node.js',
  unit: 'message',
  systems: ['gateway', 'gateway-mqtt5', 'relay'],
  devices: () => devices,
  clients: () => devices,
  run: runAsk,
};

async function runAsk({ scope, fleet, sizes, system }: RunContext): Promise<Measurement> {
  const natsUrl = system.nats?.url ?? '';
  const identities = fleet.identities.slice(0, devices);
  const service = { subjects: ['bench.service'] };
  const called = { subjects: identities.map(({ id }) => `call.${id}.go`) };
  const { mqttPort: port, dialect } = system;
  const answering = await startLoad(scope, 'answering', { port, identities, dialect });
  await answering.call('connect');
  const server = await startLoad(scope, 'service', { natsUrl, subject: 'bench.service' });
  await server.call('connect');
  const asker = await startLoad(scope, 'asker', { natsUrl, ratePerSec });
  await asker.call('connect');
  const pids = [answering.pid, server.pid, asker.pid];
  for (const each of [called, service]) await asker.call('ask', { ...each, forMs: sizes.warmUpMs });

  const forMs = (2 * sizes.measureMs) / turns;
  const take = async (each: typeof called) => {
    const from = takeMark(system, pids);
    const result = await asker.call('ask', { ...each, forMs });
    return { ...result, from, to: takeMark(system, pids) };
  };
  const toDevices: Awaited<ReturnType<typeof take>>[] = [];
  const toService: typeof toDevices = [];
  for (let turn = 0; turn < turns; turn += 1) {
    toDevices.push(await take(called));
    toService.push(await take(service));
  }
  const peakBytes = readPeaks(system);
  for (const each of [asker, server, answering]) await each.stop();

  const latency = joinQuantiles(...toDevices.map((each) => each.latency));
  const beside = joinQuantiles(...toService.map((each) => each.latency));
  const answered = toDevices.reduce((sum, each) => sum + each.answered, 0);
  const failed = [...toDevices, ...toService].reduce((sum, each) => sum + each.failed, 0);
  const costs = toDevices.map(({ from, to, answered: units }) =>
    readCosts(system, from, to, Math.max(units, 1)),
  );
  const mean = (read: (each: (typeof costs)[number]) => number | undefined) =>
    costs.reduce((sum, each) => sum + (read(each) ?? 0), 0) / costs.length;
  return {
    scenario: ask.name,
    system: system.name,
    ratePerSec: (answered * 1_000) / (forMs * turns),
    cpuUs: {
      broker: mean(({ cpuUs }) => cpuUs.broker),
      nats: mean(({ cpuUs }) => cpuUs.nats),
      load: mean(({ cpuUs }) => cpuUs.load),
    },
    foreignCores: mean(({ foreignCores }) => foreignCores),
    latency,
    peakBytes,
    verified: `${answered} answers`,
    problems: failed > 0 ? [`${failed} requests were not answered`] : [],
    figures: {
      'service p50 ms': beside.p50Us / 1_000,
      'service p99 ms': beside.p99Us / 1_000,
      'p50 ×': latency.p50Us / beside.p50Us,
      'p99 ×': latency.p99Us / beside.p99Us,
    },
  };
}
