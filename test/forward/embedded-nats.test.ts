import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readConfig } from '../../src/read-config.js';
import { probeNats } from '../../src/server/forward/connection/nats-probe.js';
import { readEmbeddedNatsPort, startEmbeddedNats } from '../../src/server/forward/embedded/embedded-nats.js';
import type { EmbeddedNats } from '../../src/server/forward/embedded/found-nats.js';
import { readProcessBirth } from '../../src/server/forward/embedded/process-identity.js';
import { startForwarder } from '../../src/server/forward/start-forwarder.js';
import { processesOf } from '../faults/processes.js';
import { openObserver, openTestLog, readStream, until, uplink } from '../support/forwarding.js';
import { freePort } from '../support/free-port.js';
import { startNatsServer } from '../support/nats-server.js';

const program = process.env.NATS_SERVER_BIN;
let dataDir: string;
let running: EmbeddedNats[];
let test: ReturnType<typeof openTestLog>;

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'svc mqtt data-'));
  running = [];
  test = openTestLog();
});

afterEach(async () => {
  for (const embedded of running) await embedded.close();
  await rm(dataDir, { recursive: true, force: true });
});

async function start(port = 0, other: { program?: string; dataDir?: string } = {}): Promise<EmbeddedNats> {
  const embedded = await startEmbeddedNats({ dataDir, port, program, log: test.log, ...other });
  running.push(embedded);
  return embedded;
}

async function readState(): Promise<{
  owner: { pid: number; birth: string };
  server: { pid: number; birth: string };
}> {
  return JSON.parse(await readFile(join(dataDir, 'nats', 'state.json'), 'utf8'));
}

/** Another gateway on the same data directory, in a process of its own that can be killed. */
async function startElsewhere(): Promise<{ child: ChildProcess; port: number }> {
  const script = `
    import { startEmbeddedNats } from ${JSON.stringify(new URL('../../src/server/forward/embedded/embedded-nats.ts', import.meta.url).href)};
    import { pino } from 'pino';
    const embedded = await startEmbeddedNats({
      dataDir: process.env.TEST_DATA_DIR, port: 0, program: process.env.NATS_SERVER_BIN, log: pino({ level: 'silent' }),
    });
    console.log('port ' + embedded.port);
    setInterval(() => {}, 1000);
  `;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', script], {
    cwd: new URL('../..', import.meta.url),
    env: { ...process.env, TEST_DATA_DIR: dataDir },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  await until(() => /port \d+/.test(output) || child.exitCode !== null);
  return { child, port: Number(/port (\d+)/.exec(output)?.[1]) };
}

