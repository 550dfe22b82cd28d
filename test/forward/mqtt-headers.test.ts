import fc from 'fast-check';
import { headers as natsHeaders } from 'nats';
import { describe, expect, it } from 'vitest';
import { decodeProperties, encodeProperties } from '../../src/server/forward/mqtt-headers.js';

/** Reads lines as NATS does: name, colon, value without the white space around it. */
function readLines(lines: string): [string, string][] {
  return lines
    .split('\r\n')
    .filter((line) => line !== '')
    .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]);
}

const text = fc
  .oneof(
    fc.string({ unit: 'grapheme' }),
    fc.string({ unit: 'binary' }),
    fc.constantFrom(
      '',
      ' a ',
      'a\r\nNats-Msg-Id: 1',
      'Nats-TTL',
      'Mqtt-Topic',
      'content-type',
      'a b',
      '%41',
      'é',
      '\t',
      '\u2028',
    ),
  )
  .filter((value) => value.isWellFormed() && !value.includes('\0'));
const topic = text.filter((value) => value !== '' && !/[+#]/.test(value));
const properties = fc.record({
  isText: fc.constantFrom(true, undefined),
  expirySec: fc.option(fc.integer({ min: 0, max: 0xffff_ffff }), { nil: undefined }),
  contentType: fc.option(text, { nil: undefined }),
  responseTopic: fc.option(topic, { nil: undefined }),
  correlationData: fc.option(
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
    { nil: undefined },
  ),
  userProperties: fc.option(fc.array(fc.tuple(text, text), { minLength: 1, maxLength: 6 }), {
    nil: undefined,
  }),
});

describe('properties as headers', () => {
  it('come back as they were, in their order, whatever they hold', () => {
    fc.assert(
      fc.property(properties, (wanted) => {
        const read = decodeProperties(readLines(encodeProperties(wanted, { ttl: true })));
        expect({
          ...Object.fromEntries(Object.keys(wanted).map((key) => [key, undefined])),
          ...read,
        }).toEqual(wanted);
      }),
      { numRuns: 2_000 },
    );
  });

  it('never set a header of NATS or of the gateway, nor end one', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(text, text), { minLength: 1, maxLength: 6 }), (userProperties) => {
        const lines = encodeProperties({ userProperties }, { ttl: false });
        expect(lines.split('\r\n')).toHaveLength(userProperties.length + 1);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there.
        expect(lines.replaceAll('\r\n', '')).not.toMatch(/[\u0000-\u001f]/);
        for (const [name] of readLines(lines))
          expect(name).not.toMatch(/^(nats-|content-type$|mqtt-(?!property-))/i);
      }),
    );
  });

  it('are read as the NATS client writes them', () => {
    const sent = natsHeaders();
    sent.append('Content-Type', 'application/json');
    sent.append('Nats-Msg-Id', '7');
    sent.append('Mqtt-Message-Expiry', '60');
    sent.append('site', 'graz');
    sent.append('site', 'wien');
    const pairs = sent.keys().flatMap((name) => sent.values(name).map((value) => [name, value] as const));
    expect(decodeProperties(pairs)).toEqual({
      contentType: 'application/json',
      expirySec: 60,
      userProperties: [
        ['site', 'graz'],
        ['site', 'wien'],
      ],
    });
  });

  it.each([
    ['Mqtt-Message-Expiry', '-1'],
    ['Mqtt-Message-Expiry', '4294967296'],
    ['Mqtt-Response-Topic', 'a/#'],
    ['Mqtt-Response-Topic', ''],
    ['Mqtt-Payload-Format', 'yes'],
    ['Nats-Expected-Stream', 'RAW'],
  ])('leave out what is none: %s: %s', (name, value) => {
    expect(decodeProperties([[name, value]])).toBeUndefined();
  });

  it('give the expiry as time to live where the stream takes it', () => {
    expect(encodeProperties({ expirySec: 5 }, { ttl: true })).toBe(
      'Mqtt-Message-Expiry: 5\r\nNats-TTL: 5s\r\n',
    );
    expect(encodeProperties({ expirySec: 5 }, { ttl: false })).toBe('Mqtt-Message-Expiry: 5\r\n');
  });
});
