import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { startPostgres, withClient } from '../test/support/postgres.js';
import type { Identity } from './load/packets.js';
import { programFile } from './root.js';
import { progress, type Scope } from './scope.js';

/** Devices in a PostgreSQL of the benchmark's own, added by the product's command line. */
export interface Fleet {
  readonly databaseUrl: string;
  readonly postgresVersion: string;
  readonly postgresPid: number;
  readonly identities: readonly Identity[];
  /** Writes out what PostgreSQL would otherwise write while something is measured. */
  settle(): Promise<void>;
}

const run = promisify(execFile);

export async function openFleet(scope: Scope, devices: number): Promise<Fleet> {
  progress(`PostgreSQL with ${devices} devices …`);
  const postgres = await startPostgres();
  scope.add(() => postgres.stop());
  const sql = (text: string) => withClient(postgres.url, (client) => client.query(text));
  // What is added is not changed any more, so there is nothing to vacuum, and no core is taken meanwhile.
  await sql('alter system set autovacuum = off');
  await sql('select pg_reload_conf()');
  const { rows } = await sql("select pg_read_file('postmaster.pid', 0, 12) as pid, version() as version");
  const env = { PATH: process.env.PATH, DATABASE_URL: postgres.url, DATABASE_TIMEOUT_MS: '120000' };
  await run(process.execPath, [programFile, 'migrate'], { env });
  const { stdout } = await run(
    process.execPath,
    [programFile, 'device', 'add', '--type', 'bench', '--count', String(devices), '--json'],
    { env, maxBuffer: 1_024 * 1_024 * 1_024 },
  );
  await sql('vacuum analyze');
  const identities = stdout
    .trimEnd()
    .split('\n')
    .map((line) => {
      const device = JSON.parse(line) as { id: string; mqtt_user: string; mqtt_password: string };
      return { id: device.id, user: device.mqtt_user, password: device.mqtt_password };
    });
  return {
    databaseUrl: postgres.url,
    postgresVersion: /^PostgreSQL (\S+)/.exec(rows[0].version)?.[1] ?? rows[0].version,
    postgresPid: Number.parseInt(rows[0].pid, 10),
    identities,
    async settle() {
      await sql('checkpoint');
    },
  };
}
