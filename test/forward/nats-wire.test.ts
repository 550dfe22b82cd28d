import { createServer, type Socket } from 'node:net';
import fc from 'fast-check';
import { connect, type NatsConnection, headers as newHeaders } from 'nats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openNatsInternals } from '../../src/server/forward/connection/nats-internals.js';
import { openNatsWire } from '../../src/server/forward/connection/nats-wire.js';
import { until, uplink } from '../support/forwarding.js';

/** Says what a NATS server says at first, and keeps what it is sent. */
async function openListener() {
  const sockets: Socket[] = [];
  let chunks: Buffer[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.write('INFO {"server_id":"x","version":"2.14.1","headers":true,"max_payload":8388608}\r\n');
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      // The library waits for the answer to the PING behind its CONNECT.
      if (chunk.includes('CONNECT') || chunk.equals(Buffer.from('PING\r\n'))) socket.write('PONG\r\n');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    sockets,
    get receivedBytes() {
      return chunks.reduce((bytes, chunk) => bytes + chunk.length, 0);
    },
    get received() {
      return Buffer.concat(chunks);
    },
    clear() {
      chunks = [];
    },
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

let listener: Awaited<ReturnType<typeof openListener>>;
let connection: NatsConnection;

beforeAll(async () => {
  listener = await openListener();
  connection = await connect({ servers: `127.0.0.1:${listener.port}`, reconnect: false });
});

afterAll(async () => {
  await connection.close();
  listener.close();
});

interface Sample {
  subject: string;
  payload: Uint8Array;
  messageId: string | undefined;
  token: number | undefined;
  suffix: string;
}

const headerBlock = 'NATS/1.0\r\nMqtt-Topic: a/b\r\n\r\n';

/** The command as the client protocol of NATS describes it. */
function describeFrame({ subject, payload, messageId, token, suffix }: Sample): Buffer {
  const block =
    messageId === undefined ? headerBlock : `${headerBlock.slice(0, -2)}Nats-Msg-Id: ${messageId}\r\n\r\n`;
  const reply = token === undefined ? '' : ` _INBOX.x.${token}${suffix}`;
  const command = `HPUB ${subject}${reply} ${block.length} ${block.length + payload.length}\r\n`;
  return Buffer.concat([Buffer.from(command + block), payload, Buffer.from('\r\n')]);
}

const samples = fc.record<Sample>({
  subject: fc
    .string({ minLength: 1, maxLength: 60 })
    .map((text) => `raw.${text.replace(/[\s\p{Cc}]/gu, '_')}`),
  payload: fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    // Around the length from which a payload is not copied, and beyond the buffer.
    fc
      .constantFrom(0, 4_095, 4_096, 16_384, 131_072, 400_000)
      .map((length) => new Uint8Array(length).fill(7)),
  ),
  messageId: fc.option(fc.stringMatching(/^[A-Za-z0-9_.-]{1,30}$/), { nil: undefined }),
  token: fc.option(
    fc.oneof(
      fc.nat(),
      fc.integer({ min: 1_000_000_000, max: Number.MAX_SAFE_INTEGER }),
      fc.constantFrom(0, 9, 10, 999_999_999, 1_000_000_000, 10_000_000_001, Number.MAX_SAFE_INTEGER),
    ),
    { nil: undefined },
  ),
  suffix: fc.constantFrom('', '.1.$FI'),
});

describe('what is published', () => {
  it('reaches the socket as the protocol has it, whole and in order', async () => {
    const wire = openNatsWire(connection, openNatsInternals(connection));
    await fc.assert(
      fc.asyncProperty(fc.array(samples, { minLength: 1, maxLength: 40 }), async (list) => {
        listener.clear();
        for (const { subject, payload, messageId, token, suffix } of list) {
          const message = uplink(payload, {
            subject: Buffer.from(subject),
            headers: Buffer.from(headerBlock),
            messageId,
          });
          wire.publish(
            message,
            token === undefined
              ? undefined
              : { prefix: Buffer.from('_INBOX.x.'), token, suffix: Buffer.from(suffix) },
          );
        }
        const expected = Buffer.concat(list.map(describeFrame));
        await until(() => listener.receivedBytes >= expected.length);
        expect(listener.received.equals(expected)).toBe(true);
      }),
      { numRuns: 60 },
    );
    expect(wire.messagesOut).toBeGreaterThan(0);
  });

  it('is not mixed with what the library writes, and leaves before it after a flush', async () => {
    const wire = openNatsWire(connection, openNatsInternals(connection));
    listener.clear();
    wire.publish(uplink('one', { headers: Buffer.from(headerBlock) }));
    wire.flush();
    const headers = newHeaders();
    headers.set('k', 'v');
    connection.publish('other', 'two', { headers });
    wire.publish(uplink('three', { headers: Buffer.from(headerBlock) }));
    await until(() => listener.received.includes('three\r\n') && listener.received.includes('two\r\n'));
    const text = listener.received.toString();
    expect(text.indexOf('one')).toBeLessThan(text.indexOf('two'));
    expect(text.split(/(?=HPUB )/).map((frame) => frame.slice(0, 9))).toHaveLength(3);
  });

  it('is kept unchanged while the server does not read', async () => {
    const wire = openNatsWire(connection, openNatsInternals(connection));
    listener.clear();
    for (const socket of listener.sockets) socket.pause();
    const frames: Buffer[] = [];
    for (let number = 0; number < 300; number += 1) {
      const payload = Buffer.alloc(50_000 + (number % 7) * 30_000, number);
      const sample = { subject: 'raw.abc', payload, messageId: undefined, token: number, suffix: '' };
      frames.push(describeFrame(sample));
      wire.publish(uplink(payload, { headers: Buffer.from(headerBlock) }), {
        prefix: Buffer.from('_INBOX.x.'),
        token: number,
        suffix: Buffer.from(''),
      });
      if (number % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    for (const socket of listener.sockets) socket.resume();
    const expected = Buffer.concat(frames);
    await until(() => listener.receivedBytes >= expected.length);
    expect(listener.received.equals(expected)).toBe(true);
  });

  it('is refused once the connection has ended', async () => {
    const other = await connect({ servers: `127.0.0.1:${listener.port}`, reconnect: false });
    const wire = openNatsWire(other, openNatsInternals(other));
    await other.close();
    expect(() => wire.publish(uplink('late'))).toThrow('ended');
  });
});

it('a library that is built in another way is noticed at once', () => {
  expect(() => openNatsInternals({} as NatsConnection)).toThrow('not known');
});
