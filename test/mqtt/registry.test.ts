import { createHash } from 'node:crypto';
import { expect, it, onTestFinished } from 'vitest';
import { openControlledBroker } from '../support/controlled-broker.js';
import { connectPacket, openRawClient, pingreqPacket } from '../support/raw-client.js';

it('a client is one of its device, whatever characters the ids of devices and clients have', async () => {
  const controlled = await openControlledBroker();
  onTestFinished(() => controlled.close());
  const secretSalt = Buffer.alloc(16, 1);
  const password = 'correct-horse';
  const secretHash = createHash('sha256').update(secretSalt).update(password).digest();
  controlled.answer = (id) => ({
    found: 'yes',
    device: {
      id,
      type: 'sensor',
      secretHash,
      secretSalt,
      previousSecret: undefined,
      revokedAtMs: undefined,
      expiresAtMs: undefined,
    },
  });
  // Whatever stands between the two ids, the text is the same for others.
  const clients = [];
  for (const separator of ['/', ':', '.', ' ', '|', '-', ',', '","', '\t']) {
    for (const [userName, clientId] of [
      [`a${separator}b`, 'c'],
      ['a', `b${separator}c`],
      [`1 a${separator}b`, 'c'],
      ['1', ` a${separator}bc`],
      ['a', `${separator}b${separator}c`],
    ] as const) {
      const client = await openRawClient(controlled.port);
      onTestFinished(() => client.destroy());
      client.send(connectPacket({ userName, password, clientId, clean: false }));
      expect([...(await client.next()).body], `${userName} as ${clientId}`).toEqual([0, 0]);
      clients.push(client);
    }
  }
  for (const client of clients) {
    client.send(pingreqPacket);
    expect((await client.next()).type).toBe(13);
  }
  expect(controlled.broker.counters.closed['taken-over']).toBe(0);
});
