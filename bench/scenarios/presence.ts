import { setTimeout as delay } from 'node:timers/promises';
import { type LoadProcess, startLoad } from '../load/load-process.js';
import { type Measurement, readPeaks } from '../measure.js';
import { median } from '../median.js';
import type { Replica } from '../systems/system.js';
import { readCpuUs } from '../usage.js';
import { type RunContext, replicasOf, type Scenario } from './scenario.js';

const clients = 5_000;
const atOnce = 200;
/** Pairs of a round without events and one with them, of which the first is to warm up. */
const rounds = 13;
const connectWithinMs = 120_000;
/** What a round leaves to be done. */
const settleMs = 700;

/** What it costs to tell services of connections. */
export const presence: Scenario = {
  name: 'presence',
  load: '5,000 clients connect and disconnect, 200 at a time, in turns with a replica that tells services of it and with one that does not',
  unit: 'connect',
  systems: ['gateway-events'],
  devices: () => clients,
  clients: () => clients,
  run: runPresence,
};

async function runPresence({ scope, fleet, system }: RunContext): Promise<Measurement> {
  const [silent, telling] = replicasOf(system) as [Replica, Replica];
  const natsPid = system.nats?.pid ?? 0;
  const identities = fleet.identities.slice(0, clients);
  const start = (replica: Replica, prefix: string) =>
    startLoad(scope, 'connector', { port: replica.mqttPort, identities, prefix });
  const [off, on] = [await start(silent, 'off'), await start(telling, 'on')];
  let lost = 0;
  const round = async (load: LoadProcess<'connector'>) => {
    const read = () => ({
      replicas: readCpuUs(silent.pid) + readCpuUs(telling.pid),
      nats: readCpuUs(natsPid),
    });
    const from = read();
    const { accepted } = await load.call('connect', { atOnce }, connectWithinMs);
    lost += clients - accepted;
    await load.call('disconnect');
    await delay(settleMs);
    const to = read();
    return { gateway: (to.replicas - from.replicas) / clients, nats: (to.nats - from.nats) / clients };
  };
  const pairs: { without: Awaited<ReturnType<typeof round>>; with: Awaited<ReturnType<typeof round>> }[] = [];
  for (let index = 0; index < rounds; index += 1) {
    // The order changes, so that what comes first has no advantage.
    const loads = index % 2 === 0 ? [off, on] : [on, off];
    const costs = [
      await round(loads[0] as LoadProcess<'connector'>),
      await round(loads[1] as LoadProcess<'connector'>),
    ] as const;
    const [without, withEvents] = index % 2 === 0 ? costs : [costs[1], costs[0]];
    if (index > 0) pairs.push({ without, with: withEvents });
  }
  const told = await readEvents(telling);
  const peakBytes = readPeaks(system);
  await off.stop();
  await on.stop();
  const over = (read: (pair: (typeof pairs)[number]) => number) => median(pairs.map(read));
  const expected = 2 * rounds * clients - lost;
  return {
    scenario: presence.name,
    system: system.name,
    ratePerSec: undefined,
    cpuUs: { broker: over((pair) => pair.with.gateway), nats: over((pair) => pair.with.nats) },
    latency: undefined,
    peakBytes,
    foreignCores: undefined,
    verified: `${told} events`,
    problems: [
      ...(lost > 0 ? [`${lost} logins were lost`] : []),
      ...(told < expected ? [`${expected - told} events were not sent`] : []),
    ],
    figures: {
      'without µs': over((pair) => pair.without.gateway),
      'more µs': over((pair) => pair.with.gateway - pair.without.gateway),
      'more NATS µs': over((pair) => pair.with.nats - pair.without.nats),
    },
  };
}

async function readEvents({ apiUrl }: Replica): Promise<number> {
  const text = await (await fetch(`${apiUrl}/metrics`)).text();
  return Number(/^svc_mqtt_device_events_total\{result="sent"\} (\d+)/m.exec(text)?.[1] ?? 0);
}
