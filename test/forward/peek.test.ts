import type { NatsConnection } from 'nats';
import { expect, test, vi } from 'vitest';
import type { NatsLink } from '../../src/server/forward/connection/nats-link.js';
import { openPeeks } from '../../src/server/forward/peek.js';

test('who looks leaves nothing behind at the connection, and is told of its end', async () => {
  let close = () => {};
  const end = new Promise<void>((resolve) => {
    close = resolve;
  });
  const closed = vi.fn(() => end);
  const connection = { closed, isClosed: () => false, subscribe: () => ({ unsubscribe() {} }) };
  const link = { open: true, connection: connection as unknown as NatsConnection } as NatsLink;
  const peeks = openPeeks(link, () => 'raw.{id}');
  const ended: string[] = [];
  const look = (id: string) => {
    const opened = peeks.open(
      { id, type: 'sensor' },
      { message() {}, missed() {}, ended: () => void ended.push(id) },
    );
    if (typeof opened === 'string') throw new Error(opened);
    return opened;
  };
  for (let round = 0; round < 100; round += 1) look('gone')();
  look('one');
  look('other');
  expect(closed).toHaveBeenCalledTimes(1);
  close();
  await end;
  await Promise.resolve();
  expect(ended).toEqual(['one', 'other']);
});
