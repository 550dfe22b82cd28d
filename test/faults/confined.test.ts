import { connect, DiscardPolicy } from 'nats';
import { expect, test } from 'vitest';
import { disconnectPacket, publishPacket, subscribePacket } from '../support/raw-client.js';
import { openSubscriber, subscribeToCommands } from './command-client.js';
import { addDevice, connected, publishAndWait, startGateway, until } from './gateway.js';

test('one device, with many clients, cannot push the persistent session of another out', async ({
  onTestFinished,
}) => {
  const maxSessions = 50;
  const { server } = await startGateway(onTestFinished, { env: { MAX_SESSIONS: String(maxSessions) } });
  const [quiet, busy] = [await addDevice(server.httpPort), await addDevice(server.httpPort)];
  const session = { clean: false, clientId: 'session' };
  const subscriber = await connected(onTestFinished, server.mqttPort, quiet, session);
  subscriber.send(subscribePacket(1, [[`cmd/${quiet.id}/#`, 1]]));
  expect((await subscriber.next()).type).toBe(9);
  subscriber.destroy();

  for (let client = 0; client < maxSessions + 50; client += 1) {
    const other = await connected(onTestFinished, server.mqttPort, busy, {
      clean: false,
      clientId: `session-${client}`,
    });
    other.send(subscribePacket(1, [[`cmd/${busy.id}/#`, 1]]));
    expect((await other.next()).type).toBe(9);
    other.destroy();
  }
  // The sweep that discards sessions runs now and then; the one asked for here is kept by asking, so each only once.
  let asked = 0;
  await until('sessions above the bound are discarded', async () => {
    const client = await connected(onTestFinished, server.mqttPort, busy, {
      clean: false,
      clientId: `session-${asked}`,
    });
    asked += 1;
    client.destroy();
    return client.received[0]?.body[0] === 0;
  });
  const again = await connected(onTestFinished, server.mqttPort, quiet, session);
  expect(again.received[0]?.body[0]).toBe(1);
});

test('one device whose messages the stream refuses does not stop the others', async ({ onTestFinished }) => {
  const { server } = await startGateway(onTestFinished, {
    env: { MAX_IN_FLIGHT: '1000', MAX_IN_FLIGHT_PER_CLIENT: '250', PUBLISH_TIMEOUT_SEC: '1' },
    async beforeServer(url) {
      const connection = await connect({ servers: url });
      await (await connection.jetstreamManager()).streams.add({
        name: 'RAW',
        subjects: ['raw.>'],
        discard: DiscardPolicy.New,
        discard_new_per_subject: true,
        max_msgs_per_subject: 100,
      });
      await connection.close();
    },
  });
  const [full, other] = [await addDevice(server.httpPort), await addDevice(server.httpPort)];
  const clients = await Promise.all(
    Array.from({ length: 8 }, (_, client) =>
      connected(onTestFinished, server.mqttPort, full, { clientId: `full-${client}` }),
    ),
  );
  for (const client of clients)
    for (let packetId = 1; packetId <= 300; packetId += 1)
      client.send(publishPacket({ topic: `raw/${full.id}`, payload: 'x', qos: 1, packetId }));
  await server.waitFor('uplink_not_stored');
  const client = await connected(onTestFinished, server.mqttPort, other);
  for (let packetId = 1; packetId <= 20; packetId += 1) await publishAndWait(client, other, 'y', packetId);
});

test('a device that publishes and subscribes as much as it can does not starve another', async ({
  onTestFinished,
}) => {
  const { server } = await startGateway(onTestFinished);
  const [busy, other] = [await addDevice(server.httpPort), await addDevice(server.httpPort)];
  const clients = await Promise.all(
    Array.from({ length: 10 }, (_, client) =>
      connected(onTestFinished, server.mqttPort, busy, { clientId: `busy-${client}` }),
    ),
  );
  let writing = true;
  onTestFinished(() => {
    writing = false;
  });
  for (const { socket } of clients) {
    const chunk = Buffer.concat(
      Array.from({ length: 500 }, () =>
        publishPacket({ topic: `raw/${busy.id}`, payload: Buffer.alloc(64) }),
      ),
    );
    const write = (): void => {
      while (writing && socket.writable && socket.write(chunk));
    };
    socket.on('drain', write);
    write();
  }
  const client = await connected(onTestFinished, server.mqttPort, other);
  for (let packetId = 1; packetId <= 50; packetId += 1) await publishAndWait(client, other, 'z', packetId);
  expect(client.closed).toBe(false);
});

test('what is asked for as a session reaches nothing in NATS but that session', async ({
  onTestFinished,
}) => {
  const { server, nats } = await startGateway(onTestFinished);
  const device = await addDevice(server.httpPort);
  const { client } = await openSubscriber(onTestFinished, server.mqttPort, device);
  await subscribeToCommands(client, device);
  client.send(disconnectPacket);
  await client.waitClosed();
  const observer = await connect({ servers: nats.url });
  onTestFinished(() => observer.close());
  const seen: string[] = [];
  observer.subscribe('cmd.>', { callback: (_error, { subject }) => void seen.push(subject) });
  await observer.flush();

  const base = `http://127.0.0.1:${server.httpPort}`;
  const listed = (await (await fetch(`${base}/sessions`)).json()) as { sessions: { id: string }[] };
  const [{ id }] = listed.sessions as [{ id: string }];
  const odd = [
    `x 12 12\r\nNATS/1.0\r\n\r\n\r\nPUB cmd.${device.id}.forged 1\r\nx\r\nHPUB junk`,
    `${id} `,
    `${id}\t`,
    `${id}\0`,
    `${id}.more`,
    `${id.slice(0, id.indexOf('.'))}.*`,
    '>',
    '*.*',
    '*.>',
    'a.',
    '.a',
    'a.=zz',
    'a.=4',
  ];
  for (const each of odd)
    for (const method of ['GET', 'DELETE']) {
      const { status } = await fetch(`${base}/sessions/${encodeURIComponent(each)}`, { method });
      expect([method, each, status]).toEqual([method, each, 404]);
    }
  expect((await fetch(`${base}/sessions/${id}`)).status).toBe(200);
  observer.publish('cmd.end');
  await until('all was seen', async () => seen.includes('cmd.end'));
  expect(seen).toEqual(['cmd.end']);
  expect(server.log.filter(({ event }) => event === 'nats_disconnected')).toEqual([]);
});
