import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readAddressRanges } from '../../src/server/mqtt/admission/address-ranges.js';
import { readProxyHeader } from '../../src/server/mqtt/transport/proxy-header.js';
import { binaryProxyHeader } from '../support/proxy-header.js';

const text = (line: string) => Buffer.from(`${line}\r\n`);
const port = fc.integer({ min: 0, max: 65_535 });
const clientOf = (header: ReturnType<typeof readProxyHeader>) =>
  typeof header === 'string' ? header : header.client;

/** Reads a header that arrives cut in two, and demands that the first part alone is never taken for the whole. */
function expectWhole(header: Buffer, behind: Uint8Array, cut: number) {
  const stream = Buffer.concat([header, behind]);
  const first = stream.subarray(0, cut);
  if (cut < header.length) expect(readProxyHeader(first)).toBe('incomplete');
  const read = readProxyHeader(stream);
  expect(read).toMatchObject({ length: header.length });
  return clientOf(read);
}

describe('version 1', () => {
  it('is read however it is cut and whatever follows', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.tuple(fc.constant('TCP4'), fc.ipV4(), fc.ipV4()),
          fc.tuple(fc.constant('TCP6'), fc.ipV6(), fc.ipV6()),
        ),
        port,
        port,
        fc.uint8Array({ maxLength: 50 }),
        fc.nat(150),
        ([family, source, destination], sourcePort, destinationPort, behind, cut) => {
          const header = text(`PROXY ${family} ${source} ${destination} ${sourcePort} ${destinationPort}`);
          if (header.length > 107) return;
          const client = expectWhole(header, behind, Math.min(cut, header.length + behind.length));
          expect(client).toEqual({
            address: source.replace(/^::ffff:(?=\d+\.)/i, ''),
            port: sourcePort,
          });
        },
      ),
    );
  });

  it('says nothing of a client when it is unknown', () => {
    for (const line of [
      'PROXY UNKNOWN',
      'PROXY UNKNOWN ffff::1 ffff::2 65535 65535',
      'PROXY UNKNOWN what ever',
    ]) {
      expect(readProxyHeader(text(line))).toEqual({ length: line.length + 2, client: undefined });
    }
  });

  it.each([
    'PROXY',
    'PROXY ',
    'PROXY TCP5 1.2.3.4 5.6.7.8 1 2',
    'PROXY tcp4 1.2.3.4 5.6.7.8 1 2',
    'PROXY TCP4 1.2.3.4 5.6.7.8 1',
    'PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3',
    'PROXY TCP4  1.2.3.4 5.6.7.8 1 2',
    'PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ',
    'PROXY TCP4 1.2.3.256 5.6.7.8 1 2',
    'PROXY TCP4 ::1 5.6.7.8 1 2',
    'PROXY TCP6 1.2.3.4 5.6.7.8 1 2',
    'PROXY TCP6 fe80::1%eth0 ::1 1 2',
    'PROXY TCP4 1.2.3.4 5.6.7.8 65536 2',
    'PROXY TCP4 1.2.3.4 5.6.7.8 01 2',
    'PROXY TCP4 1.2.3.4 5.6.7.8 -1 2',
    'PROXY TCP4 1.2.3.4 5.6.7.8 0x1 2',
    `PROXY UNKNOWN ${'x'.repeat(100)}`,
  ])('is malformed as "%s"', (line) => {
    expect(readProxyHeader(text(line))).toBe('malformed');
  });

  it('is malformed when its line does not end within 107 bytes', () => {
    expect(readProxyHeader(Buffer.from(`PROXY UNKNOWN ${'x'.repeat(92)}`))).toBe('incomplete');
    expect(readProxyHeader(Buffer.from(`PROXY UNKNOWN ${'x'.repeat(93)}`))).toBe('malformed');
    expect(readProxyHeader(text(`PROXY UNKNOWN ${'x'.repeat(91)}`))).toEqual({
      length: 107,
      client: undefined,
    });
  });
});

