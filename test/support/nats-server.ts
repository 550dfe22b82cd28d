import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { obtainNatsServer } from '../../src/server/forward/embedded/nats-server-program.js';
import { freePort } from './free-port.js';

/** A nats-server of a test, on 127.0.0.1 with a store of its own. */
export interface TestNatsServer {
  /** Without credentials. */
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  readonly version: string;
  /** Ends it in an orderly way and removes its store. */
  stop(): Promise<void>;
  /** SIGKILL; the store stays. */
  kill(): Promise<void>;
  /** Ends it in an orderly way; the store stays. */
  halt(): Promise<void>;
  /** SIGSTOP: the connections stay open and nothing is answered. Resolves when every thread stands still. */
  pause(): Promise<void>;
  resume(): void;
  /** Starts it again after `kill` or `halt`, on the same port and store. */
  restart(): Promise<void>;
  /** Has it take another `configExtra` while it runs; resolves when it has. */
  reconfigure(configExtra: string): Promise<void>;
}

const readyWithinMs = 60_000;

/**
 * Starts a nats-server and waits until it takes connections. The program is the one that svc-mqtt itself would use.
 *
 * @param options.configExtra lines added to the server's configuration, such as an authorization block.
 * @param options.jetstream default true.
 * @param options.port default: any free one.
 * @param options.jetstreamExtra lines added to the `jetstream` block.
 * @param options.program another one.
 * @param options.storeDir default: in a directory of its own, which is removed with it.
 */
export async function startNatsServer(
  options: {
    configExtra?: string;
    jetstream?: boolean;
    port?: number;
    program?: string;
    storeDir?: string;
    jetstreamExtra?: string;
  } = {},
): Promise<TestNatsServer> {
  const program = await obtainNatsServer({
    program: options.program ?? process.env.NATS_SERVER_BIN,
    onProgress: (line) => process.stderr.write(`${line}\n`),
  });
  const dir = await mkdtemp(join(tmpdir(), 'svc-mqtt-nats-'));
  let port = options.port ?? (await freePort());
  const config = join(dir, 'nats.conf');
  let { configExtra } = options;
  let output = '';
  let child = await start();

  function writeConfig(): Promise<void> {
    return writeFile(
      config,
      [
        `listen: "127.0.0.1:${port}"`,
        `ports_file_dir: ${JSON.stringify(dir)}`,
        options.jetstream === false
          ? ''
          : `jetstream { store_dir: ${JSON.stringify(options.storeDir ?? join(dir, 'store'))}\n${options.jetstreamExtra ?? ''} }`,
        configExtra ?? '',
      ].join('\n'),
    );
  }

  async function start(): Promise<ChildProcess> {
    await writeConfig();
    const killWithUs = () => started.kill('SIGKILL');
    const started = spawn(program.path, ['-c', config], { stdio: ['ignore', 'ignore', 'pipe'] });
    // A test run that ends early leaves no server behind.
    process.once('exit', killWithUs);
    started.once('exit', () => process.off('exit', killWithUs));
    output = '';
    started.stderr.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-4_000);
    });
    const endMs = Date.now() + readyWithinMs;
    while (true) {
      if (started.exitCode !== null) throw new Error(`nats-server ended: ${output}`);
      if (Date.now() > endMs) {
        started.kill('SIGKILL');
        throw new Error(`nats-server is not ready: ${output}`);
      }
      const file = (await readdir(dir)).find((name) => name.endsWith(`_${started.pid}.ports`));
      const found = /:(\d+)/.exec(file === undefined ? '' : await readFile(join(dir, file), 'utf8'))?.[1];
      if (found !== undefined && output.includes('Server is ready')) {
        port = Number(found);
        return started;
      }
      await delay(20);
    }
  }

  async function end(signal: NodeJS.Signals): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    child.kill('SIGCONT');
    await exited;
  }

  return {
    get url() {
      return `nats://127.0.0.1:${port}`;
    },
    get port() {
      return port;
    },
    get pid() {
      return child.pid ?? 0;
    },
    version: program.version,
    async stop() {
      await end('SIGTERM');
      await rm(dir, { recursive: true, force: true });
    },
    kill: () => end('SIGKILL'),
    halt: () => end('SIGTERM'),
    async pause() {
      child.kill('SIGSTOP');
      while (!(await standsStill(child.pid ?? 0))) await delay(1);
    },
    resume: () => {
      child.kill('SIGCONT');
    },
    async restart() {
      child = await start();
    },
    async reconfigure(extra) {
      configExtra = extra;
      await writeConfig();
      output = '';
      child.kill('SIGHUP');
      const endMs = Date.now() + readyWithinMs;
      while (!output.includes('Reloaded server configuration')) {
        if (Date.now() > endMs) throw new Error(`nats-server did not take the configuration: ${output}`);
        await delay(5);
      }
    },
  };
}

async function standsStill(pid: number): Promise<boolean> {
  if (process.platform !== 'linux') {
    await delay(200);
    return true;
  }
  const threads = await readdir(`/proc/${pid}/task`);
  const states = await Promise.all(
    threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/stat`, 'latin1').catch(() => ') T')),
  );
  return states.every((state) => state.split(') ').at(-1)?.startsWith('T'));
}
