import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import type { PassingMessageJson } from '../../src/api/passing-message.js';
import { followOverHttp } from '../../src/cli/store/follow-messages.js';
import type { SvcMqttError } from '../../src/errors.js';
import type { Credentials } from '../support/load.js';
import { publishPacket } from '../support/raw-client.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { addDevice, connected, type Gateway, publishAndWait, startGateway, until } from './gateway.js';

/** Messages of one device as they pass, over the real API and NATS. */

const later = undoAfterAll();
let gateway: Gateway;
let base: string;

beforeAll(async () => {
  gateway = await startGateway(later);
  base = `http://127.0.0.1:${gateway.server.httpPort}`;
});

function follow({ id }: Pick<Credentials, 'id'>) {
  const seen: PassingMessageJson[] = [];
  const end = new AbortController();
  onTestFinished(() => end.abort());
  const peek = { seen, missed: 0, end, error: undefined as SvcMqttError | undefined };
  const listener = {
    message: (message: PassingMessageJson) => void seen.push(message),
    missed: (count: number) => {
      peek.missed += count;
    },
  };
  followOverHttp(base, undefined)(id, listener, end.signal).catch((error: SvcMqttError) => {
    peek.error = error;
  });
  return peek;
}

test('shows what one device sends, and nothing of another', async () => {
  const [one, other] = [await addDevice(gateway.server.httpPort), await addDevice(gateway.server.httpPort)];
  const peek = follow(one);
  const [client, stranger] = [
    await connected(onTestFinished, gateway.server.mqttPort, one),
    await connected(onTestFinished, gateway.server.mqttPort, other),
  ];
  let packetId = 1;
  await until('it is followed', async () => {
    await publishAndWait(stranger, other, 'not for you', packetId);
    await publishAndWait(client, one, `hello ${packetId}`, packetId);
    packetId += 1;
    return peek.seen.length > 0;
  });
  for (const { subject, topic, size, payload_base64: payload } of peek.seen) {
    expect([subject, topic]).toEqual([`raw.${one.id}`, `raw/${one.id}`]);
    expect(Buffer.from(payload, 'base64').toString()).toMatch(/^hello \d+$/);
    expect(size).toBe(Buffer.from(payload, 'base64').length);
  }
});

test('passes on what people can read, cuts what is long, and counts the rest', async () => {
  const device = await addDevice(gateway.server.httpPort);
  const peek = follow(device);
  const client = await connected(onTestFinished, gateway.server.mqttPort, device);
  const send = (payload: string) =>
    client.send(publishPacket({ topic: `raw/${device.id}`, payload, qos: 0, packetId: 0 }));
  await until('it is followed', async () => {
    send('first');
    await delay(50);
    return peek.seen.length > 0;
  });
  const before = peek.seen.length + peek.missed;
  for (let sent = 0; sent < 300; sent += 1) send('é'.repeat(1_000));
  await until('all are seen or counted', () => peek.seen.length + peek.missed >= before + 300);
  expect(peek.missed).toBeGreaterThan(100);
  const long = peek.seen.at(-1);
  expect(long?.size).toBe(2_000);
  expect(Buffer.from(long?.payload_base64 ?? '', 'base64').toString()).toBe('é'.repeat(512));
});

test('says why it cannot: no such device, a subject that is shared, too many', async () => {
  const unknown = follow({ id: 'nobody' });
  await until('it is refused', () => unknown.error?.code === 'DEVICE_NOT_FOUND');
  await fetch(`${base}/policies/shared`, { method: 'PUT', body: '{"nats_subject":"plant.all"}' });
  await fetch(`${base}/devices`, { method: 'POST', body: '{"type":"shared","id":"one-of-many"}' });
  await until('the policy is in force', async () => {
    const shared = follow({ id: 'one-of-many' });
    await until(
      'it is refused or not',
      () => shared.error !== undefined || shared.end.signal.aborted,
      2_000,
    ).catch(() => shared.end.abort());
    return shared.error?.code === 'DEVICE_UNAVAILABLE';
  });

  const device = await addDevice(gateway.server.httpPort);
  const open = Array.from({ length: 20 }, () => follow(device));
  await until('four are too many', () => open.filter(({ error }) => error !== undefined).length === 4);
  for (const { error } of open) if (error) expect(error.code).toBe('TOO_MANY_REQUESTS');
  // Who leaves makes room.
  for (const { end } of open) end.abort();
  await until('there is room again', async () => {
    const again = follow(device);
    await delay(100);
    return again.error === undefined;
  });
});
