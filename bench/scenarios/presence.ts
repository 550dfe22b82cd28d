import { setTimeout as delay } from 'node:timers/promises';
import { startLoad } from '../load/load-process.js';
import { type Measurement, readPeaks } from '../measure.js';
import { median } from '../median.js';
import type { Replica } from '../systems/system.js';
import { readCpuUs } from '../usage.js';
import { type RunContext, replicasOf, type Scenario } from './scenario.js';

const clients = 5_000;
const atOnce = 200;
/** Pairs of a round without events and one with them, of which the first is to warm up. */
const rounds = 31;
const connectWithinMs = 120_000;
/** What a round leaves to be done. */
const settleMs = 700;

/** What it costs to tell services of connections. */
export const presence: Scenario = {
  name: 'presence',
  load: '5,000 clients connect and disconnect, 200 at a time, and services are told of it in every other round',
  unit: 'connect',
  systems: ['gateway-events'],
  devices: () => clients,
  clients: () => clients,
  run: runPresence,
};

async function runPresence({ scope, fleet, system }: RunContext): Promise<Measurement> {
  const [replica] = replicasOf(system) as [Replica];
  const natsPid = system.nats?.pid ?? 0;
  const identities = fleet.identities.slice(0, clients);
  const load = await startLoad(scope, 'connector', { port: replica.mqttPort, identities, prefix: 'c' });
  let lost = 0;
  let expected = 0;
  let telling = false;
  const round = async (told: boolean) => {
    if (told !== telling) process.kill(replica.pid, 'SIGWINCH');
    telling = told;
    const read = () => ({ gateway: readCpuUs(replica.pid), nats: readCpuUs(natsPid) });
    const from = read();
    const { accepted } = await load.call('connect', { atOnce }, connectWithinMs);
    lost += clients - accepted;
    if (told) expected += 2 * accepted;
    await load.call('disconnect');
    await delay(settleMs);
    const to = read();
    return { gateway: (to.gateway - from.gateway) / clients, nats: (to.nats - from.nats) / clients };
  };
  const pairs: { without: Awaited<ReturnType<typeof round>>; with: Awaited<ReturnType<typeof round>> }[] = [];
  for (let index = 0; index < rounds; index += 1) {
    // The order changes, so that what comes first has no advantage.
    const first = index % 2 === 0;
    const costs = [await round(first), await round(!first)] as const;
    const [withEvents, without] = first ? costs : [costs[1], costs[0]];
    if (index > 0) pairs.push({ without, with: withEvents });
  }
  const told = await readEvents(replica);
  const peakBytes = readPeaks(system);
  await load.stop();
  const over = (read: (pair: (typeof pairs)[number]) => number) => median(pairs.map(read));
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
