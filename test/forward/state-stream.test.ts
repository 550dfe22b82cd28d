import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { connectNats } from '../../src/server/forward/connection/nats-link.js';
import { openStateStream } from '../../src/server/forward/state/state-stream.js';
import { noNatsSettings, openTestLog, until } from '../support/forwarding.js';
import { startNatsServer } from '../support/nats-server.js';

test('a stream has not caught up without a connection, and is up to date with what it has when it has lost its latest', async () => {
  const storeDir = await mkdtemp(join(tmpdir(), 'svc-mqtt-store-'));
  const lost = await mkdtemp(join(tmpdir(), 'svc-mqtt-lost-'));
  const nats = await startNatsServer({ storeDir });
  const { log } = openTestLog();
  const link = await connectNats({ ...noNatsSettings, natsUrl: nats.url }, log);
  const read: string[] = [];
  let begun = 0;
  const stream = openStateStream({
    ...{ link, log, domain: undefined, inboxPrefix: '_INBOX', streams: new Set() },
    ...{ name: 'STATE', subject: 'state.>', config: {}, without: 'the test fails' },
    keeping: () => ({
      ...{ stream: 'RAW', replicas: 1, inMemory: false, writtenLate: false, servers: undefined },
    }),
    begin() {
      begun += 1;
      read.length = 0;
      return 1;
    },
    onMessage: ({ message }) => void read.push(message.string()),
    onCaughtUp() {},
  });
  onTestFinished(async () => {
    stream.close();
    await link.close();
    await nats.stop();
    for (const dir of [storeDir, lost]) await rm(dir, { recursive: true, force: true });
  });
  const publish = async (text: string) => {
    await link.connection?.request('state.a', text, { timeout: 5_000 });
  };
  await until(() => stream.caughtUp);
  await publish('early');
  await nats.halt();
  await cp(storeDir, lost, { recursive: true });
  await nats.restart();
  await until(() => begun === 2 && stream.caughtUp);
  for (const text of ['late', 'later']) await publish(text);
  await until(() => read.length === 3);
  await nats.kill();
  await until(() => !link.open);
  expect(stream.caughtUp).toBe(false);
  await rm(storeDir, { recursive: true });
  await cp(lost, storeDir, { recursive: true });
  await nats.restart();
  await until(() => begun === 3 && stream.caughtUp);
  expect(read).toEqual(['early']);
  await publish('latest');
  await stream.upToDate(10_000);
  expect(read).toEqual(['early', 'latest']);
});
