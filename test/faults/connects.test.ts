import { expect, test } from 'vitest';
import { connectPacket, openRawClient, type RawClient } from '../support/raw-client.js';
import { addDevice, addDevices, connected, publishAndWait, startGateway, tryConnect } from './gateway.js';

test('a fleet that connects at once is taken at the rate that is set, none of it lost, and those connected go on', {
  timeout: 300_000,
}, async ({ onTestFinished }) => {
  const { server } = await startGateway(onTestFinished, {
    env: { MAX_CONNECTS_PER_SECOND: '100', CONNECT_TIMEOUT_SEC: '4' },
  });
  const [resident, ...fleet] = await addDevices(server.httpPort, 21);
  if (resident === undefined) throw new Error('no device');
  const client = await connected(onTestFinished, server.mqttPort, resident);
  const clients: RawClient[] = [];
  onTestFinished(() => {
    for (const each of clients) each.destroy();
  });
  const startMs = performance.now();
  const connects = fleet.flatMap((device) =>
    Array.from({ length: 30 }, async (_, number) => {
      const waiting = await openRawClient(server.mqttPort);
      clients.push(waiting);
      waiting.send(connectPacket({ userName: device.id, password: device.password, clientId: `c${number}` }));
      return (await waiting.next(60_000)).body[1];
    }),
  );
  let over = false;
  const storm = Promise.all(connects).finally(() => {
    over = true;
  });
  let published = 0;
  while (!over) {
    published += 1;
    await publishAndWait(client, resident, `during ${published}`, 1 + (published % 60_000));
  }
  expect(new Set(await storm)).toEqual(new Set([0]));
  // 100 at once and 100 a second: a server that takes them as they come is through sooner than it may be.
  expect(performance.now() - startMs).toBeGreaterThan(4_900);
  expect(published).toBeGreaterThan(10);
});

test('one who guesses is refused without a look-up, and no device is locked out by it', {
  timeout: 300_000,
}, async ({ onTestFinished }) => {
  const { server } = await startGateway(onTestFinished, {
    env: { MAX_FAILED_LOGINS_PER_DEVICE: '5', MAX_FAILED_LOGINS_PER_ADDRESS: '20' },
  });
  const victim = await addDevice(server.httpPort);
  const other = await addDevice(server.httpPort);
  const codeFrom = async (address: string, device: { id: string; password: string }) => {
    const client = await openRawClient(server.mqttPort, address);
    onTestFinished(() => client.destroy());
    client.send(connectPacket({ userName: device.id, password: device.password, clientId: 'c' }));
    return (await client.next()).body[1];
  };
  const guesser = '127.0.0.3';
  for (let time = 0; time < 5; time += 1) {
    expect(await codeFrom(guesser, { id: victim.id, password: `guess ${time}` })).toBe(4);
  }
  expect(await codeFrom(guesser, victim)).toBe(5);
  expect(await codeFrom(guesser, other)).toBe(0);
  expect(await tryConnect(server.mqttPort, victim)).toBe(0);
  for (let time = 0; time < 30; time += 1) await codeFrom(guesser, { id: `nobody-${time}`, password: 'x' });
  expect(await codeFrom(guesser, { id: 'nobody', password: 'x' })).toBe(5);
  // It has logged in from there before, and is not stopped by those who fail beside it.
  expect(await codeFrom(guesser, other)).toBe(0);
  expect(await tryConnect(server.mqttPort, victim)).toBe(0);
});
