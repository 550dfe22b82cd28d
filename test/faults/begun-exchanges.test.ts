import { connect } from 'nats';
import { beforeAll, expect, test } from 'vitest';
import { type Credentials, readStored } from '../support/load.js';
import {
  packet,
  publishPacket,
  pubrelPacket,
  type RawClient,
  subscribePacket,
  uint16,
  unsubscribePacket,
} from '../support/raw-client.js';
import { Id, property, readAcknowledge, readPublish5 } from '../support/raw-mqtt5.js';
import type { ServerProcess } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import {
  addDevices,
  connected,
  type Gateway,
  type OnFinished,
  startGateway,
  startReplica,
  until,
} from './gateway.js';

/** Exchanges that are begun when a session changes its connection, or its replica. */

const [publish, puback, pubrec, pubrel, pubcomp, suback, unsuback] = [3, 4, 5, 6, 7, 9, 11] as const;
const none = Buffer.alloc(0);

const later = undoAfterAll();
let gateway: Gateway;
let other: ServerProcess;
let subscriber: Credentials;
let sender: Credentials;
beforeAll(async () => {
  gateway = await startGateway(later, { env: { ACL: 'open' } });
  other = await startReplica(later, gateway);
  [subscriber, sender] = (await addDevices(gateway.server.httpPort, 2)) as [Credentials, Credentials];
});

/** Goes on with a session of MQTT 5, or begins one. */
function join(onFinished: OnFinished, server: ServerProcess, device: Credentials, clientId: string) {
  const list = property(Id.sessionExpiry, 600);
  const options = { level: 5, clean: false, clientId, properties: list };
  return connected(onFinished, server.mqttPort, device, options);
}

async function nextOf(client: RawClient, type: number) {
  const received = await client.next();
  expect(received.type).toBe(type);
  return received;
}

async function subscribe(client: RawClient, filter: string, qos: number): Promise<void> {
  client.send(subscribePacket(1, [[filter, qos]], none));
  expect((await nextOf(client, suback)).body.at(-1)).toBe(qos);
}

/** Publishes on a connection of its own and completes the exchange. */
async function send(
  onFinished: OnFinished,
  message: { topic: string; payload: string; qos: number; retain?: boolean; properties?: Buffer },
): Promise<void> {
  const client = await join(onFinished, gateway.server, sender, 'sender');
  client.send(publishPacket({ properties: none, packetId: 1, ...message }));
  await nextOf(client, message.qos === 1 ? puback : pubrec);
  if (message.qos === 1) return;
  client.send(pubrelPacket(1));
  await nextOf(client, pubcomp);
}

/** The latest message of a subject; undefined: the stream has none. */
async function lastOf(stream: string, subject: string) {
  const observer = await connect({ servers: gateway.nats.url });
  const { streams } = await observer.jetstreamManager();
  const found = await streams.getMessage(stream, { last_by_subj: subject }).catch(() => undefined);
  await observer.close();
  return found;
}

const serverOf = (where: string) => (where === 'here' ? gateway.server : other);

test.for([
  [1, 'here'],
  [1, 'elsewhere'],
  [2, 'here'],
  [2, 'elsewhere'],
] as const)(
  'a message that was sent with QoS %i and has left the stream keeps no packet identifier of the client that comes back %s [MQTT-4.3.3-2]',
  async ([qos, where], { onTestFinished }) => {
    const name = `left-${qos}-${where}`;
    const client = await join(onTestFinished, gateway.server, subscriber, name);
    await subscribe(client, name, qos);
    const expiry = property(Id.messageExpiry, 1);
    await send(onTestFinished, { topic: name, payload: 'expires', qos, properties: expiry });
    const { packetId } = readPublish5(await nextOf(client, publish));
    client.destroy();
    await until('it has left the stream', async () => {
      return (await lastOf('SVC_MQTT_MESSAGES', `svc-mqtt.message.${name}`)) === undefined;
    });
    const back = await join(onTestFinished, serverOf(where), subscriber, name);
    if (qos === 2) {
      expect((await nextOf(back, pubrel)).body.readUInt16BE(0)).toBe(packetId);
      back.send(packet(0x70, uint16(packetId)));
    }
    await send(onTestFinished, { topic: name, payload: 'after', qos });
    const after = readPublish5(await nextOf(back, publish));
    expect([after.payload, after.dup]).toEqual(['after', false]);
  },
);

