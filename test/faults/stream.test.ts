import { connect, DiscardPolicy, type JetStreamManager, type StreamConfig } from 'nats';
import { describe, expect, test } from 'vitest';
import { type Credentials, numbersByClient, readStored, startPublisher } from '../support/load.js';
import { pingreqPacket, publishPacket, type RawClient } from '../support/raw-client.js';
import {
  addDevice,
  addDevices,
  connected,
  type Gateway,
  type OnFinished,
  startGateway,
  until,
} from './gateway.js';

const puback = 4;
const pingresp = 13;

interface Setting {
  readonly gateway: Gateway;
  readonly manager: JetStreamManager;
  readonly device: Credentials;
  readonly client: RawClient;
}

async function openSetting(
  onFinished: OnFinished,
  options: { stream?: Partial<StreamConfig>; env?: Record<string, string> } = {},
): Promise<Setting> {
  const gateway = await startGateway(onFinished, {
    env: { PUBLISH_TIMEOUT_SEC: '1', ...options.env },
    ...(options.stream === undefined ? {} : { beforeServer: (url) => addStream(url, options.stream ?? {}) }),
  });
  const connection = await connect({ servers: gateway.nats.url });
  onFinished(() => connection.close());
  const manager = await connection.jetstreamManager();
  const device = await addDevice(gateway.server.httpPort);
  const client = await connected(onFinished, gateway.server.mqttPort, device);
  return { gateway, manager, device, client };
}

async function addStream(url: string, config: Partial<StreamConfig>): Promise<void> {
  const connection = await connect({ servers: url });
  try {
    await (await connection.jetstreamManager()).streams.add({
      name: 'RAW',
      subjects: ['raw.>'],
      // As svc-mqtt itself creates it; a server before 2.14 takes no notice.
      ...{ allow_atomic: true },
      ...config,
    });
  } finally {
    await connection.close();
  }
}

function send({ client, device }: Setting, from: number, to: number, qos: 1 | 2 = 1): void {
  for (let packetId = from; packetId <= to; packetId += 1)
    client.send(publishPacket({ topic: `raw/${device.id}`, payload: `${packetId}`, qos, packetId }));
}

const acknowledged = ({ client }: Setting): number[] =>
  client.received.filter(({ type }) => type === puback).map(({ body }) => body.readUInt16BE(0));

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

/** Why the messages of a device's connection wait. */
async function causeOf({ server }: Gateway, { id }: Credentials): Promise<string | undefined> {
  const get = async (path: string) => (await fetch(`http://127.0.0.1:${server.httpPort}${path}`)).json();
  const { connections } = (await get(`/connections?device=${id}`)) as {
    connections: { id: string; device: string }[];
  };
  const connection = connections.find(({ device }) => device === id);
  if (connection === undefined) return undefined;
  const { waits } = (await get(`/connections/${connection.id}`)) as { waits: { cause: string } | null };
  return waits?.cause;
}

/**
 * Waits until NATS has answered all that is under way: a message sent behind it is stored or refused. A stream that takes
 * messages again before that could store some of them ahead of those that it has just refused.
 */
async function answerAll(
  onFinished: OnFinished,
  gateway: Gateway,
): Promise<{ client: RawClient; device: Credentials }> {
  const device = await addDevice(gateway.server.httpPort);
  const client = await connected(onFinished, gateway.server.mqttPort, device);
  client.send(publishPacket({ topic: `raw/${device.id}`, payload: 'x', qos: 1, packetId: 1 }));
  await until('NATS has answered a message', async () => {
    if (client.received.some(({ type }) => type === puback)) return true;
    const cause = await causeOf(gateway, device);
    return cause !== undefined && cause !== 'timeout';
  });
  return { client, device };
}