async function kill(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

describe('the embedded NATS server', () => {
  it('starts, keeps its store in the data directory over restarts, and stops', async () => {
    const first = await start();
    expect(await probeNats(first.port)).toBe('nats');
    expect(readEmbeddedNatsPort(dataDir)).toBe(first.port);
    const observer = await openObserver(first.url);
    await (await observer.jetstreamManager()).streams.add({ name: 'KEPT', subjects: ['kept'] });
    await observer.jetstream().publish('kept', 'a');
    await observer.close();
    await Promise.all([first.close(), first.close()]);
    expect(await probeNats(first.port)).toBe('nothing');
    expect(readEmbeddedNatsPort(dataDir)).toBeUndefined();
    const second = await start(first.port);
    expect(second.port).toBe(first.port);
    const again = await openObserver(second.url);
    expect(await readStream(again, 'KEPT')).toEqual(['a']);
    await again.close();
    expect(existsSync(join(dataDir, 'nats', 'nats-server.log'))).toBe(true);
  });

  it('takes the space of a volume that has grown, and says what to do as long as it has not', async (context) => {
    const volume = join(dataDir, 'volume');
    await mkdir(volume);
    const mount = (options: string) =>
      execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', volume], { stdio: 'ignore' });
    try {
      mount('size=32m');
    } catch {
      context.skip('a small file system cannot be mounted here');
    }
    const env = {
      DATA_DIR: volume,
      EMBEDDED_NATS_PORT: '0',
      NATS_SERVER_BIN: program,
      PUBLISH_TIMEOUT_SEC: '2',
    };
    let close = async () => {};
    try {
      const started = await startForwarder({ config: readConfig({ env }), log: test.log });
      close = started.close;
      const { forwarder } = started;
      const lane = forwarder.openLane();
      const payload = 'x'.repeat(500_000);
      let given = 0;
      let stored = 0;
      await until(() => {
        if (test.count('nats_server_full') > 0) return true;
        if (lane.inFlight < 4) {
          given += 1;
          lane.publish(uplink(payload, { onStored: () => (stored += 1) }));
        }
        return false;
      });
      expect(stored).toBeGreaterThan(10);
      expect(stored).toBeLessThan(given);
      mount('remount,size=128m');
      await until(() => stored === given);
      expect(test.count('nats_server_grows')).toBe(1);
      expect(test.count('nats_server_full')).toBe(1);
      expect(test.count('nats_server_ended')).toBe(0);
    } finally {
      await close();
      execFileSync('umount', [volume]);
    }
  });

  it('stores again after its disk was full, as soon as that has room', async (context) => {
    const volume = join(dataDir, 'volume');
    await mkdir(volume);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', volume], { stdio: 'ignore' });
    } catch {
      context.skip('a small file system cannot be mounted here');
    }
    const env = {
      DATA_DIR: volume,
      EMBEDDED_NATS_PORT: '0',
      NATS_SERVER_BIN: program,
      PUBLISH_TIMEOUT_SEC: '2',
    };
    let close = async () => {};
    try {
      const { forwarder, ...started } = await startForwarder({ config: readConfig({ env }), log: test.log });
      close = started.close;
      const lane = forwarder.openLane();
      let given = 0;
      let stored = 0;
      const give = () => {
        if (lane.inFlight >= 4) return;
        given += 1;
        lane.publish(uplink('x'.repeat(20_000), { onStored: () => (stored += 1) }));
      };
      give();
      await until(() => stored === 1);
      const other = join(volume, 'other');
      await writeFile(other, Buffer.alloc(64 * 1_048_576)).catch(() => {});
      await until(() => {
        give();
        return forwarder.state().standstill?.silent === true;
      });
      await delay(12_000);
      expect(test.count('nats_server_silent')).toBe(0);
      await rm(other);
      await until(() => stored === given);
      expect([test.count('nats_server_silent'), test.count('nats_server_started')]).toEqual([1, 2]);
    } finally {
      await close();
      execFileSync('umount', [volume]);
    }
  });

  it('keeps what it stores from other users', async () => {
    const made = join(dataDir, 'made');
    const embedded = await startEmbeddedNats({ dataDir: made, port: 0, program, log: test.log });
    running.push(embedded);
    expect((await stat(made)).mode & 0o077).toBe(0);
  });

  it.runIf(process.platform === 'linux')('has nothing of our environment that is not for it', async () => {
    process.env.API_TOKEN = 'a-token-of-ours-0000';
    process.env.GOMEMLIMIT = '900MiB';
    try {
      await start();
    } finally {
      delete process.env.API_TOKEN;
      delete process.env.GOMEMLIMIT;
    }
    const { server } = await readState();
    const names = (await readFile(`/proc/${server.pid}/environ`, 'latin1'))
      .split('\0')
      .filter((entry) => entry !== '')
      .map((entry) => entry.split('=', 1)[0]);
    expect(names).toContain('GOMEMLIMIT');
    expect(names.filter((name) => !['GOMEMLIMIT', 'GOGC', 'GOMAXPROCS', 'TZ'].includes(name ?? ''))).toEqual(
      [],
    );
  });

  it('neither starts in nor believes a directory that others may write to', async () => {
    await start();
    const port = readEmbeddedNatsPort(dataDir);
    expect(port).toBeDefined();
    await chmod(join(dataDir, 'nats'), 0o777);
    expect(readEmbeddedNatsPort(dataDir)).toBeUndefined();
    await chmod(join(dataDir, 'nats'), 0o700);
    const open = join(dataDir, 'open');
    await mkdir(open);
    await chmod(open, 0o777);
    const attempt = startEmbeddedNats({ dataDir: open, port: 0, program, log: test.log });
    await expect(attempt).rejects.toThrow(`every user may write to ${open}`);
  });

  it('listens on this machine only', async () => {
    const { port } = await start();
    const config = await readFile(join(dataDir, 'nats', 'nats-server.conf'), 'utf8');
    expect(config).toContain('listen: "127.0.0.1:');
    expect(port).toBeGreaterThan(0);
  });

  it('is started again on the same port when it dies', async () => {
    const { port } = await start();
    const { server } = await readState();
    process.kill(server.pid, 'SIGKILL');
    await until(async () => test.count('nats_server_started') === 2);
    expect((await readState()).server.pid).not.toBe(server.pid);
    expect(readEmbeddedNatsPort(dataDir)).toBe(port);
    expect(await probeNats(port)).toBe('nats');
  });

  it('is started again on the same port when it hangs', async () => {
    const { port } = await start();
    const { server } = await readState();
    process.kill(server.pid, 'SIGSTOP');
    await until(() => test.count('nats_server_started') === 2, 120_000);
    expect(test.count('nats_server_hangs')).toBe(1);
    expect(readProcessBirth(server.pid)).not.toBe(server.birth);
    expect(await probeNats(port)).toBe('nats');
  });

  it('goes on when its gateway is killed, and the next gateway takes it over and ends it', async () => {
    const { child, port } = await startElsewhere();
    await kill(child);
    expect(await probeNats(port)).toBe('nats');
    const { server } = await readState();
    const next = await start();
    expect(next.port).toBe(port);
    expect((await readState()).server).toEqual(server);
    await next.close();
    expect(await probeNats(port)).toBe('nothing');
  });

  it('moves to another port when the next gateway asks for one', async () => {
    const { child, port } = await startElsewhere();
    await kill(child);
    const free = await freePort();
    const next = await start(free);
    expect(next.port).toBe(free);
    expect(await probeNats(port)).toBe('nothing');
  });

  it('is shared with, and left to, a gateway that lives', async () => {
    const { child, port } = await startElsewhere();
    try {
      const second = await start();
      expect(second.port).toBe(port);
      await second.close();
      expect(await probeNats(port)).toBe('nats');
    } finally {
      await kill(child);
      await (await start()).close();
    }
  });

  it('is one, however many gateways start at the same moment on one data directory', async () => {
    const all = await Promise.all([start(), start(), start()]);
    expect(new Set(all.map(({ port }) => port)).size).toBe(1);
    expect(test.count('nats_server_started')).toBe(1);
    expect(await processesOf(dataDir)).toEqual([(await readState()).server.pid]);
    const [port] = all.map((each) => each.port);
    for (const each of all) await each.close();
    expect(await probeNats(port ?? 0)).toBe('nothing');
    expect(readdirSync(join(dataDir, 'nats')).filter((name) => /claim|state/.test(name))).toEqual([]);
  });

  it('is not started on a store that another process has, which nobody reaches here', async () => {
    await start();
    const { server, ...others } = await readState();
    // As from a container that shares the directory and sees neither the other's processes nor its ports.
    const unseen = { ...others, server: { ...server, pid: 2 ** 22 } };
    await writeFile(join(dataDir, 'nats', 'state.json'), JSON.stringify(unseen));
    await expect(start()).rejects.toMatchObject({
      code: 'NATS_EMBEDDED',
      message: `Another svc-mqtt has the NATS server in ${join(dataDir, 'nats')}, and it does not answer here`,
    });
    expect(await processesOf(dataDir)).toEqual([server.pid]);
  });

  it('is not started in place of one on another data directory, whose port is kept free', async () => {
    const first = await start(0, { dataDir: join(dataDir, 'other') });
    const second = await start(first.port);
    await first.close();
    await until(async () => test.count('nats_server_gone') === 1);
    expect(await probeNats(second.port)).toBe('nothing');
    await start(first.port, { dataDir: join(dataDir, 'other') });
    expect(await probeNats(second.port)).toBe('nats');
  });

  it('is started by the second gateway of its data directory when the first is gone', async () => {
    const first = await start();
    const second = await start();
    expect(second.port).toBe(first.port);
    await first.close();
    await until(async () => (await probeNats(second.port)) === 'nats');
    expect(test.count('nats_server_gone')).toBe(1);
    expect(readEmbeddedNatsPort(dataDir)).toBe(second.port);
    expect(second.syncs).toBe(true);
    await second.close();
    expect(await probeNats(second.port)).toBe('nothing');
  });

  it('takes no other process for its server when the process number was used again', async () => {
    const first = await start();
    const state = await readState();
    await first.close();
    const stranger = spawn('sleep', ['60']);
    try {
      const server = { pid: stranger.pid, birth: state.server.birth };
      await writeFile(
        join(dataDir, 'nats', 'state.json'),
        JSON.stringify({ ...state, server, port: first.port }),
      );
      const next = await start();
      expect((await readState()).server.pid).not.toBe(stranger.pid);
      await next.close();
      expect(readProcessBirth(stranger.pid ?? 0)).toBeDefined();
    } finally {
      stranger.kill();
    }
  });

  it('uses a NATS server that listens already, and leaves it running', async () => {
    const server = await startNatsServer();
    try {
      const embedded = await start(server.port);
      expect(embedded.url).toBe(server.url);
      await embedded.close();
      expect(await probeNats(server.port)).toBe('nats');
    } finally {
      await server.stop();
    }
  });

  it.each([
    ['answers something else', (end: (text: string) => void) => end('220 mail ready\r\n')],
    ['says nothing', () => {}],
  ])('names a port that something else has taken, which %s', async (_what, greet) => {
    const other = createServer((socket) => {
      socket.on('error', () => {});
      greet((text) => void socket.end(text));
    });
    other.listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    await expect(start(port)).rejects.toMatchObject({
      code: 'NATS_EMBEDDED',
      message: `Port ${port} on 127.0.0.1 is taken by something that is not NATS`,
    });
    other.close();
  });

  it('says why it did not start', async () => {
    const broken = join(dataDir, 'nats-server');
    await writeFile(
      broken,
      '#!/bin/sh\n[ "$1" = --version ] && echo nats-server: v2.14.1 && exit\necho no licence >&2\nexit 1\n',
    );
    await chmod(broken, 0o755);
    await expect(start(0, { program: broken })).rejects.toMatchObject({
      code: 'NATS_EMBEDDED',
      message: `${broken} did not start: no licence`,
    });
    expect(existsSync(join(dataDir, 'nats', 'state.json'))).toBe(false);
  });

  it('says which setting is to be changed when it cannot have its port', async () => {
    const broken = join(dataDir, 'nats-server');
    const said =
      '[7] 2026/11/30 18:48:22.410012 [FTL] Error listening on port: "127.0.0.1:4222", listen tcp 127.0.0.1:4222: bind: address already in use';
    await writeFile(
      broken,
      `#!/bin/sh\n[ "$1" = --version ] && echo nats-server: v2.15.3 && exit\necho '${said}' >&2\nexit 1\n`,
    );
    await chmod(broken, 0o755);
    await expect(start(0, { program: broken })).rejects.toMatchObject({
      code: 'NATS_EMBEDDED',
      message: 'The NATS server cannot listen on 127.0.0.1:4222: address already in use',
      suggestion: 'Set EMBEDDED_NATS_PORT to a free port, or NATS_URL to a NATS server',
    });
  });

  it('names a data directory that cannot be used', async () => {
    await writeFile(join(dataDir, 'nats'), 'a file');
    await expect(start()).rejects.toMatchObject({ code: 'NATS_EMBEDDED' });
  });

  it('carries a forwarder from the settings alone', async () => {
    const config = readConfig({
      env: {
        DATA_DIR: dataDir,
        EMBEDDED_NATS_PORT: '0',
        ...(program === undefined ? {} : { NATS_SERVER_BIN: program }),
      },
    });
    const started = await startForwarder({ config, log: test.log });
    try {
      await new Promise<void>((resolve) =>
        started.forwarder.openLane().publish(uplink('a', { onStored: () => resolve() })),
      );
      const observer = await openObserver(`nats://127.0.0.1:${readEmbeddedNatsPort(dataDir)}`);
      expect(await readStream(observer)).toEqual(['a']);
      await observer.close();
    } finally {
      await started.close();
    }
    expect(readEmbeddedNatsPort(dataDir)).toBeUndefined();
  });

  it('does not stay when the rest of the start fails', async () => {
    const config = readConfig({
      env: {
        DATA_DIR: dataDir,
        EMBEDDED_NATS_PORT: '0',
        NATS_TLS_CA: join(dataDir, 'none.pem'),
        ...(program === undefined ? {} : { NATS_SERVER_BIN: program }),
      },
    });
    await expect(startForwarder({ config, log: test.log })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    expect(readEmbeddedNatsPort(dataDir)).toBeUndefined();
  });
});
