import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameReader } from '../../src/server/mqtt/transport/frame-reader.js';
import { packet } from '../support/raw-client.js';

/** Reads everything that is there, as the connection does. */
function readAll(reader: FrameReader, maxPacketBytes: number): (Buffer | string)[] {
  const read: (Buffer | string)[] = [];
  for (;;) {
    const next = reader.next(maxPacketBytes);
    if (next === undefined) return read;
    read.push(
      typeof next === 'string'
        ? next
        : Buffer.concat([next.subarray(0, 1), next.subarray(reader.bodyOffset)]),
    );
    if (typeof next === 'string') return read;
  }
}

const sizes = fc.oneof(
  fc.integer({ min: 0, max: 5 }),
  fc.integer({ min: 120, max: 135 }),
  fc.integer({ min: 16_380, max: 16_390 }),
);

describe('frame reader', () => {
  it('finds the same packets however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 255 }), sizes), { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 20_000 }), { minLength: 1, maxLength: 40 }),
        (headers, cuts) => {
          const bodies = headers.map(([, size], index) => Buffer.alloc(size, index + 1));
          const stream = Buffer.concat(
            headers.map(([first], index) => packet(first, bodies[index] as Buffer)),
          );
          const reader = new FrameReader();
          const read: (Buffer | string)[] = [];
          let offset = 0;
          for (let turn = 0; offset < stream.length; turn++) {
            const end = offset + (cuts[turn % cuts.length] as number);
            reader.push(stream.subarray(offset, end));
            read.push(...readAll(reader, 1_000_000));
            offset = end;
          }
          const expected = headers.map(([first], index) =>
            Buffer.concat([Buffer.from([first]), bodies[index] as Buffer]).toString('hex'),
          );
          expect(read.map((bytes) => bytes.toString('hex'))).toEqual(expected);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('refuses a packet over the limit as soon as its length is known', () => {
    const reader = new FrameReader();
    reader.push(packet(0x30, Buffer.alloc(200)).subarray(0, 3));
    expect(reader.next(202)).toBe('packet-too-large');
    const exact = new FrameReader();
    exact.push(packet(0x30, Buffer.alloc(200)));
    expect(exact.next(203)).toBeInstanceOf(Buffer);
  });

  it('refuses a remaining length of five bytes', () => {
    const reader = new FrameReader();
    reader.push(Buffer.from([0x30, 0x80, 0x80, 0x80, 0x80]));
    expect(reader.next(1_000)).toBe('remaining-length');
  });

  it('gives the payload of a packet in one chunk without copying it', () => {
    const chunk = packet(0x30, Buffer.alloc(100));
    const reader = new FrameReader();
    reader.push(chunk);
    expect((reader.next(1_000) as Buffer).buffer).toBe(chunk.buffer);
  });
});
