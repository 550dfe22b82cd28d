import { setTimeout as delay } from 'node:timers/promises';
import { addDevices, mebibyte, type OnFinished } from '../faults/gateway.js';
import { createDatabase, startPostgres } from '../support/postgres.js';
import { startServerProcess } from '../support/server-process.js';
import { startLoad } from './load.js';
import { findMachineObstacle, startMachine } from './machine/machine.js';
import type { Bench, Proof } from './proof.js';
import { purge } from './stream.js';

const clients = 16;
/** Of each client without an acknowledgement: more than such a disk takes in seconds. */
const window = 20;
const mostGrowthBytes = 128 * mebibyte;

interface Slowness {
  /** What a sync takes, milliseconds; each round draws one of them. */
  readonly flushMs: readonly number[];
  readonly loadMs: number;
}

export const slowDiskProof = makeSlowDiskProof({ flushMs: [20, 200], loadMs: 20_000 });

export function makeSlowDiskProof(slowness: Slowness): Proof {
  return {
    name: 'slow-disk',
    claim: `A disk that takes ${slowness.flushMs.join(' or ')} ms for each sync slows the devices, and nothing else`,
    faults: 'slow disks',
    rounds: 10,
    withinMs: 15 * 60_000,
    findObstacle: findMachineObstacle,
    open: (onFinished) => open(onFinished, slowness),
  };
}

async function open(onFinished: OnFinished, { flushMs, loadMs }: Slowness): Promise<Bench> {
  const postgres = await startPostgres();
  onFinished(() => postgres.stop());
  const machine = await startMachine({ servers: 1, jetstream: 'sync_interval: always' });
  onFinished(() => machine.close());
  const url = machine.urls.join(',');
  const server = await startServerProcess({
    DATABASE_URL: await createDatabase(postgres.url),
    NATS_URL: url,
  });
  onFinished(async () => {
    await server.end('SIGKILL');
  });
  const devices = await addDevices(server.httpPort, clients);

  return {
    versions: machine.versions,
    async run(random) {
      machine.disk.setFlushDelay(0);
      await purge(url);
      const syncMs = random.pick(flushMs);
      machine.disk.setFlushDelay(syncMs);
      const before = server.residentBytes();
      const load = startLoad(devices, { port: () => server.mqttPort, window });
      let peak = before;
      let silentSinceMs = performance.now();
      let longestSilenceMs = 0;
      let last = 0;
      const watch = setInterval(() => {
        peak = Math.max(peak, server.residentBytes());
        const now = load.acknowledged();
        if (now > last) silentSinceMs = performance.now();
        longestSilenceMs = Math.max(longestSilenceMs, performance.now() - silentSinceMs);
        last = now;
      }, 50);
      try {
        await delay(loadMs);
        const perSec = load.acknowledged() / (loadMs / 1_000);
        await load.finish();
        const verdict = await load.judge(url);
        const { qos1, qos2 } = verdict.doubled;
        const lostConnections = load.publishers.reduce((sum, { disconnects }) => sum + disconnects, 0);
        return {
          done: [`${syncMs} ms a sync: ${Math.round(perSec)} acknowledged a second`],
          verdict,
          problems: [
            ...(qos1 + qos2 > 0 ? [`${qos1 + qos2} doubled, and no connection was lost`] : []),
            ...(lostConnections > 0 ? [`${lostConnections} connections lost`] : []),
            ...(peak - before > mostGrowthBytes
              ? [`the gateway grew by ${Math.round((peak - before) / mebibyte)} MiB`]
              : []),
          ],
          figures: {
            [`longest time without an acknowledgement at ${syncMs} ms a sync, ms`]: longestSilenceMs,
            'growth of the gateway, MiB': (peak - before) / mebibyte,
          },
        };
      } finally {
        clearInterval(watch);
        load.destroy();
      }
    },
  };
}
