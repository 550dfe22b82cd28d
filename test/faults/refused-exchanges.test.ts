import { setTimeout as delay } from 'node:timers/promises';
import { connect, DiscardPolicy } from 'nats';
import { beforeAll, expect, test } from 'vitest';
import { readStored } from '../support/load.js';
import { publishPacket, type RawClient } from '../support/raw-client.js';
import { Id, property, readAcknowledge } from '../support/raw-mqtt5.js';
import type { ServerProcess } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { addDevice, connected, type Gateway, startGateway, startReplica, until } from './gateway.js';

/** A refusal ends a QoS 2 exchange, whose packet identifier the client gives to another message (MQTT 5.0 §4.3.3). */

const none = Buffer.alloc(0);
const later = undoAfterAll();
let gateway: Gateway;
beforeAll(async () => {
  gateway = await startGateway(later);
});

async function setPolicy(policy: object): Promise<void> {
  const url = `http://127.0.0.1:${gateway.server.httpPort}/policies/sensor`;
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(url, { method: 'PUT', headers, body: JSON.stringify(policy) });
  expect(answer.status).toBe(200);
}

function join(server: ServerProcess, device: { id: string; password: string }): Promise<RawClient> {
  const list = property(Id.sessionExpiry, 600);
  return connected(later, server.mqttPort, device, { level: 5, clean: false, properties: list });
}

/** Publishes with packet identifier 5; answers the code of PUBACK or PUBREC. */
async function publish(
  client: RawClient,
  topic: string,
  payload: string,
  { qos = 2, dup = false } = {},
): Promise<number | undefined> {
  const bytes = publishPacket({ topic, payload, qos, packetId: 5, properties: none });
  if (dup) bytes[0] = (bytes[0] as number) | 8;
  client.send(bytes);
  const answer = await client.next();
  expect(answer.type).toBe(3 + qos);
  return readAcknowledge(answer).code;
}

async function payloads(): Promise<string[]> {
  return (await readStored(gateway.nats.url)).map(({ payload }) => payload);
}

test('PUBREC tells that NATS refused a message when every replica can know that its exchange has ended', async () => {
  await setPolicy({ publish: ['raw/{id}/#'], on_refusal: 'answer' });
  const device = await addDevice(gateway.server.httpPort);
  const nats = await connect({ servers: gateway.nats.url });
  later(() => nats.close());
  const { streams } = await nats.jetstreamManager();
  await nats.jetstream().publish(`raw.${device.id}`, 'fills it');
  const { max_msgs, discard } = (await streams.info('RAW')).config;
  await streams.update('RAW', { max_msgs: 1, discard: DiscardPolicy.New });
  const client = await join(gateway.server, device);
  const topic = `raw/${device.id}`;
  expect(await publish(client, topic, 'refused')).toBe(0x97);
  const stored = await streams.getMessage('KV_svc-mqtt-sessions', {
    last_by_subj: `$KV.svc-mqtt-sessions.${device.id}.c`,
  });
  const { received } = stored.json<{ received: { completed: number[][] } }>();
  expect(received.completed).toEqual([[5, 5]]);
  await streams.update('RAW', { max_msgs, discard });
  expect(await publish(client, topic, 'taken')).toBe(0);
  expect(await payloads()).toContain('taken');
});

test('a message that another replica has stored is refused when it is repeated: the next one with its packet identifier is stored', async () => {
  const device = await addDevice(gateway.server.httpPort);
  const topic = `raw/${device.id}`;
  const first = await startReplica(later, gateway);
  expect(await publish(await join(first, device), topic, 'first')).toBe(0);
  await first.end('SIGKILL');
  await setPolicy({ publish: ['raw/{id}/b'], on_refusal: 'answer' });
  const back = await join(gateway.server, device);
  await until('the policy holds', async () => (await publish(back, topic, 'other', { qos: 1 })) === 0x87);
  expect(await publish(back, topic, 'first', { dup: true })).toBe(0x87);
  expect(await publish(back, `${topic}/b`, 'second')).toBe(0);
  expect(await payloads()).toEqual(expect.arrayContaining(['first', 'second']));
});

test('a message that another replica has stored is not refused when NATS takes no repeat of it: it waits', async () => {
  await setPolicy({ publish: ['raw/{id}/#'], on_refusal: 'answer' });
  const device = await addDevice(gateway.server.httpPort);
  const topic = `raw/${device.id}`;
  const nats = await connect({ servers: gateway.nats.url });
  later(() => nats.close());
  const { streams } = await nats.jetstreamManager();
  const first = await startReplica(later, gateway);
  const client = await join(first, device);
  await until('the policy holds', async () => (await publish(client, topic, 'other', { qos: 1 })) === 0);
  expect(await publish(client, topic, 'first')).toBe(0);
  await first.end('SIGKILL');
  const { max_msgs, discard, duplicate_window } = (await streams.info('RAW')).config;
  // So the stream does not know the repeat any more.
  await streams.update('RAW', { max_msgs: 1, discard: DiscardPolicy.New, duplicate_window: 100_000_000 });
  await delay(1_000);
  const back = await join(gateway.server, device);
  const before = gateway.server.count('uplink_not_stored');
  const answer = publish(back, topic, 'first', { dup: true });
  const isRefused = () => gateway.server.count('uplink_not_stored') > before;
  await Promise.race([answer, until('NATS refuses it', isRefused)]);
  await streams.update('RAW', { max_msgs, discard, duplicate_window });
  expect(await answer).toBe(0);
});
