import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { expect, test } from 'vitest';
import { call } from '../http/support.js';
import { freePort } from '../support/free-port.js';
import { startNatsServer } from '../support/nats-server.js';
import { programFile } from '../support/server-process.js';
import { addDevice, connected, openDatabase, publishAndWait, until } from './gateway.js';

test.for([{ LOG_FORMAT: 'json' }, { LOG_FORMAT: 'pretty' }, { LOG_FORMAT: 'json', WORKERS: '2' }] as Record<
  string,
  string
>[])('a full disk behind the log ends nothing: %o', async (env, { onTestFinished }) => {
  const nats = await startNatsServer();
  onTestFinished(() => nats.stop());
  const [mqttPort, httpPort] = [await freePort(), await freePort()];
  // Whoever writes to it hears that there is no space left.
  const full = openSync('/dev/full', 'w');
  const server = spawn(process.execPath, [programFile, 'serve'], {
    env: {
      PATH: process.env.PATH,
      DATABASE_URL: await openDatabase(onTestFinished),
      NATS_URL: nats.url,
      MQTT_HOST: '127.0.0.1',
      MQTT_PORT: String(mqttPort),
      LISTEN_ADDR: `127.0.0.1:${httpPort}`,
      LOG_LEVEL: 'debug',
      ...env,
    },
    stdio: ['ignore', 'ignore', full],
  });
  onTestFinished(() => void server.kill('SIGKILL'));
  closeSync(full);
  const ended = once(server, 'exit');
  await until('it is ready', async () => {
    expect(server.exitCode).toBeNull();
    const answer = await call(httpPort, 'GET', '/readyz').catch(() => undefined);
    return answer?.status === 200;
  });
  const device = await addDevice(httpPort);
  await publishAndWait(await connected(onTestFinished, mqttPort, device), device, 'a');
  server.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
});
