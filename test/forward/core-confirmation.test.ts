import type { NatsConnection } from 'nats';
import { expect, it } from 'vitest';
import type { NatsLink, NatsLinkListener } from '../../src/server/forward/connection/nats-link.js';
import type { NatsWire } from '../../src/server/forward/connection/nats-wire.js';
import { startCoreForwarder } from '../../src/server/forward/core-forwarder.js';
import { openTestLog, testLimits, until, uplink } from '../support/forwarding.js';

it('a PONG confirms what was sent before its PING, and nothing later', async () => {
  const sent: string[] = [];
  const listeners: NatsLinkListener[] = [];
  const connection = {
    flush: async () => {},
  } as unknown as NatsConnection;
  const wire: NatsWire = {
    maxMessageBytes: 1_000,
    messagesOut: 0,
    publishText() {},
    publish: ({ payload }) => void sent.push(Buffer.from(payload).toString()),
    flush() {},
  };
  const link: NatsLink = {
    connection,
    stalled: false,
    open: true,
    detail: '',
    requestPing() {},
    ping() {},
    listen(listener) {
      listeners.push(listener);
      listener.connected(connection, wire);
    },
    async close() {},
  };
  const forwarder = startCoreForwarder({ link, limits: testLimits, log: openTestLog().log });
  try {
    const lane = forwarder.openLane();
    const confirmed: string[] = [];
    const publish = async (name: string) => {
      lane.publish(uplink(name, { onStored: () => confirmed.push(name) }));
      await until(() => sent.includes(name));
    };
    await publish('a');
    listeners[0]?.pinged?.();
    await publish('b');
    listeners[0]?.ponged?.(new Set());
    expect(confirmed).toEqual(['a']);
    listeners[0]?.pinged?.();
    listeners[0]?.ponged?.(new Set());
    expect(confirmed).toEqual(['a', 'b']);
  } finally {
    await forwarder.close();
  }
});
