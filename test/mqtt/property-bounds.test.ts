import { expect, it } from 'vitest';
import { percentEncode } from '../../src/server/forward/subject.js';
import { Id, properties, readAcknowledge } from '../support/raw-mqtt5.js';
import { nextOf, openHarness, ping, puback } from './conformance/harness.js';
import { connected5, publish5 } from './conformance/mqtt5.js';

const harness = openHarness();

it('refuses more properties than a message can have headers before it looks at them, and goes on', async () => {
  const client = await connected5(harness);
  const list = properties(
    ...Array.from({ length: 15 }, () => [Id.userProperty, ['a', '\u0001'.repeat(60_000)]] as const),
  );
  client.send(publish5({ qos: 1, packetId: 7, properties: list }));
  // PUBACK has no code for a packet that is too large.
  expect(readAcknowledge(await nextOf(client, puback))).toMatchObject({ packetId: 7, code: 0x97 });
  client.send(publish5({ qos: 1, packetId: 8, properties: properties([Id.userProperty, ['a', 'b']]) }));
  expect(readAcknowledge(await nextOf(client, puback))).toMatchObject({ packetId: 8, code: 0 });
  await ping(client);
  expect(harness.controlled.taken).toHaveLength(1);
});

it('encodes every character as the bytes of its UTF-8', () => {
  expect(percentEncode('a\u0001é😀%', /[^a]/gu)).toBe('a%01%C3%A9%F0%9F%98%80%25');
});
