import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { openRawClient, type RawClient } from '../support/raw-client.js';
import { launchServer } from '../support/server-process.js';
import { addDevice, connected, publishAndWait, startGateway, tryConnect, until } from './gateway.js';

const linux = process.platform === 'linux';

test.runIf(linux)(
  'sockets that fill the limit of open files leave API, database, NATS and devices alone',
  {
    timeout: 300_000,
  },
  async ({ onTestFinished }) => {
    const { server } = await startGateway(onTestFinished, { launch: { openFiles: 200 } });
    const [low] = server.log.filter(({ event }) => event === 'open_files_low');
    const connections = low?.connections as number;
    expect(low).toMatchObject({ maxConnections: 100_000 });
    expect(connections).toBeGreaterThan(40);
    const device = await addDevice(server.httpPort);
    const resident = await connected(onTestFinished, server.mqttPort, device);

    const idle: RawClient[] = [];
    onTestFinished(() => {
      for (const client of idle) client.destroy();
    });
    const ask = async (path: string) => {
      const answer = await fetch(`http://127.0.0.1:${server.httpPort}${path}`, {
        headers: { connection: 'close' },
      });
      return { status: answer.status, text: await answer.text() };
    };
    for (let count = 0; count < 300; count += 1) {
      idle.push(await openRawClient(server.mqttPort));
      if (count % 20 === 0) expect((await ask('/healthz')).status).toBe(200);
    }
    await until('the others are closed', () => idle.filter(({ closed }) => !closed).length < connections);
    // One is the device's that was there before.
    expect(idle.filter(({ closed }) => !closed)).toHaveLength(connections - 1);
    expect(idle.slice(0, connections - 1).every(({ closed }) => !closed)).toBe(true);

    expect((await ask('/healthz')).status).toBe(200);
    expect(await server.readiness()).toMatchObject({ status: 200, database: 'ok', nats: 'ok' });
    await addDevice(server.httpPort);
    await publishAndWait(resident, device, 'in a crowd');
    const { text } = await ask('/metrics');
    expect(text).toContain(`svc_mqtt_connections_limit ${connections}\n`);
    expect(text).toContain(`svc_mqtt_limits_hit_total{limit="open-files"} ${301 - connections}\n`);
    const turnedAway = server.log.filter(({ event }) => event === 'too_many_connections');
    expect(turnedAway[0]?.limit).toContain('open files');
    expect(turnedAway.length).toBeLessThanOrEqual(40);
    expect(server.count('accept_failed')).toBe(0);

    for (const client of idle) client.destroy();
    await until('a device gets in', () =>
      tryConnect(server.mqttPort, device).then(
        (code) => code === 0,
        () => false,
      ),
    );
  },
);

test.runIf(linux)(
  'connections of the API that ask nothing leave devices and a probe alone',
  {
    timeout: 300_000,
  },
  async ({ onTestFinished }) => {
    const { server } = await startGateway(onTestFinished, { launch: { openFiles: 200 } });
    const device = await addDevice(server.httpPort);
    const idle: RawClient[] = [];
    onTestFinished(() => {
      for (const client of idle) client.destroy();
    });
    for (let count = 0; count < 300; count += 1) idle.push(await openRawClient(server.httpPort));
    await until('some are closed', () => idle.some(({ closed }) => closed));
    const resident = await connected(onTestFinished, server.mqttPort, device);
    await publishAndWait(resident, device, 'beside a crowd');
    expect(server.count('accept_failed')).toBe(0);
    for (const client of idle) client.destroy();
    await until('the API answers', async () => {
      await delay(50);
      return fetch(`http://127.0.0.1:${server.httpPort}/healthz`).then(
        ({ status }) => status === 200,
        () => false,
      );
    });
  },
);

test.runIf(linux)('too few open files end the start with what to raise', async () => {
  const dataDir = join(tmpdir(), `svc-mqtt-few-files-${process.pid}`);
  for (const openFiles of [60, 100]) {
    const server = launchServer({ DATA_DIR: dataDir }, { openFiles });
    expect(await server.ended).toBe(1);
    expect(server.stderr.join('\n')).toMatch(/open.*Raise the limit of open files \(ulimit -n/);
    expect(server.stderr.join('\n')).not.toContain('Internal error');
  }
});
