import { expect, it } from 'vitest';
import type { NatsConnection } from '../../src/server/forward/connection/nats-library.js';
import type { NatsLink } from '../../src/server/forward/connection/nats-link.js';
import { noWire } from '../../src/server/forward/connection/nats-wire.js';
import { startStateWriter } from '../../src/server/forward/state/state-writer.js';
import { openTestLog, testLimits, uplink } from '../support/forwarding.js';

it('sends its subscription ahead of the first message of a connection', async () => {
  const sent: string[] = [];
  let listener: Parameters<NatsLink['listen']>[0] | undefined;
  const link = {
    open: true,
    listen: (given: typeof listener) => {
      listener = given;
    },
  } as unknown as NatsLink;
  const writer = startStateWriter({
    link,
    limits: testLimits,
    inboxPrefix: '_INBOX',
    log: openTestLog().log,
  });
  const connection = {
    subscribe: () => sent.push('subscribe'),
    flush: async () => sent.push('flush'),
  } as unknown as NatsConnection;
  listener?.connected(connection, { ...noWire, publish: () => sent.push('publish') });
  writer.openLane().publish(uplink('a'));
  expect(sent).toEqual(['subscribe', 'flush', 'publish']);
  await writer.close();
});
