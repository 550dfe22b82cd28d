import { setTimeout as delay } from 'node:timers/promises';
import { connect, type NatsConnection } from 'nats';
import { addDevices, type OnFinished, until } from '../faults/gateway.js';
import { createDatabase, startPostgres } from '../support/postgres.js';
import { startServerProcess } from '../support/server-process.js';
import { startLoad } from './load.js';
import { findNetworkObstacle, startCabledCluster } from './network.js';
import type { Bench, Proof } from './proof.js';
import { clusterCatchUpMs, makeStream, purge } from './stream.js';

const clients = 16;
/** New messages of each client a second. */
const perSec = 50;
const mostCuts = 2;
const mostBetweenCuts = 2_000;
/** Long enough for the others to elect a leader, and sometimes not. */
const cutMs = { least: 500, most: 15_000 };

export const networkCutProof: Proof = {
  name: 'network-cut',
  claim:
    'What was acknowledged is stored, in order, when one NATS server of three is cut off, leader or follower',
  faults: 'cuts',
  rounds: 40,
  withinMs: 10 * 60_000,
  isolated: true,
  findObstacle: findNetworkObstacle,
  open,
};

async function open(onFinished: OnFinished): Promise<Bench> {
  const cluster = await startCabledCluster();
  onFinished(() => cluster.close());
  const postgres = await startPostgres();
  onFinished(() => postgres.stop());
  await makeStream(cluster.urls, 3);
  const url = cluster.urls.join(',');
  const server = await startServerProcess({
    DATABASE_URL: await createDatabase(postgres.url),
    NATS_URL: url,
  });
  onFinished(async () => {
    await server.end('SIGKILL');
  });
  const devices = await addDevices(server.httpPort, clients);

  return {
    versions: { 'nats-server': cluster.version },
    async run(random) {
      await purge(url);
      const load = startLoad(devices, {
        port: () => server.mqttPort,
        perSec,
        window: random.between(1, 50),
        catchUpMs: clusterCatchUpMs,
      });
      const done: string[] = [];
      try {
        for (let cut = random.between(1, mostCuts); cut > 0; cut -= 1) {
          const at = load.acknowledged() + random.between(1, mostBetweenCuts);
          await until(`${at} messages are acknowledged`, () => load.acknowledged() >= at);
          const leader = await readLeader(cluster.urls);
          const role = random.pick(['leader', 'follower'] as const);
          const others = cluster.names.filter((name) => name !== leader);
          const name = role === 'leader' ? leader : random.pick(others);
          const lastsMs = random.between(cutMs.least, cutMs.most);
          await cluster.cut(name);
          done.push(`${role} ${name} cut off for ${lastsMs} ms at ${load.acknowledged()} acknowledged`);
          await delay(lastsMs);
          await cluster.mend(name);
        }
        await load.finish();
        const verdict = await load.judge(url);
        const { qos2 } = verdict.doubled;
        return { done, verdict, problems: qos2 > 0 ? [`${qos2} of QoS 2 doubled`] : [] };
      } finally {
        load.destroy();
      }
    },
  };
}

/** The name of the server that leads the stream, once there is one. */
async function readLeader(urls: readonly string[]): Promise<string> {
  const connection: NatsConnection = await connect({ servers: [...urls], timeout: 5_000 });
  try {
    const manager = await connection.jetstreamManager({ checkAPI: false, timeout: 2_000 });
    let leader: string | undefined;
    await until('the stream has a leader', async () => {
      leader = (await manager.streams.info('RAW').catch(() => undefined))?.cluster?.leader;
      return leader !== undefined && leader !== '';
    });
    return leader as string;
  } finally {
    await connection.close();
  }
}
