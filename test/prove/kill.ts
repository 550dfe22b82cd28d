import { setTimeout as delay } from 'node:timers/promises';
import { addDevices, type OnFinished, until } from '../faults/gateway.js';
import { freePort } from '../support/free-port.js';
import { startNatsServer } from '../support/nats-server.js';
import { createDatabase, startPostgres, withClient } from '../support/postgres.js';
import { type ServerProcess, startServerProcess } from '../support/server-process.js';
import { startBalancer } from './balancer.js';
import { startLoad } from './load.js';
import type { Bench, Proof } from './proof.js';
import { purge } from './stream.js';

const clients = 20;
const mostKills = 3;
/** New messages of each client a second. */
const perSec = 100;
const mostBetweenKills = 3_000;
const longestAwayMs = 1_500;

/** What one kill takes: the parts with these names, at the same moment. */
const victims = [
  ['replica 1'],
  ['replica 2'],
  ['replica 1', 'replica 2'],
  ['NATS'],
  ['NATS', 'replica 1'],
  ['PostgreSQL'],
  ['PostgreSQL', 'replica 2'],
  ['PostgreSQL', 'NATS', 'replica 1', 'replica 2'],
] as const;
type PartName = (typeof victims)[number][number];

export const killProof: Proof = {
  name: 'kill',
  claim: 'What was acknowledged is stored, in order, whichever processes are killed',
  faults: 'kills',
  rounds: 250,
  withinMs: 5 * 60_000,
  findObstacle: async () => undefined,
  open,
};

async function open(onFinished: OnFinished): Promise<Bench> {
  const postgres = await startPostgres();
  onFinished(() => postgres.stop());
  // With the server's own default a killed process has lost nothing: the kernel has what it wrote.
  const nats = await startNatsServer();
  onFinished(() => nats.stop());
  const databaseUrl = await createDatabase(postgres.url);

  const replicas = await Promise.all(
    (['batch', 'plain'] as const).map(async (ingest) => {
      const env = {
        DATABASE_URL: databaseUrl,
        NATS_URL: nats.url,
        NATS_INGEST: ingest,
        MQTT_PORT: String(await freePort()),
        LISTEN_ADDR: `127.0.0.1:${await freePort()}`,
      };
      return { env, server: undefined as ServerProcess | undefined };
    }),
  );
  onFinished(async () => {
    await Promise.all(replicas.map(({ server }) => server?.end('SIGKILL')));
  });
  // One after the other: the first brings the schema up to date.
  for (const replica of replicas) replica.server = await startServerProcess(replica.env);
  const balancer = await startBalancer(replicas.map(({ env }) => Number(env.MQTT_PORT)));
  onFinished(() => balancer.close());
  const httpPort = replicas[0]?.server?.httpPort ?? 0;
  const devices = await addDevices(httpPort, clients);

  const parts: Record<PartName, { kill(): Promise<unknown>; start(): Promise<void> }> = {
    PostgreSQL: { kill: () => postgres.halt('kill'), start: () => postgres.start() },
    NATS: { kill: () => nats.kill(), start: () => nats.restart() },
    'replica 1': partOf(0),
    'replica 2': partOf(1),
  };
  function partOf(index: number) {
    const replica = replicas[index] as (typeof replicas)[number];
    return {
      kill: async () => replica.server?.end('SIGKILL'),
      start: async () => {
        replica.server = await startServerProcess(replica.env);
      },
    };
  }

  return {
    versions: { 'nats-server': nats.version, postgresql: await readPostgresVersion(postgres.url) },
    async run(random) {
      await purge(nats.url);
      const kills = random.between(1, mostKills);
      const load = startLoad(devices, { port: () => balancer.port, perSec, window: random.between(1, 60) });
      let replicaKilled = false;
      const done: string[] = [];
      try {
        for (let kill = 0; kill < kills; kill += 1) {
          // While it is acknowledged again, since the kill before.
          const at = load.acknowledged() + random.between(1, mostBetweenKills);
          await until(`${at} messages are acknowledged`, () => load.acknowledged() >= at);
          const names = random.pick(victims);
          await Promise.all(names.map((name) => parts[name].kill()));
          done.push(`${names.join(', ')} at ${load.acknowledged()} acknowledged`);
          replicaKilled ||= names.some((name) => name.startsWith('replica'));
          await delay(random.between(0, longestAwayMs));
          // In the order in which they need each other.
          for (const name of names) await parts[name].start();
        }
        await load.finish();
        const verdict = await load.judge(nats.url);
        // A replica that is killed takes its exchanges of QoS 2 with it.
        const { qos2 } = verdict.doubled;
        const problems =
          qos2 > 0 && !replicaKilled ? [`${qos2} of QoS 2 doubled, and no replica was killed`] : [];
        return { done, verdict, problems };
      } finally {
        load.destroy();
      }
    },
  };
}

function readPostgresVersion(url: string): Promise<string> {
  return withClient(url, async (client) => {
    const { rows } = await client.query<{ server_version: string }>('show server_version');
    return rows[0]?.server_version ?? '?';
  });
}
