import { spawn, spawnSync } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort } from './free-port.js';
import { unprivileged, withClient } from './postgres.js';

export const hasPgbouncer = spawnSync('pgbouncer', ['--version']).error === undefined;

/** A real pgbouncer of the test's own, pooling by transaction. */
export interface TestPgbouncer {
  /** The database of `url`, through the pooler. */
  readonly url: string;
  stop(): Promise<void>;
}

/** Starts pgbouncer before the database of `url`, with so many connections to it. */
export async function startPgbouncer(url: string, poolSize: number): Promise<TestPgbouncer> {
  const { hostname, port: serverPort, username, password } = new URL(url);
  const port = await freePort();
  const directory = await mkdtemp(path.join(tmpdir(), 'svc-mqtt-pgbouncer-'));
  // pgbouncer refuses to run as root.
  await chmod(directory, 0o755);
  const file = path.join(directory, 'pgbouncer.ini');
  await writeFile(
    file,
    `[databases]
* = host=${hostname} port=${serverPort} user=${username} password=${password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = ${poolSize}
min_pool_size = 0
`,
    { mode: 0o644 },
  );
  const child = spawn('pgbouncer', ['-q', file], { cwd: directory, stdio: 'ignore', ...unprivileged() });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const through = new URL(url);
  through.port = String(port);
  const stop = async () => {
    child.kill('SIGKILL');
    await ended;
    await rm(directory, { recursive: true, force: true });
  };
  const giveUpMs = performance.now() + 30_000;
  for (;;) {
    try {
      await withClient(through.href, (client) => client.query('select 1'));
      return { url: through.href, stop };
    } catch (error) {
      if (performance.now() > giveUpMs || child.exitCode !== null) {
        await stop();
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
