import { connect, DiscardPolicy } from 'nats';
import { expect, test } from 'vitest';
import { publishPacket } from '../support/raw-client.js';
import { addDevice, connected, startGateway, until } from './gateway.js';

interface Answer {
  readonly status: number;
  readonly body: {
    readonly status: string;
    readonly storage: { readonly status: string; readonly detail: string };
  };
}

async function readReadyz(httpPort: number): Promise<Answer> {
  const answer = await fetch(`http://127.0.0.1:${httpPort}/readyz`);
  return { status: answer.status, body: (await answer.json()) as Answer['body'] };
}

test.for([
  { needed: 'false', status: 200, overall: 'ok' },
  { needed: 'true', status: 503, overall: 'failed' },
])(
  '/readyz says that nothing is stored, since when and why; READY_NEEDS_STORAGE=$needed',
  async ({ needed, status, overall }, { onTestFinished }) => {
    const { server, nats } = await startGateway(onTestFinished, { env: { READY_NEEDS_STORAGE: needed } });
    expect(await readReadyz(server.httpPort)).toMatchObject({
      status: 200,
      body: { storage: { status: 'ok' } },
    });
    const observer = await connect({ servers: nats.url });
    onTestFinished(() => observer.close());
    const { streams } = await observer.jetstreamManager();
    await streams.update('RAW', { max_msgs: 1, discard: DiscardPolicy.New });
    const device = await addDevice(server.httpPort);
    const client = await connected(onTestFinished, server.mqttPort, device);
    const before = Date.now();
    for (let packetId = 1; packetId <= 3; packetId += 1)
      client.send(publishPacket({ topic: `raw/${device.id}`, payload: 'x', qos: 1, packetId }));
    await until(
      '/readyz says so',
      async () => (await readReadyz(server.httpPort)).body.storage.status === 'failed',
    );
    const full = await readReadyz(server.httpPort);
    expect(full).toMatchObject({ status, body: { status: overall } });
    const [, since = '', why] = /^nothing is stored since (\S+): (.+)$/.exec(full.body.storage.detail) ?? [];
    expect(why).toBe('maximum messages exceeded');
    expect(Date.parse(since)).toBeGreaterThanOrEqual(before);
    await streams.update('RAW', { max_msgs: 100 });
    await until('all is well', async () => (await readReadyz(server.httpPort)).body.storage.status === 'ok');
    expect((await readReadyz(server.httpPort)).status).toBe(200);
  },
);

test('one client that is stuck in a quiet fleet is not taken for storage that stands still', async ({
  onTestFinished,
}) => {
  const { server } = await startGateway(onTestFinished, { env: { READY_NEEDS_STORAGE: 'true' } });
  const answer = await fetch(`http://127.0.0.1:${server.httpPort}/policies/sensor`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ nats_subject: 'plant.{id}' }),
  });
  expect(answer.status).toBe(200);
  const device = await addDevice(server.httpPort);
  const client = await connected(onTestFinished, server.mqttPort, device);
  client.send(publishPacket({ topic: `raw/${device.id}`, payload: 'x', qos: 1, packetId: 1 }));
  const seen = new Set<number>();
  await until('/readyz speaks of some clients', async () => {
    const { status, body } = await readReadyz(server.httpPort);
    seen.add(status);
    return body.storage.detail === 'messages of some clients are not stored: no_stream (1)';
  });
  expect([...seen]).toEqual([200]);
});

test.for([
  { ingest: 'auto', said: 'takes batches, none used now' },
  { ingest: 'batch', said: 'takes batches, used now' },
  { ingest: 'plain', said: 'confirms each message' },
])(
  '/readyz says with NATS_INGEST=$ingest how messages are confirmed now',
  async ({ ingest, said }, context) => {
    const { server } = await startGateway(context.onTestFinished, { env: { NATS_INGEST: ingest } });
    const answer = await fetch(`http://127.0.0.1:${server.httpPort}/readyz`);
    const { nats } = (await answer.json()) as { nats: { detail: string } };
    expect(nats.detail).toMatch(new RegExp(`, ${said}$`));
  },
);
