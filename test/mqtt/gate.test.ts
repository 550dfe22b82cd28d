import { once } from 'node:events';
import type { Socket } from 'node:net';
import { expect, it, vi } from 'vitest';
import { limitLog, openLog } from '../../src/log.js';
import { openGate } from '../../src/server/mqtt/admission/connection-gate.js';
import { newBrokerCounters } from '../../src/server/mqtt/live/counters.js';
import { startListener } from '../../src/server/mqtt/transport/tcp-listener.js';
import { openRawClient } from '../support/raw-client.js';

it('of a socket that waits nothing is read before it goes on, and one that ends makes room', async () => {
  const log = limitLog(openLog({ level: 'silent', format: 'json' }));
  const counters = newBrokerCounters();
  const gate = openGate({
    config: {
      maxConnections: 10,
      maxOpenSockets: 100,
      maxConnectionsPerAddress: 3,
      maxConnectsPerSecond: 1,
      maxConnectsPerSecondPerAddress: 10,
      maxWaitingConnects: 10,
    },
    counters,
    log,
    onRefused: () => {},
  });
  const readAtRelease: number[] = [];
  const sockets: Socket[] = [];
  const listener = await startListener({
    host: '127.0.0.1',
    port: 0,
    setting: 'MQTT_PORT',
    acceptsPerTurn: 1,
    log,
    onSocket(socket) {
      socket.on('error', () => {});
      if (!gate.mayEnter(socket)) return;
      sockets.push(socket);
      const arrival = { socket, transport: 'tcp', remoteAddress: '192.0.2.1', remotePort: 1 } as const;
      gate.onArrival(arrival, () => {
        readAtRelease.push(socket.bytesRead);
        socket.resume();
      });
    },
  });
  const clients = [];
  try {
    for (let count = 0; count < 3; count += 1) {
      const client = await openRawClient(listener.port);
      clients.push(client);
      client.socket.write(Buffer.alloc(1_000));
    }
    await vi.waitFor(() => expect(sockets).toHaveLength(3));
    expect(counters.limits['connects-per-second']).toBe(2);
    await vi.waitFor(() => expect(readAtRelease).toEqual([0, 0, 0]));
    await vi.waitFor(() => expect(sockets[2]?.bytesRead).toBe(1_000));

    const fourth = await openRawClient(listener.port);
    await fourth.waitClosed();
    const [first] = sockets as [Socket];
    const ended = once(first, 'close');
    first.destroy();
    await ended;
    clients.push(await openRawClient(listener.port));
    await vi.waitFor(() => expect(readAtRelease).toHaveLength(4));
  } finally {
    for (const client of clients) client.destroy();
    gate.close();
    await listener.close();
    log.close();
  }
});
