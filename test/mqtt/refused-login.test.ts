import { afterEach, beforeEach, expect, it } from 'vitest';
import { type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';
import { openTestLog } from '../support/forwarding.js';
import { connectPacket, openRawClient } from '../support/raw-client.js';

let logged: ReturnType<typeof openTestLog>;
let controlled: ControlledBroker;

beforeEach(async () => {
  logged = openTestLog();
  controlled = await openControlledBroker({}, { log: logged.log });
});

afterEach(() => controlled.close());

/** Sends a CONNECT and waits until it has been refused. */
async function refuse(connect: Buffer): Promise<void> {
  const client = await openRawClient(controlled.port);
  client.send(connect);
  await client.waitClosed();
}

const field = (text: string) => Buffer.concat([Buffer.from([0, text.length]), Buffer.from(text)]);
const connectOf5 = (properties: number[], clientId: string) => {
  const body = Buffer.concat([field('MQTT'), Buffer.from([5, 2, 0, 0, ...properties]), field(clientId)]);
  return Buffer.concat([Buffer.from([0x10, body.length]), body]);
};

it.each<[string, Buffer, number, string | undefined]>([
  ['MQTT 5', connectOf5([0], 'pump-5'), 5, 'pump-5'],
  ['MQTT 5 with properties', connectOf5([5, 0x11, 0, 0, 0, 60], 'pump-5'), 5, 'pump-5'],
  ['MQTT 5 whose properties have no end', connectOf5([0xff, 0xff, 0xff, 0xff], 'pump-5'), 5, undefined],
  ['a bridge of mosquitto', connectPacket({ level: 0x84, clientId: 'bridge' }), 0x84, 'bridge'],
  ['MQTT 3.1 without a client id', connectPacket({ protocolName: 'MQIsdp', level: 3, clientId: '' }), 3, ''],
  ['a wrong password', connectPacket({ clientId: 'pump', userName: 'x', password: 'y' }), 4, 'pump'],
])('names protocol level and client of %s', async (_name, connect, protocolLevel, client) => {
  await refuse(connect);
  const line = logged.lines.find(({ event }) => event === 'connect_refused');
  expect([line?.protocolLevel, line?.client]).toEqual([protocolLevel, client]);
});

it('does not show what was given as the user name and is a secret, nor more of it than a screen could', async () => {
  const { id } = controlled.device;
  const secret = 'abcdefghijklmnopqrstuvwxyz234567';
  const key = `svcmqtt_abcdefghijklmnop_${secret}`;
  for (const userName of [secret, key, key.replace('svcmqtt', 'svcmqttclaim'), `${'x'.repeat(230)} ${key}`]) {
    await refuse(connectPacket({ userName, password: id }));
  }
  await refuse(connectPacket({ userName: 'u'.repeat(3_000), password: id }));
  const lines = logged.lines.filter(({ event }) => event === 'connect_refused');
  expect(lines).toHaveLength(5);
  expect(lines[0]).toMatchObject({ user: '[secret]' });
  for (const line of lines) {
    expect(JSON.stringify(line)).not.toContain(secret.slice(0, 20));
    expect(String(line.user).length).toBeLessThan(300);
  }
});
