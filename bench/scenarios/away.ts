import { setTimeout as delay } from 'node:timers/promises';
import { startLoad } from '../load/load-process.js';
import { type Measurement, readPeaks } from '../measure.js';
import { readStorageBytes, readStreamMessages } from '../systems/nats.js';
import type { RestartedSystem } from '../systems/system.js';
import { readMemory } from '../usage.js';
import type { RunContext, Scenario } from './scenario.js';

const atOnce = 200;
/** Clients of one load process: each is a socket. */
const clientsAtOnce = 5_000;
const setUpWithinMs = 300_000;
const settleMs = 5_000;
const lookEveryMs = 10_000;
const looks = 30;

/** Sessions whose clients are not there: what they cost a gateway and NATS, and its start. */
export const away: Scenario = {
  name: 'away',
  load: '100,000 sessions with one subscription each whose clients have gone; then the gateway is started anew',
  unit: 'connect',
  systems: ['gateway'],
  devices: (sizes) => sizes.awaySessions,
  clients: () => clientsAtOnce,
  run: runAway,
};

async function runAway({ scope, fleet, sizes, system }: RunContext): Promise<Measurement> {
  const { nats } = system;
  if (nats === undefined || system.restart === undefined) throw new Error('it cannot be started again');
  const natsRss = () => readMemory(nats.pid).rssBytes;
  const empty = await system.restart();
  const emptyBytes = await readRestingHeap(empty);
  const natsEmpty = { rss: natsRss(), storage: await readStorageBytes(nats.monitoringUrl) };

  const identities = fleet.identities.slice(0, sizes.awaySessions);
  let accepted = 0;
  for (let from = 0; from < identities.length; from += clientsAtOnce) {
    const load = await startLoad(scope, 'connector', {
      port: empty.mqttPort,
      identities: identities.slice(from, from + clientsAtOnce),
      ...{ session: true, firstIndex: from },
    });
    accepted += (await load.call('connect', { atOnce }, setUpWithinMs)).accepted;
    await load.call('subscribe', undefined, setUpWithinMs);
    await load.call('disconnect', undefined, setUpWithinMs);
    await load.stop();
  }
  await delay(settleMs);
  const natsFull = { rss: natsRss(), storage: await readStorageBytes(nats.monitoringUrl) };
  const full = await (empty.restart ?? system.restart)();
  const fullBytes = await readRestingHeap(full);
  const records = await readStreamMessages(nats.url, 'KV_svc-mqtt-sessions');
  const count = identities.length;
  return {
    scenario: away.name,
    system: system.name,
    ratePerSec: undefined,
    cpuUs: {},
    latency: undefined,
    peakBytes: readPeaks(full),
    foreignCores: undefined,
    verified: `${records} sessions`,
    problems: records === count && accepted === count ? [] : [`${records} of ${count} sessions are stored`],
    figures: {
      'gateway bytes/session': (fullBytes - emptyBytes) / count,
      'NATS bytes/session': (natsFull.rss - natsEmpty.rss) / count,
      'NATS disk bytes/session': (natsFull.storage - natsEmpty.storage) / count,
      'start s': full.startMs / 1_000,
      'start CPU s': full.startCpuUs / 1e6,
      'start without s': empty.startMs / 1_000,
      'start CPU without s': empty.startCpuUs / 1e6,
    },
  };
}

/** After a start the gateway looks for the devices of all sessions in the database, which takes some memory meanwhile. */
async function readRestingHeap(system: RestartedSystem): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let look = 0; look < looks; look += 1) {
    await delay(lookEveryMs);
    const bytes = await system.readHeapBytes();
    if (bytes > least * 0.99) return Math.min(bytes, least);
    least = bytes;
  }
  return least;
}
