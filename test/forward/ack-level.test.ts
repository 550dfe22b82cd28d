import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { NatsConnection, StreamConfig } from 'nats';
import { StorageType } from 'nats';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import type { Forwarder } from '../../src/server/forward/forwarder.js';
import type { AckPromise } from '../../src/server/forward/stream/ack-watch.js';
import { openServerSync, varzSubject } from '../../src/server/forward/stream/server-sync.js';
import { openObserver, openTestForwarder, openTestLog, until, uplink } from '../support/forwarding.js';
import { freePort } from '../support/free-port.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

let server: TestNatsServer;
let forwarder: Forwarder | undefined;
let log: ReturnType<typeof openTestLog>;

afterEach(async () => {
  await forwarder?.close();
  forwarder = undefined;
  await server?.stop();
});

/** A server with a monitoring port; `sync_interval` can be changed for its next start. */
async function start(
  syncInterval: string,
  configExtra = '',
): Promise<{ monitorUrl: string; sync(interval: string): void }> {
  const monitorPort = await freePort();
  const options = {
    jetstreamExtra: `sync_interval: ${syncInterval}`,
    configExtra: `server_name: one\nhttp: "127.0.0.1:${monitorPort}"\n${configExtra}`,
  };
  server = await startNatsServer(options);
  return {
    monitorUrl: `http://127.0.0.1:${monitorPort}`,
    sync(interval) {
      options.jetstreamExtra = `sync_interval: ${interval}`;
    },
  };
}

async function open(promise: Partial<AckPromise>, stream?: Partial<StreamConfig>): Promise<Forwarder> {
  log = openTestLog();
  if (stream !== undefined) {
    const observer = await openObserver(server.url);
    onTestFinished(() => observer.close());
    const manager = await observer.jetstreamManager();
    await manager.streams.add({ name: 'RAW', subjects: ['raw.>'], ...stream });
  }
  forwarder = await openTestForwarder(server.url, log.log, { ingest: 'plain', promise });
  return forwarder;
}

const knowing = (parts: { monitorUrls?: string[]; asserted?: boolean; embedded?: boolean }) =>
  openServerSync({
    embedded: () => parts.embedded,
    monitorUrls: parts.monitorUrls ?? [],
    asserted: parts.asserted ?? false,
    domain: undefined,
  });

function publish(subject: Forwarder): { stored: boolean } {
  const state = { stored: false };
  subject.openLane().publish(
    uplink('a', {
      onStored: () => {
        state.stored = true;
      },
    }),
  );
  return state;
}

const broken = () => log.lines.find(({ event }) => event === 'ack_level_broken');

