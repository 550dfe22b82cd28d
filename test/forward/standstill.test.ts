import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DiscardPolicy, type JetStreamManager, type StreamConfig } from 'nats';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Forwarder } from '../../src/server/forward/forwarder.js';
import { openObserver, openTestForwarder, openTestLog, until, uplink } from '../support/forwarding.js';
import { startNatsServer } from '../support/nats-server.js';
import { inCi } from '../support/rounds.js';

/** What is said of a gateway that stores nothing: a message waits, whatever the reason. */

interface Setting {
  readonly forwarder: Forwarder;
  readonly manager: JetStreamManager;
  readonly log: ReturnType<typeof openTestLog>;
  /** Gives messages until nothing is stored any more. */
  standstill(payload?: string): Promise<string>;
}

async function open(
  options: {
    configExtra?: string;
    storeDir?: string;
    stream?: Partial<StreamConfig>;
    gatewayUser?: string;
  } = {},
): Promise<Setting> {
  const { configExtra = '', gatewayUser } = options;
  const server = await startNatsServer({
    configExtra,
    ...(options.storeDir === undefined ? {} : { storeDir: options.storeDir }),
  });
  onTestFinished(() => server.stop());
  const credentials = gatewayUser === undefined ? {} : { user: 'admin', pass: 'admin' };
  const observer = await openObserver(server.url, credentials);
  onTestFinished(() => observer.close());
  const manager = await observer.jetstreamManager();
  const limits = { discard: DiscardPolicy.New, ...options.stream };
  await manager.streams.add({ name: 'RAW', subjects: ['raw.>'], ...limits });
  const log = openTestLog();
  const forwarder = await openTestForwarder(server.url, log.log, {
    ingest: 'plain',
    limits: { ackTimeoutMs: 1_500 },
    ...(gatewayUser === undefined ? {} : { nats: { natsUser: gatewayUser, natsPassword: gatewayUser } }),
  });
  onTestFinished(() => forwarder.close());
  expect(forwarder.state().standstill).toBeUndefined();
  return {
    forwarder,
    manager,
    log,
    async standstill(payload = 'x') {
      const lane = forwarder.openLane();
      await until(() => {
        if (lane.inFlight < 10) lane.publish(uplink(payload));
        return forwarder.state().standstill !== undefined;
      });
      const { sinceMs = 0, reason = '' } = forwarder.state().standstill ?? {};
      expect(Date.now() - sinceMs).toBeLessThan(60_000);
      return reason;
    },
  };
}

/** Users `admin`, who may do all, and `gateway`, who may not publish what devices send. */
const denying = `authorization { users = [
  { user: admin, password: admin }
  { user: gateway, password: gateway, permissions: {
    publish: { allow: ["$JS.API.>"] }, subscribe: { allow: ["_INBOX.>"] } } }
] }`;

describe('nothing is stored, and the reason is known:', () => {
  test('the stream is full of messages, until there is room', async () => {
    const setting = await open({ stream: { max_msgs: 3 } });
    expect(await setting.standstill()).toBe('maximum messages exceeded');
    await setting.manager.streams.update('RAW', { max_msgs: 1_000 });
    await until(() => setting.forwarder.state().standstill === undefined);
  });

  test('the stream is full of bytes', async () => {
    const setting = await open({ stream: { max_bytes: 10_000 } });
    expect(await setting.standstill('x'.repeat(1_000))).toBe('maximum bytes exceeded');
  });

  test('the account has used its storage', async () => {
    const setting = await open({
      configExtra: `accounts { A { jetstream: { max_file: 20k }, users: [ { user: admin, password: admin } ] } }`,
      gatewayUser: 'admin',
    });
    expect(await setting.standstill('x'.repeat(1_000))).toMatch(/resource/);
  });

  test('the stream is sealed, also while no device sends', async () => {
    const setting = await open();
    await setting.manager.streams.update('RAW', { sealed: true } as never);
    await until(() => setting.forwarder.state().standstill !== undefined);
    expect(setting.forwarder.state()).toMatchObject({
      inFlight: 0,
      standstill: { reason: 'Stream RAW (raw.>) is sealed and takes no messages' },
    });
  });

  test('the stream is gone, also while no device sends', async () => {
    const setting = await open();
    await setting.manager.streams.delete('RAW');
    await until(() => setting.forwarder.state().standstill !== undefined);
    expect(setting.forwarder.state().standstill?.reason).toBe('no stream takes raw.*');
    await setting.manager.streams.add({ name: 'RAW', subjects: ['raw.>'] });
    await until(() => setting.forwarder.state().standstill === undefined);
  });

  test('the user may not publish, which names no device and is one line for all of them', async () => {
    const sinceMs = performance.now();
    const setting = await open({ configExtra: denying, gatewayUser: 'gateway' });
    for (let device = 0; device < 100; device += 1)
      setting.forwarder.openLane().publish(uplink('x', { subject: Buffer.from(`raw.d${device}`) }));
    await until(() => setting.forwarder.state().standstill !== undefined);
    expect(setting.forwarder.state().standstill?.reason).toBe('NATS does not let the user publish');
    await until(() => setting.forwarder.state().counters.retriedRefused > inCi(300, 120), 240_000);
    expect(setting.forwarder.state().counters.retriedTimeout).toBe(0);
    const told = setting.log.lines.filter(({ event }) => event === 'uplink_not_stored');
    expect(told).toMatchObject([
      { cause: 'publish_denied', detail: expect.stringMatching(/^the user may not publish to raw\.d\d+$/) },
    ]);
    const minutes = Math.ceil((performance.now() - sinceMs) / 60_000);
    expect(setting.log.count('nats_error')).toBeLessThanOrEqual(10 * minutes);
  });

  test('the disk is full', async (context) => {
    const dir = mkdtempSync(join(tmpdir(), 'svc-mqtt-disk-'));
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', dir], { stdio: 'ignore' });
    } catch {
      rmSync(dir, { recursive: true });
      context.skip('a small file system cannot be mounted here');
    }
    onTestFinished(() => {
      execFileSync('umount', [dir]);
      rmSync(dir, { recursive: true });
    });
    const setting = await open({ storeDir: dir, configExtra: '' });
    expect(await setting.standstill('x'.repeat(100_000))).toMatch(/disk|storage|resource|space/);
  });
});
