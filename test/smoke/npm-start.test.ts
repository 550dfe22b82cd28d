import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { borrowPostgres, createDatabase } from '../support/postgres.js';

const projectDir = fileURLToPath(new URL('../..', import.meta.url));

let nats: TestNatsServer;
let postgres: Awaited<ReturnType<typeof borrowPostgres>>;
let databaseUrl: string;
let npm: ChildProcess | undefined;

beforeAll(async () => {
  nats = await startNatsServer();
  postgres = await borrowPostgres();
  databaseUrl = await createDatabase(postgres.url);
});
afterEach(() => {
  // The group: what npm has left behind is ended too.
  if (npm?.pid !== undefined) {
    try {
      process.kill(-npm.pid, 'SIGKILL');
    } catch {
      // Nothing is left of it.
    }
  }
});
afterAll(async () => {
  await nats?.stop();
  await postgres?.release();
});

/** Starts the server as the README does, without the build, which other tests run on; answers its log as it comes. */
function npmStart() {
  const child = spawn('npm', ['start', '--ignore-scripts', '--silent'], {
    cwd: projectDir,
    detached: true,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      DATABASE_URL: databaseUrl,
      NATS_URL: nats.url,
      MQTT_HOST: '127.0.0.1',
      MQTT_PORT: '0',
      LISTEN_ADDR: '127.0.0.1:0',
      LOG_FORMAT: 'json',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  npm = child;
  const log: Record<string, unknown>[] = [];
  const ready = new Promise<Record<string, unknown>>((resolve) => {
    createInterface({ input: child.stderr }).on('line', (text) => {
      if (!text.startsWith('{')) return;
      const line = JSON.parse(text) as Record<string, unknown>;
      log.push(line);
      if (line.event === 'serve_ready') resolve(line);
    });
  });
  return { child, log, ready, exited: once(child, 'exit'), closed: once(child, 'close') };
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

test.each(['SIGTERM', 'SIGINT'] as const)(
  '%s to `npm start` alone drains the server and frees its ports',
  async (signal) => {
    const { child, log, ready, exited, closed } = npmStart();
    const { mqttPort, httpPort } = await ready;
    child.kill(signal);
    await exited;
    // Whoever started npm takes the server for stopped from here on.
    expect(await answers(Number(mqttPort))).toBe(false);
    expect(await answers(Number(httpPort))).toBe(false);
    await closed;
    expect(log.map(({ event }) => event)).toContain('serve_stopped');
    expect(await exited).toEqual([0, null]);
  },
);