describe('version 2', () => {
  it('is read however it is cut, whatever a proxy adds and whatever follows', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.record({
            family: fc.constant(4 as const),
            bytes: fc.uint8Array({ minLength: 4, maxLength: 4 }),
          }),
          fc.record({
            family: fc.constant(6 as const),
            bytes: fc.uint8Array({ minLength: 16, maxLength: 16 }),
          }),
        ),
        port,
        fc.uint8Array({ maxLength: 60 }),
        fc.uint8Array({ maxLength: 50 }),
        fc.nat(150),
        ({ family, bytes }, sourcePort, added, behind, cut) => {
          const header = binaryProxyHeader({ source: bytes, port: sourcePort, added });
          const client = expectWhole(header, behind, Math.min(cut, header.length + behind.length));
          if (client === undefined || typeof client === 'string') throw new Error(`read as ${client}`);
          expect(client.port).toBe(sourcePort);
          if (family === 4) expect(client.address).toBe(bytes.join('.'));
          else expect(ipv6Bytes(client.address)).toEqual([...bytes]);
        },
      ),
    );
  });

  it('says nothing of a client when the proxy speaks for itself, or has no address to tell', () => {
    for (const [command, family] of [
      [0, 0x11],
      [0, 0x00],
      [1, 0x00],
      [1, 0x31],
    ] as const) {
      const header = binaryProxyHeader({ source: Buffer.alloc(4), port: 1, command, family });
      expect(readProxyHeader(header)).toEqual({ length: header.length, client: undefined });
    }
  });

  it('is malformed with another version, command or family, too few addresses or too much behind them', () => {
    const good = { source: Buffer.from([1, 2, 3, 4]), port: 1 };
    for (const bad of [
      { version: 1 },
      { version: 3 },
      { command: 2 },
      { family: 0x12 },
      { family: 0x22 },
      { family: 0x10 },
      { family: 0x21 },
      { family: 0x41 },
      { length: 11 },
      { added: Buffer.alloc(5_000) },
    ]) {
      expect([bad, readProxyHeader(binaryProxyHeader({ ...good, ...bad }))]).toEqual([bad, 'malformed']);
    }
  });
});

it('nothing else is taken for a header, and what is not one is known by its first byte', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
      if (bytes[0] === 0x50 || bytes[0] === 0x0d) return;
      expect(readProxyHeader(Buffer.from(bytes))).toBe('malformed');
    }),
  );
  // CONNECT.
  expect(readProxyHeader(Buffer.from([0x10]))).toBe('malformed');
});

describe('address ranges', () => {
  it('hold single addresses and networks of both families', () => {
    const ranges = readAddressRanges('10.0.0.0/8, 192.0.2.7,fd00::/8,::1', 'X');
    for (const address of ['10.255.0.1', '192.0.2.7', 'fd12::1', '::1'])
      expect(ranges.includes(address)).toBe(true);
    for (const address of ['11.0.0.1', '192.0.2.8', 'fe00::1', '::2', '?', ''])
      expect(ranges.includes(address)).toBe(false);
    expect(readAddressRanges('0.0.0.0/0', 'X').includes('203.0.113.9')).toBe(true);
  });

  it('name every entry that is neither', () => {
    for (const wrong of ['10.0.0.0/33', '::/129', 'proxy.example', '10.0.0', '10.0.0.0/', '1.2.3.4/-1', '']) {
      expect(() => readAddressRanges(`10.0.0.1,${wrong}`, 'PROXY_PROTOCOL_FROM')).toThrow(
        `PROXY_PROTOCOL_FROM cannot hold "${wrong}"`,
      );
    }
  });
});

/** The 16 bytes of an IPv6 address, by another way than that of the code under test. */
function ipv6Bytes(address: string): number[] {
  const mapped = /^(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address);
  if (mapped) return [...Array(10).fill(0), 255, 255, ...mapped.slice(1).map(Number)];
  const [head = '', tail] = address.split('::');
  const groupsOf = (part: string) => (part === '' ? [] : part.split(':'));
  const before = groupsOf(head);
  const after = tail === undefined ? [] : groupsOf(tail);
  const groups = [...before, ...Array(8 - before.length - after.length).fill('0'), ...after];
  return groups.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 255]);
}
