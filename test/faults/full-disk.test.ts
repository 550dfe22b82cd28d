import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { connect } from 'nats';
import { expect, test } from 'vitest';
import { publishPacket } from '../support/raw-client.js';
import { addDevice, connected, startGateway, until } from './gateway.js';

const run = promisify(execFile);
const messageBytes = 32_768;
const window = 8;

test('a disk that is full under NATS: nothing acknowledged is lost, one line says it, and it goes on with room', async ({
  onTestFinished,
  skip,
}) => {
  const disk = await mkdtemp(path.join(tmpdir(), 'svc-mqtt-disk-'));
  onTestFinished(() => rm(disk, { recursive: true, force: true }));
  const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', disk]).then(
    () => true,
    () => false,
  );
  skip(!mounted, 'only root may mount a small file system');
  onTestFinished(async () => {
    await run('umount', ['--lazy', disk]);
  });
  const { server, nats } = await startGateway(onTestFinished, {
    // NATS takes three quarters of what it finds, and would say that these are full.
    nats: { storeDir: path.join(disk, 'store'), jetstreamExtra: 'max_file_store: 1GB' },
    env: { PUBLISH_TIMEOUT_SEC: '2' },
  });
  const device = await addDevice(server.httpPort);
  const client = await connected(onTestFinished, server.mqttPort, device);
  const acknowledged = new Set<number>();
  let sent = 0;
  const give = () => {
    sent += 1;
    const payload = Buffer.alloc(messageBytes);
    payload.writeUInt32BE(sent);
    client.send(publishPacket({ topic: `raw/${device.id}`, payload, qos: 1, packetId: sent }));
  };
  const storage = async () => {
    const answer = await fetch(`http://127.0.0.1:${server.httpPort}/readyz`);
    return ((await answer.json()) as { storage: { status: string; detail: string } }).storage;
  };
  const readOn = async () => {
    for (;;) {
      const answer = await client.next();
      if (answer.type !== 4) continue;
      acknowledged.add(answer.body.readUInt16BE(0));
      if (!stopped) give();
    }
  };
  let stopped = false;
  void readOn().catch(() => {});
  for (let number = 0; number < window; number += 1) give();
  await until('storage is said to fail', async () => (await storage()).status === 'failed');
  stopped = true;
  expect((await storage()).detail).toMatch(/^nothing is stored since \S+: .*disk of NATS is full/);
  expect(server.count('uplink_not_stored')).toBe(1);
  expect(acknowledged.size).toBeGreaterThan(window);
  expect(acknowledged.size).toBeLessThan(sent);
  await run('mount', ['-o', 'remount,size=256m', disk]);
  await nats.kill();
  await nats.restart();
  await until('all is acknowledged', () => acknowledged.size === sent);
  const observer = await connect({ servers: nats.url });
  onTestFinished(() => observer.close());
  const { streams } = await observer.jetstreamManager();
  // In the order in which each came first: what was under way may be there twice.
  const stored = new Set<number>();
  const { state } = await streams.info('RAW');
  for (let seq = state.first_seq; seq <= state.last_seq; seq += 1) {
    const { data } = await streams.getMessage('RAW', { seq });
    stored.add(Buffer.from(data).readUInt32BE(0));
  }
  expect([...stored]).toEqual(Array.from({ length: sent }, (_, index) => index + 1));
});