test('what is sent again after UNSUBSCRIBE is as it was first: not marked as retained [MQTT-3.3.1-9]', async ({
  onTestFinished,
}) => {
  const client = await join(onTestFinished, gateway.server, subscriber, 'retained');
  await subscribe(client, 'kept', 1);
  await send(onTestFinished, { topic: 'kept', payload: 'x', qos: 1, retain: true });
  expect(readPublish5(await nextOf(client, publish))).toMatchObject({ retain: false, dup: false });
  client.send(unsubscribePacket(2, ['kept'], none));
  await nextOf(client, unsuback);
  client.destroy();
  const back = await join(onTestFinished, gateway.server, subscriber, 'retained');
  expect(readPublish5(await nextOf(back, publish))).toMatchObject({ retain: false, dup: true });
});

test.for(['in an orderly way', 'by its death'])(
  'a replica is left %s: the QoS 2 exchange of a message of a shared subscription is ended by the next one',
  async (how, { onTestFinished }) => {
    const name = `shared-${how.length}`;
    const first = how === 'by its death' ? await startReplica(onTestFinished, gateway) : gateway.server;
    const client = await join(onTestFinished, first, subscriber, name);
    await subscribe(client, `$share/${name}/${name}`, 2);
    await send(onTestFinished, { topic: name, payload: 'first', qos: 2 });
    const { packetId } = readPublish5(await nextOf(client, publish));
    client.send(packet(0x50, uint16(packetId)));
    await nextOf(client, pubrel);
    if (how === 'by its death') {
      await until('the exchange is in the record', async () => {
        const stored = await lastOf('KV_svc-mqtt-sessions', `$KV.svc-mqtt-sessions.${subscriber.id}.${name}`);
        return stored?.json<{ begun?: number[] }>().begun !== undefined;
      });
      await first.end('SIGKILL');
    }
    client.destroy();
    const back = await join(onTestFinished, other, subscriber, name);
    expect((await nextOf(back, pubrel)).body.readUInt16BE(0)).toBe(packetId);
    back.send(packet(0x70, uint16(packetId)));
    await send(onTestFinished, { topic: name, payload: 'second', qos: 2 });
    const second = readPublish5(await nextOf(back, publish));
    expect([second.payload, second.dup]).toEqual(['second', false]);
  },
);

test('a message whose expiry is 0 is not kept for a client that is away', async ({ onTestFinished }) => {
  const client = await join(onTestFinished, gateway.server, subscriber, 'zero');
  await subscribe(client, 'zero', 1);
  client.destroy();
  await send(onTestFinished, {
    topic: 'zero',
    payload: 'now or never',
    qos: 1,
    properties: property(Id.messageExpiry, 0),
  });
  await send(onTestFinished, { topic: 'zero', payload: 'after', qos: 1 });
  const back = await join(onTestFinished, other, subscriber, 'zero');
  expect(readPublish5(await nextOf(back, publish)).payload).toBe('after');
});

test('PUBREL on another replica ends the exchange with success, and once only', async ({
  onTestFinished,
}) => {
  const client = await join(onTestFinished, gateway.server, sender, 'released');
  client.send(publishPacket({ topic: 'released', qos: 2, packetId: 7, properties: none }));
  expect(readAcknowledge(await nextOf(client, pubrec)).code).toBe(0);
  const moved = await join(onTestFinished, other, sender, 'released');
  for (const code of [0, 0x92]) {
    moved.send(pubrelPacket(7));
    expect(readAcknowledge(await nextOf(moved, pubcomp))).toMatchObject({ packetId: 7, code });
  }
});

test('a message of QoS 2 with DUP is stored where its identifier was that of another one before, on the same connection or not', async ({
  onTestFinished,
}) => {
  await join(onTestFinished, gateway.server, sender, 'again');
  for (const payload of ['m1', 'm2', 'm3']) {
    const client = await join(onTestFinished, other, sender, 'again');
    const isRepeated = payload !== 'm1';
    client.send(
      publishPacket({ topic: 'again', payload, qos: 2, packetId: 7, dup: isRepeated, properties: none }),
    );
    await nextOf(client, pubrec);
    client.send(pubrelPacket(7));
    expect(readAcknowledge(await nextOf(client, pubcomp)).code).toBe(0);
  }
  const stored = (await readStored(gateway.nats.url)).map(({ payload }) => payload);
  expect(stored.filter((payload) => /^m\d$/.test(payload))).toEqual(['m1', 'm2', 'm3']);
});