/** Messages are refused, and that is logged once; the client is neither answered nor disconnected. */
async function expectRefusal(setting: Setting, cause: RegExp): Promise<void> {
  const { server } = setting.gateway;
  const line = await server.waitFor('uplink_not_stored', (entry) =>
    cause.test(`${entry.cause} ${entry.detail}`),
  );
  expect(line.level).toBe(50);
  // The client is still read and answered.
  const pongs = () => setting.client.received.filter(({ type }) => type === pingresp).length;
  const before = pongs();
  setting.client.send(Buffer.from([0xc0, 0]));
  await until('PINGRESP', () => pongs() > before);
  expect(setting.client.closed).toBe(false);
}

describe.each(['batch', 'plain'])('NATS_INGEST=%s:', (ingest) => {
  test('a stream that is full and refuses: no PUBACK until there is room, then all in order, each logged once', async ({
    onTestFinished,
  }) => {
    const setting = await openSetting(onTestFinished, {
      env: { NATS_INGEST: ingest },
      stream: { max_msgs: 100, discard: DiscardPolicy.New },
    });
    send(setting, 1, 100);
    await until('the stream is full', () => acknowledged(setting).length === 100);
    send(setting, 101, 300);
    await expectRefusal(setting, /maximum messages exceeded/);
    const other = await answerAll(onTestFinished, setting.gateway);
    expect(acknowledged(setting)).toEqual(numbers(1, 100));

    await setting.manager.streams.update('RAW', { max_msgs: 1_000 });
    await until('everything is acknowledged', () => acknowledged(setting).length === 300);
    expect(acknowledged(setting)).toEqual(numbers(1, 300));
    expect((await other.client.next()).type).toBe(puback);
    const stored = await readStored(setting.gateway.nats.url);
    expect(stored.filter(({ payload }) => payload !== 'x').map(({ payload }) => Number(payload))).toEqual(
      numbers(1, 300),
    );
    await setting.gateway.server.waitFor('uplink_stored_again');
    // Two hundred refused messages, tried again and again, are one line.
    expect(setting.gateway.server.count('uplink_not_stored')).toBe(1);
  });

  test('a stream that is full of bytes: what fits is acknowledged in order, the rest when there is room', async ({
    onTestFinished,
  }) => {
    const setting = await openSetting(onTestFinished, {
      env: { NATS_INGEST: ingest },
      stream: { max_bytes: 20_000, discard: DiscardPolicy.New },
    });
    const { client, device } = setting;
    const large = Buffer.alloc(5_000, 'x');
    for (let packetId = 1; packetId <= 10; packetId += 1)
      client.send(publishPacket({ topic: `raw/${device.id}`, payload: large, qos: 1, packetId }));
    await expectRefusal(setting, /maximum bytes exceeded/);
    await answerAll(onTestFinished, setting.gateway);
    const before = acknowledged(setting);
    expect(before).toEqual(numbers(1, before.length));
    expect(before.length).toBeLessThan(10);
    await setting.manager.streams.purge('RAW');
    await until('more is acknowledged', () => acknowledged(setting).length > before.length);
    await setting.manager.streams.update('RAW', { max_bytes: 1_000_000 });
    await until('everything is acknowledged', () => acknowledged(setting).length === 10);
    expect(acknowledged(setting)).toEqual(numbers(1, 10));
  });

  test('a stream that is deleted while the server runs, and made again: nothing acknowledged in between, then all', async ({
    onTestFinished,
  }) => {
    const setting = await openSetting(onTestFinished, { env: { NATS_INGEST: ingest }, stream: {} });
    send(setting, 1, 50);
    await until('the first are acknowledged', () => acknowledged(setting).length === 50);
    const { config } = await setting.manager.streams.info('RAW');
    await setting.manager.streams.delete('RAW');
    send(setting, 51, 250);
    await expectRefusal(setting, /no_stream/);
    const other = await answerAll(onTestFinished, setting.gateway);
    expect(acknowledged(setting)).toEqual(numbers(1, 50));
    await setting.manager.streams.add(config);
    await until('everything is acknowledged', () => acknowledged(setting).length === 250);
    expect(acknowledged(setting)).toEqual(numbers(1, 250));
    expect((await other.client.next()).type).toBe(puback);
    const stored = await readStored(setting.gateway.nats.url);
    expect(stored.filter(({ payload }) => payload !== 'x').map(({ payload }) => Number(payload))).toEqual(
      numbers(51, 250),
    );
    expect(setting.gateway.server.count('uplink_not_stored')).toBe(1);
  });

  test('a stream that is deleted under 20 clients with thousands of messages in flight', async ({
    onTestFinished,
  }) => {
    const setting = await openSetting(onTestFinished, { env: { NATS_INGEST: ingest }, stream: {} });
    const { gateway, manager } = setting;
    const devices = await addDevices(gateway.server.httpPort, 20);
    const publishers = devices.map((device) =>
      startPublisher({
        port: () => gateway.server.mqttPort,
        device,
        qos: 1,
        count: Number.POSITIVE_INFINITY,
        window: 400,
      }),
    );
    onTestFinished(() => {
      for (const publisher of publishers) publisher.destroy();
    });
    const total = () => publishers.reduce((sum, publisher) => sum + publisher.acknowledged.size, 0);
    await until('the load runs', () => total() > 10_000);
    const { config } = await manager.streams.info('RAW');
    await manager.streams.delete('RAW');
    await gateway.server.waitFor('uplink_not_stored');
    const probe = await answerAll(onTestFinished, gateway);
    probe.client.send(pingreqPacket);
    expect((await probe.client.next()).type).toBe(pingresp);
    const lost = publishers.map(({ acknowledged: numbers }) => Math.max(-1, ...numbers));
    await manager.streams.add(config);
    const before = total();
    await until('messages are acknowledged again', () => total() > before + 1_000);
    for (const publisher of publishers) publisher.finish();
    await Promise.all(publishers.map(({ done }) => done));
    const stored = numbersByClient(
      (await readStored(gateway.nats.url)).filter(({ subject }) => subject !== `raw.${probe.device.id}`),
      publishers.map(({ clientId }) => ({ clientId, deviceId: clientId })),
    );
    for (const [index, { clientId, sent, disconnects }] of publishers.entries()) {
      expect(disconnects).toBe(0);
      const firsts = stored.get(clientId)?.firsts ?? [];
      // Whatever was not acknowledged before is there, in order, up to the last.
      expect(firsts).toEqual([...firsts].sort((one, other) => one - other));
      expect(firsts.at(-1)).toBe(sent - 1);
      for (let number = (lost[index] ?? 0) + 1; number < sent; number += 1)
        if (!firsts.includes(number)) throw new Error(`${clientId}: ${number} is missing`);
    }
  });

  test('a message larger than the stream takes is never acknowledged; the server and its other clients go on', async ({
    onTestFinished,
  }) => {
    const setting = await openSetting(onTestFinished, {
      env: { NATS_INGEST: ingest },
      stream: { max_msg_size: 2_000 },
    });
    const { client, device, gateway } = setting;
    send(setting, 1, 3);
    await until('small ones are acknowledged', () => acknowledged(setting).length === 3);
    for (let packetId = 4; packetId <= 30; packetId += 1)
      client.send(
        publishPacket({ topic: `raw/${device.id}`, payload: Buffer.alloc(4_000), qos: 1, packetId }),
      );
    await client.waitClosed();
    expect(acknowledged(setting)).toEqual([1, 2, 3]);
    const again = await connected(onTestFinished, gateway.server.mqttPort, device);
    again.send(publishPacket({ topic: `raw/${device.id}`, payload: 'small', qos: 1, packetId: 1 }));
    expect((await again.next()).type).toBe(puback);
    expect((await readStored(gateway.nats.url)).map(({ payload }) => payload)).toEqual([
      '1',
      '2',
      '3',
      'small',
    ]);
  });

  test.for([1, 2] as const)(
    'a stream that is made smaller while the server runs: a message of QoS %i that it refuses is not acknowledged',
    async (qos, { onTestFinished }) => {
      const setting = await openSetting(onTestFinished, { env: { NATS_INGEST: ingest } });
      const { client, device, gateway, manager } = setting;
      await manager.streams.update('RAW', { max_msg_size: 2_000 });
      client.send(
        publishPacket({ topic: `raw/${device.id}`, payload: Buffer.alloc(4_000), qos, packetId: 1 }),
      );
      await client.waitClosed();
      expect(client.received.map(({ type }) => type)).toEqual([2]);
      // The stream refuses the first one; then its limit is known, and the line names it.
      const line = await gateway.server.waitFor(
        'connection_closed',
        (each) => each.reason === 'refused-by-nats',
      );
      expect(line).toMatchObject({ detail: 'message size exceeds maximum allowed' });
      expect(Number(line.bytes)).toBeGreaterThan(4_000);
      // A device that tries it over and over does not flood the log, also when the limit is known: the gateway looks at it every two seconds.
      const linesBefore = gateway.server.log.length;
      const isKnown = () => gateway.server.log.some((each) => each.reason === 'packet-too-large');
      let attempts = 0;
      await until('the limit is known', async () => {
        const next = await connected(onTestFinished, gateway.server.mqttPort, device, { clean: false });
        next.send(
          publishPacket({
            topic: `raw/${device.id}`,
            payload: Buffer.alloc(4_000),
            qos,
            packetId: 1,
            dup: true,
          }),
        );
        await next.waitClosed();
        expect(next.received.map(({ type }) => type)).toEqual([2]);
        attempts += 1;
        return attempts >= 60 && isKnown();
      });
      expect(gateway.server.log.length - linesBefore).toBeLessThan(60);
      await manager.streams.update('RAW', { max_msg_size: -1 });
      const known = await gateway.server.waitFor(
        'connection_closed',
        (each) => each.reason === 'packet-too-large',
      );
      expect(known).toMatchObject({ limit: 2_000, setBy: 'NATS or its stream' });
      // The device comes back until it is taken: the gateway looks at the limit every two seconds.
      await until('the message is answered', async () => {
        const last = await connected(onTestFinished, gateway.server.mqttPort, device, { clean: false });
        last.send(
          publishPacket({
            topic: `raw/${device.id}`,
            payload: Buffer.alloc(4_000),
            qos,
            packetId: 1,
            dup: true,
          }),
        );
        await until('the end, or an answer', () => last.closed || last.received.length > 1);
        return last.received[1]?.type === (qos === 1 ? 4 : 5);
      });
    },
  );
});

test('NATS without the permission to publish the subject: no PUBACK, and the log says why', async ({
  onTestFinished,
}) => {
  const users = (allow: string) => `
    authorization { users = [
      { user: admin, password: admin }
      { user: gateway, password: gateway, permissions: {
        publish: { allow: [${allow}] }, subscribe: { allow: ["_INBOX.>", "cmd.>"] } } }
    ] }`;
  const gateway = await startGateway(onTestFinished, {
    nats: { configExtra: users('"$JS.API.>"') },
    env: { NATS_USER: 'gateway', NATS_PASSWORD: 'gateway', PUBLISH_TIMEOUT_SEC: '1' },
  });
  const device = await addDevice(gateway.server.httpPort);
  const client = await connected(onTestFinished, gateway.server.mqttPort, device);
  client.send(publishPacket({ topic: `raw/${device.id}`, payload: 'x', qos: 1, packetId: 1 }));
  await gateway.server.waitFor('uplink_not_stored');
  await gateway.server.waitFor('nats_error');
  expect(client.received.map(({ type }) => type)).toEqual([2]);
  expect(client.closed).toBe(false);
});
