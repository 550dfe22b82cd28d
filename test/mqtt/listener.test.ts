import { Server } from 'node:net';
import { expect, it } from 'vitest';
import { openControlledBroker } from '../support/controlled-broker.js';
import { openTestLog } from '../support/forwarding.js';
import { connectPacket, openRawClient } from '../support/raw-client.js';

/** The server of this process that listens on a port: the system fails to accept too rarely to wait for it. */
function findServer(port: number): Server {
  const handles = (process as unknown as { _getActiveHandles(): unknown[] })._getActiveHandles();
  const found = handles.find((handle): handle is Server => {
    const address = handle instanceof Server ? handle.address() : null;
    return typeof address === 'object' && address?.port === port;
  });
  if (found === undefined) throw new Error(`nothing listens on port ${port}`);
  return found;
}

it('goes on when connections cannot be accepted, and says so, not too often', async () => {
  const log = openTestLog();
  const controlled = await openControlledBroker({}, { log: log.log });
  try {
    const { port, device } = controlled;
    const server = findServer(port);
    for (let count = 0; count < 100; count += 1) {
      server.emit('error', Object.assign(new Error('accept EMFILE'), { code: 'EMFILE', syscall: 'accept' }));
    }
    const client = await openRawClient(port);
    client.send(connectPacket({ userName: device.id, password: device.password }));
    expect((await client.next()).body[1]).toBe(0);
    client.destroy();
    const lines = log.lines.filter(({ event }) => event === 'accept_failed');
    expect(lines).toHaveLength(20);
    expect(lines[0]).toMatchObject({ level: 50, port, reason: 'accept EMFILE' });
  } finally {
    await controlled.close();
  }
});
