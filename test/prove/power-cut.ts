import { setTimeout as delay } from 'node:timers/promises';
import { addDevices, type OnFinished, until } from '../faults/gateway.js';
import { createDatabase, startPostgres } from '../support/postgres.js';
import { startServerProcess } from '../support/server-process.js';
import { startLoad } from './load.js';
import { findMachineObstacle, startMachine } from './machine/machine.js';
import type { Bench, Proof } from './proof.js';
import { clusterCatchUpMs, makeStream, purge } from './stream.js';

const clients = 16;
/** New messages of each client a second, at most; the machine's software processor may take fewer. */
const perSec = 60;
const mostCuts = 2;
const mostBetweenCuts = 600;
/** A software processor may take minutes to elect a leader among three. */
const patienceMs = 8 * 60_000;
const slowestFlushMs = 8;
const longestPauseMs = 1_000;

interface Kind {
  readonly servers: 1 | 3;
  readonly jetstream: string;
}

const common = { faults: 'power cuts', withinMs: 20 * 60_000, findObstacle: findMachineObstacle };
const always = 'sync_interval: always';

export const powerCutProofs: readonly Proof[] = [
  {
    ...common,
    name: 'power-cut-r1',
    claim: 'With one nats-server and sync_interval: always, what was acknowledged survives a power cut',
    rounds: 60,
    open: (onFinished) => open(onFinished, { servers: 1, jetstream: always }),
  },
  {
    ...common,
    name: 'power-cut-r3',
    claim:
      'With three and sync_interval: always, what was acknowledged survives a power cut of all three at once',
    rounds: 30,
    open: (onFinished) => open(onFinished, { servers: 3, jetstream: always }),
  },
  {
    ...common,
    name: 'power-cut-control',
    claim: 'With the sync_interval that nats-server has by default, a power cut takes what was acknowledged',
    mustLose: true,
    rounds: 10,
    open: (onFinished) => open(onFinished, { servers: 1, jetstream: '' }),
  },
];

async function open(onFinished: OnFinished, { servers, jetstream }: Kind): Promise<Bench> {
  const postgres = await startPostgres();
  onFinished(() => postgres.stop());
  const machine = await startMachine({ servers, jetstream });
  onFinished(() => machine.close());
  if (servers > 1) await makeStream(machine.urls, servers);
  const server = await startServerProcess({
    DATABASE_URL: await createDatabase(postgres.url),
    NATS_URL: machine.urls.join(','),
  });
  onFinished(async () => {
    await server.end('SIGKILL');
  });
  const devices = await addDevices(server.httpPort, clients);
  const url = machine.urls.join(',');

  return {
    versions: machine.versions,
    async run(random) {
      await purge(url);
      const load = startLoad(devices, {
        port: () => server.mqttPort,
        perSec,
        window: random.between(1, 50),
        catchUpMs: servers === 1 ? 0 : clusterCatchUpMs,
      });
      // The slower a flush, the more likely it is that the power goes in the middle of one.
      machine.disk.setFlushDelay(random.between(0, slowestFlushMs));
      const done: string[] = [];
      try {
        for (let cut = random.between(1, mostCuts); cut > 0; cut -= 1) {
          // While it is acknowledged again, since the cut before.
          const at = load.acknowledged() + random.between(1, mostBetweenCuts);
          await until(`${at} messages are acknowledged`, () => load.acknowledged() >= at, patienceMs);
          await delay(random.between(0, longestPauseMs));
          const blocks = await machine.cutPower(random);
          done.push(`power cut at ${load.acknowledged()} acknowledged, ${blocks} blocks lost`);
          await machine.boot();
        }
        await load.finish();
        const verdict = await load.judge(url);
        // The gateway lived, and so did the exchanges that it remembers.
        const { qos2 } = verdict.doubled;
        return { done, verdict, problems: qos2 > 0 ? [`${qos2} of QoS 2 doubled`] : [] };
      } catch (error) {
        throw new Error(
          `${String(error)}\n${machine.console.slice(-4_000)}${server.stderr.slice(-20).join('\n')}`,
        );
      } finally {
        load.destroy();
      }
    },
  };
}