describe('ACK_LEVEL=synced', () => {
  it('holds where the monitoring port says that the server syncs before it answers', async () => {
    const { monitorUrl } = await start('always');
    const subject = await open({ level: 'synced', sync: knowing({ monitorUrls: [monitorUrl] }) });
    expect(subject.state().durability).toMatchObject({
      level: 'synced',
      why: 'on 1 server, synced to disk before the answer (one with sync_interval: always)',
      breaches: { synced: undefined },
    });
    const message = publish(subject);
    await until(() => message.stored);
  });

  it('remembers a server however many others were heard of before', async () => {
    let name = '';
    const monitor = createServer((_request, response) =>
      response.end(
        JSON.stringify({
          server_name: name,
          version: '2.15.3',
          jetstream: { config: { sync_always: true, sync_interval: 0 } },
        }),
      ),
    ).listen(0, '127.0.0.1');
    await once(monitor, 'listening');
    onTestFinished(() => void monitor.close());
    const monitorUrl = `http://127.0.0.1:${(monitor.address() as AddressInfo).port}`;
    const sync = knowing({ monitorUrls: [monitorUrl] });
    const connection = { info: undefined } as unknown as NatsConnection;
    for (let number = 0; number <= 1_001; number += 1) {
      name = `server-${number}`;
      const verdict = await sync.read(connection, { servers: [name], replicas: 1 }, true);
      expect([name, verdict.syncs]).toEqual([name, true]);
    }
  });

  it('holds where the account imports what servers say of themselves', async () => {
    await start(
      'always',
      `accounts {
        SYS { users: [{ user: sys, password: sys }], exports: [{ service: "${varzSubject}", response: stream }] }
        APP { jetstream: enabled, users: [{ user: app, password: app }], imports: [{ service: { account: SYS, subject: "${varzSubject}" } }] }
      }
      system_account: SYS
      no_auth_user: app`,
    );
    const subject = await open({ level: 'synced' });
    expect(subject.state().durability?.level).toBe('synced');
  });

  it('refuses to start where the server syncs later, and says what to change', async () => {
    const { monitorUrl } = await start('10s');
    await expect(
      open({ level: 'synced', sync: knowing({ monitorUrls: [monitorUrl] }) }),
    ).rejects.toMatchObject({
      code: 'ACK_LEVEL',
      message: 'ACK_LEVEL=synced does not hold: NATS server one syncs every 10 s and not before it answers',
      suggestion: expect.stringMatching(/^Set sync_interval: always /),
    });
  });

  it('does not believe an operator against what the server says', async () => {
    const { monitorUrl } = await start('10s');
    const sync = knowing({ monitorUrls: [monitorUrl], asserted: true });
    await expect(open({ level: 'synced', sync })).rejects.toMatchObject({ code: 'ACK_LEVEL' });
  });

  it.each([
    ['nobody can be asked', [], /the account is not let to ask/],
    ['the monitoring port does not answer', ['http://127.0.0.1:1'], /127\.0\.0\.1:1: fetch failed/],
  ])('refuses to start where it cannot be known: %s', async (_why, monitorUrls, message) => {
    await start('always');
    await expect(open({ level: 'synced', sync: knowing({ monitorUrls }) })).rejects.toMatchObject({
      code: 'ACK_LEVEL',
      message: expect.stringMatching(message),
      suggestion: expect.stringMatching(/^Set NATS_MONITOR_URL /),
    });
  });

  it('takes the word of the operator where nobody can be asked, and says so', async () => {
    await start('10s');
    const subject = await open({ level: 'synced', sync: knowing({ asserted: true }) });
    expect(subject.state().durability).toMatchObject({
      level: 'synced',
      why: expect.stringContaining('not checked'),
    });
  });

  it.each([
    ['in memory', { storage: StorageType.Memory }, 'is kept in memory'],
    ['written late', { persist_mode: 'async' }, 'confirms before it writes'],
  ])('refuses a stream that is %s', async (_what, stream, reason) => {
    const { monitorUrl } = await start('always');
    const sync = knowing({ monitorUrls: [monitorUrl] });
    await expect(open({ level: 'synced', sync }, stream as Partial<StreamConfig>)).rejects.toMatchObject({
      code: 'ACK_LEVEL',
      message: expect.stringContaining(reason),
    });
  });

  it('goes on with a warning when told to, and says what acknowledgements are worth', async () => {
    const { monitorUrl } = await start('10s');
    const sync = knowing({ monitorUrls: [monitorUrl] });
    const subject = await open({ level: 'synced', onBreach: 'warn', sync });
    const message = publish(subject);
    await until(() => message.stored);
    expect(broken()).toMatchObject({ level: 40, reason: expect.stringContaining('syncs every 10 s') });
    expect(subject.state()).toMatchObject({ standstill: undefined, durability: { level: 'stored' } });
  });

  it('ends acknowledgements when the server comes back and syncs later, until it syncs before it answers again', async () => {
    const { monitorUrl, sync } = await start('always');
    const subject = await open({ level: 'synced', sync: knowing({ monitorUrls: [monitorUrl] }) });
    sync('10s');
    await server.kill();
    await server.restart();
    await until(() => broken() !== undefined);
    const message = publish(subject);
    await until(() => log.count('uplink_not_stored') === 1);
    expect(message.stored).toBe(false);
    expect(subject.state().standstill?.reason).toContain('ACK_LEVEL=synced does not hold');
    expect(await countStored()).toBe(0);
    sync('always');
    await server.kill();
    await server.restart();
    await until(() => message.stored);
    expect(log.count('ack_level_kept')).toBe(1);
  });
});

async function countStored(): Promise<number> {
  const observer = await openObserver(server.url);
  try {
    return (await (await observer.jetstreamManager()).streams.info('RAW')).state.messages;
  } finally {
    await observer.close();
  }
}

describe('other levels', () => {
  it('ACK_LEVEL=replicated refuses a stream on one server', async () => {
    await start('always');
    await expect(open({ level: 'replicated' })).rejects.toMatchObject({
      code: 'ACK_LEVEL',
      message: expect.stringContaining('stream RAW is kept on 1 server'),
      suggestion: expect.stringContaining('nats stream edit RAW --replicas 3'),
    });
  });

  it('holds a message to the level of its policy, and others to ACK_LEVEL', async () => {
    await start('always');
    const subject = await open({});
    const stored: string[] = [];
    for (const ackLevel of ['replicated', undefined, 'stored'] as const) {
      const onStored = () => void stored.push(String(ackLevel));
      subject.openLane().publish(uplink('a', { ackLevel, onStored }));
    }
    await until(() => stored.length === 2 && log.count('uplink_not_stored') === 1);
    expect(stored).toEqual(['undefined', 'stored']);
    expect(log.lines.find(({ event }) => event === 'uplink_not_stored')?.detail).toBe(
      'ack_level replicated of the policy does not hold: stream RAW is kept on 1 server, and a majority that survives the loss of one needs 3',
    );
    expect(await countStored()).toBe(2);
  });

  it('holds no message to the level of its policy where a breach is a warning', async () => {
    await start('always');
    const message = { stored: false };
    const subject = await open({ onBreach: 'warn' });
    subject.openLane().publish(
      uplink('a', {
        ackLevel: 'replicated',
        onStored: () => {
          message.stored = true;
        },
      }),
    );
    await until(() => message.stored);
  });

  it('ACK_LEVEL=stored asks nobody, and shows a higher level where it is known', async () => {
    await start('always');
    const subject = await open({});
    expect(subject.state().durability).toMatchObject({
      level: 'stored',
      why: expect.stringContaining('it was not asked'),
    });
    await subject.close();
    expect((await open({ sync: knowing({ embedded: true }) })).state().durability).toMatchObject({
      level: 'synced',
      why: expect.stringContaining('the embedded NATS server has sync_interval: always'),
    });
  });
});
