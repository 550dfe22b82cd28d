import fc from 'fast-check';
import { expect, test } from 'vitest';
import { startNotificationScanner } from '../../src/db/feed/notification-scanner.js';

function frame(type: string, body: Buffer): Buffer {
  const header = Buffer.alloc(5);
  header.write(type, 'latin1');
  header.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([header, body]);
}

const text = fc.string({ maxLength: 20 }).filter((value) => !value.includes('\0'));
const notification = fc.record({ channel: text, payload: text });
const other = fc.record({
  type: fc.constantFrom('D', 'C', 'Z', 'T', 'E'),
  body: fc.uint8Array({ maxLength: 50 }),
});

test('finds every notification in any stream, however it is cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(notification, other), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 20 }),
      (messages, cuts) => {
        const stream = Buffer.concat(
          messages.map((message) =>
            'channel' in message
              ? frame('A', Buffer.from(`\0\0\0\u0001${message.channel}\0${message.payload}\0`))
              : frame(message.type, Buffer.from(message.body)),
          ),
        );
        const found: { channel: string; payload: string }[] = [];
        const scan = startNotificationScanner((channel, payload) => found.push({ channel, payload }));
        for (let at = 0, turn = 0; at < stream.length; turn += 1) {
          const size = cuts[turn % cuts.length] ?? 1;
          scan(stream.subarray(at, at + size));
          at += size;
        }
        expect(found).toEqual(messages.filter((message) => 'channel' in message));
      },
    ),
  );
});
