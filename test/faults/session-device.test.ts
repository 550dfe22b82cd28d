import { expect, test } from 'vitest';
import { generateSecret } from '../../src/db/secrets.js';
import { withClient } from '../support/postgres.js';
import { disconnectPacket } from '../support/raw-client.js';
import { openSubscriber, subscribeToCommands } from './command-client.js';
import { addDevice, startGateway } from './gateway.js';

const rotate = `update devices set secret_hash = $2, secret_salt = $3, previous_secret_hash = null,
  previous_secret_salt = null, previous_secret_until = null where id = $1`;
const rotateWithGrace = `update devices set previous_secret_hash = secret_hash, previous_secret_salt = secret_salt,
  previous_secret_until = now() - interval '1 day', secret_hash = $2, secret_salt = $3 where id = $1`;

test.each([
  ['is of another type', 'update devices set type = $2 where id = $1', false],
  ['has another secret', rotate, false],
  ['has another secret after a grace', rotateWithGrace, true],
  ['is as it was', undefined, true],
])(
  'a session that was away while no replica ran goes on as its device %s: %#',
  async (_what, change, goesOn) => {
    const undo: (() => Promise<void> | void)[] = [];
    const later = (each: () => Promise<void> | void) => void undo.push(each);
    try {
      const gateway = await startGateway(later);
      let device = await addDevice(gateway.server.httpPort);
      const { client } = await openSubscriber(later, gateway.server.mqttPort, device);
      await subscribeToCommands(client, device);
      client.send(disconnectPacket);
      await client.waitClosed();
      await gateway.server.end('SIGTERM');
      if (change !== undefined) {
        const { secret, hash, salt } = generateSecret(device.id);
        const isSecret = change.includes('secret');
        await withClient(gateway.databaseUrl, (database) =>
          database.query(change, isSecret ? [device.id, hash, salt] : [device.id, 'other']),
        );
        if (isSecret) device = { ...device, password: secret };
      }
      await gateway.restart();
      const back = await openSubscriber(later, gateway.server.mqttPort, device);
      expect(back.sessionPresent).toBe(goesOn);
    } finally {
      for (const each of undo.reverse()) await each();
    }
  },
);
