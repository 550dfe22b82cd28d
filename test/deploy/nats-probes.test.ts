import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'nats';
import { expect, onTestFinished, test } from 'vitest';
import { freePort } from '../support/free-port.js';
import { startNatsServer } from '../support/nats-server.js';
import { findWorkload } from './support/kubernetes-check.js';
import { readDeployFiles } from './support/kubernetes-files.js';
import { listWorkloads } from './support/kubernetes-objects.js';

test('the liveness probe of NATS fails when the disk was full, which only a restart mends', async ({
  skip,
}) => {
  const nats = findWorkload(listWorkloads(readDeployFiles().objects), 'StatefulSet nats');
  const path = nats?.containers[0]?.livenessProbe?.httpGet?.path;
  const disk = mkdtempSync(join(tmpdir(), 'svc-mqtt-disk-'));
  onTestFinished(() => rmSync(disk, { recursive: true, force: true }));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', disk], { stdio: 'ignore' });
  } catch {
    skip('only root may mount a small file system');
  }
  onTestFinished(() => void execFileSync('umount', ['--lazy', disk]));
  const monitor = await freePort();
  const server = await startNatsServer({
    storeDir: join(disk, 'store'),
    configExtra: `http: "127.0.0.1:${monitor}"`,
  });
  onTestFinished(() => server.stop());
  const probe = async () => (await fetch(`http://127.0.0.1:${monitor}${path}`)).status;
  const connection = await connect({ servers: server.url });
  onTestFinished(() => connection.close());
  await (await connection.jetstreamManager()).streams.add({ name: 'RAW', subjects: ['raw'] });
  const store = () => connection.jetstream().publish('raw', new Uint8Array(50_000), { timeout: 2_000 });
  await store();
  expect(await probe()).toBe(200);
  const other = join(disk, 'other');
  try {
    writeFileSync(other, Buffer.alloc(64 * 1_048_576));
  } catch {
    // It is full.
  }
  await expect(store()).rejects.toThrow();
  rmSync(other);
  await expect(store()).rejects.toThrow();
  expect(await probe()).toBe(503);
});
