import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { NatsSettings } from '../../src/server/forward/connection/nats-settings.js';
import { openNatsInspector } from '../../src/server/forward/stream/inspect-nats.js';
import { jsonLines, runCli } from '../cli/support.js';
import {
  noNatsSettings,
  openObserver,
  openTestForwarder,
  openTestLog,
  until,
  uplink,
} from '../support/forwarding.js';
import { freePort } from '../support/free-port.js';
import { startNatsServer } from '../support/nats-server.js';

/** What the account of the gateway may ask of NATS, and where its JetStream is. */

const undo: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const release of undo.splice(0).reverse()) await release();
});

async function start(options: Parameters<typeof startNatsServer>[0]) {
  const server = await startNatsServer(options);
  undo.push(() => server.stop());
  return server;
}

async function store(
  url: string,
  nats: Partial<NatsSettings>,
  ingest: 'plain' | 'batch' = 'plain',
): Promise<void> {
  const forwarder = await openTestForwarder(url, openTestLog().log, { ingest, nats });
  undo.push(() => forwarder.close());
  let stored = 0;
  const lane = forwarder.openLane();
  for (let count = 0; count < 100; count += 1) lane.publish(uplink('a', { onStored: () => (stored += 1) }));
  await until(() => stored === 100);
}

describe('a user with few permissions', () => {
  const users = (publish: string, subscribe: string) => `authorization { users = [ {
    user: gateway, password: gateway
    permissions: { publish: { allow: [${publish}] }, subscribe: { allow: [${subscribe}] } }
  } ] }`;
  const gateway = { natsUser: 'gateway', natsPassword: 'gateway' };
  const uplinkAndApi = '"raw.>", "$JS.API.>"';

  it.each(['plain', 'batch'] as const)(
    'is answered below a prefix of its own, NATS_INGEST=%s',
    async (ingest) => {
      const { url } = await start({ configExtra: users('"raw.>", "$JS.>"', '"private.gateway.>"') });
      await store(url, { ...gateway, natsInboxPrefix: 'private.gateway' }, ingest);
    },
  );

  it('is told which subscription was refused, and of the setting', async () => {
    const { url } = await start({ configExtra: users(uplinkAndApi, '"private.gateway.>"') });
    await expect(store(url, gateway)).rejects.toMatchObject({
      code: 'NATS_STREAM',
      message: expect.stringMatching(/^NATS does not let the user subscribe to _INBOX\./),
      suggestion: expect.stringContaining('NATS_INBOX_PREFIX'),
    });
  });

  it('is told which request was refused', async () => {
    const { url } = await start({
      configExtra: users('"raw.>", "$JS.API.STREAM.LIST"', '"_INBOX.>"'),
    });
    await expect(store(url, gateway)).rejects.toMatchObject({
      code: 'NATS_STREAM',
      message: 'NATS does not let the user publish to $JS.API.STREAM.CREATE.RAW',
    });
  });
});

describe('a leaf node without JetStream', () => {
  async function startLeaf(): Promise<{ hub: string; leaf: string }> {
    const port = await freePort();
    const hub = await start({
      jetstreamExtra: 'domain: hub',
      configExtra: `leafnodes { listen: "127.0.0.1:${port}" }`,
    });
    const leaf = await start({
      jetstream: false,
      configExtra: `leafnodes { remotes: [ { url: "nats-leaf://127.0.0.1:${port}" } ] }`,
    });
    return { hub: hub.url, leaf: leaf.url };
  }

  it.each(['plain', 'batch'] as const)('stores in the domain of its hub, NATS_INGEST=%s', async (ingest) => {
    const { hub, leaf } = await startLeaf();
    const domain = { natsJetstreamDomain: 'hub' };
    await store(leaf, domain, ingest);
    const observer = await openObserver(hub);
    undo.push(() => observer.close());
    const manager = await observer.jetstreamManager();
    expect((await manager.streams.info('RAW')).state.messages).toBe(100);

    const inspector = await openNatsInspector({ ...noNatsSettings, ...domain, natsUrl: leaf });
    undo.push(() => inspector.close());
    expect(inspector.jetstream).toBe(true);
    expect(await inspector.findStreams('raw.*')).toMatchObject([{ name: 'RAW', messages: 100 }]);
    expect((await inspector.readLast('RAW', 'raw.abc'))?.payload.toString()).toBe('a');

    const env = { NATS_URL: leaf, NATS_JETSTREAM_DOMAIN: 'hub' };
    const shown = await runCli(['tail-nats', 'raw.>', '--since', '1h', '--count', '100', '--json'], env);
    expect(jsonLines(shown.stdout).length).toBe(100);
  });

  it('confirms nothing that only a stream of another domain has stored', async () => {
    const port = await freePort();
    const hub = await start({
      jetstreamExtra: 'domain: hub',
      configExtra: `leafnodes { listen: "127.0.0.1:${port}" }`,
    });
    const leaf = await start({
      jetstreamExtra: 'domain: leaf',
      configExtra: `leafnodes { remotes: [ { url: "nats-leaf://127.0.0.1:${port}" } ] }`,
    });
    const observer = await openObserver(leaf.url);
    undo.push(() => observer.close());
    const manager = await observer.jetstreamManager();
    await manager.streams.add({ name: 'EDGE', subjects: ['raw.>'] });
    const log = openTestLog();
    const nats = { natsJetstreamDomain: 'hub' };
    const forwarder = await openTestForwarder(leaf.url, log.log, { nats, limits: { ackTimeoutMs: 500 } });
    undo.push(() => forwarder.close());
    const lane = forwarder.openLane();
    lane.publish(uplink('a'));
    await until(() => forwarder.state().counters.stored === 1);
    await hub.pause();
    lane.publish(uplink('b'));
    await until(async () => (await manager.streams.info('EDGE')).state.messages === 2);
    await delay(300);
    expect(forwarder.state().counters.stored).toBe(1);
    await hub.resume();
    await until(() => forwarder.state().counters.stored === 2);
    expect(log.count('answer_from_elsewhere')).toBe(1);
  });

  it('says that nobody answers in a domain that is not there', async () => {
    const { leaf } = await startLeaf();
    await expect(store(leaf, { natsJetstreamDomain: 'elsewhere' })).rejects.toMatchObject({
      code: 'NATS_STREAM',
      message: 'No JetStream answers in the domain elsewhere',
    });
  });
});
