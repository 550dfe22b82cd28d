import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { payloadFields, showPayload, viewPayload } from '../../src/cli/tail-nats/payload-view.js';
import { checkSubject } from '../../src/cli/tail-nats/subject.js';
import { escapeControls, formatTime, toJsonLine } from '../../src/cli/terminal/text.js';
import { deviceSubject } from '../../src/server/forward/subject.js';

const bytes = (text: string) => new TextEncoder().encode(text);
const fieldsOf = (payload: Uint8Array) =>
  JSON.parse(`{${payloadFields(payload)}}`) as { encoding: string; payload: unknown };
/** What a terminal acts on instead of showing it. */
const drivesTerminal = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/u;

describe('text for a terminal', () => {
  test('never drives it, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(escapeControls(text)).not.toMatch(drivesTerminal);
        expect(escapeControls(text)).toBe(escapeControls(text).toWellFormed());
      }),
    );
  });

  test('is left as it is when it is harmless', () => {
    expect(escapeControls('Wärme 🌡 21,5 °C \\n')).toBe('Wärme 🌡 21,5 °C \\n');
    expect(escapeControls('a\tb\r\nc\u001b[31m\u009b\u007f\ud800')).toBe(
      'a\\tb\\r\\nc\\u001b[31m\\u009b\\u007f\\ud800',
    );
  });

  test('a JSON line is one line, harmless to a terminal, and means the same', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.integer(), (text, number) => {
        const line = toJsonLine({ text, number });
        expect(line.slice(0, -1)).not.toMatch(drivesTerminal);
        expect(JSON.parse(line)).toEqual({ text, number });
      }),
    );
  });

  test('a time is readable and says its zone', () => {
    expect(formatTime(new Date(Date.UTC(2026, 0, 31, 14, 5, 9, 999)))).toBe('2026-01-31 14:05:09Z');
  });
});

describe('a payload', () => {
  test('that is JSON is shown as it came, and in a JSON line compact, with every digit', () => {
    const payload = bytes('{ "t": 21.50,\n "n": 12345678901234567890, "s": "a \\" b  c" }');
    expect(showPayload(payload, 400)).toBe('{ "t": 21.50,\\n "n": 12345678901234567890, "s": "a \\" b  c" }');
    expect(showPayload(bytes('{"q": 1}'), 400)).toBe('{"q": 1}');
    expect(payloadFields(payload)).toBe(
      '"encoding":"json","payload":{"t":21.50,"n":12345678901234567890,"s":"a \\" b  c"}',
    );
  });

  test('that is text is shown as text, one of other bytes in hex', () => {
    expect(showPayload(bytes('on'), 400)).toBe('on');
    expect(showPayload(bytes(''), 400)).toBe('');
    expect(showPayload(bytes('\u001b]0;title\u0007'), 400)).toBe('0x1b5d303b7469746c6507');
    expect(showPayload(bytes('\u001b[2J'), 400)).toBe('\\u001b[2J');
    expect(showPayload(Uint8Array.of(0xff, 0, 1), 400)).toBe('0xff0001');
  });

  test('is cut off at the limit, and says so', () => {
    expect(showPayload(bytes('x'.repeat(500)), 400)).toBe(`${'x'.repeat(400)}…`);
    expect(showPayload(new Uint8Array(500), 400)).toBe(`0x${'00'.repeat(200)}…`);
    expect(showPayload(bytes('🌡🌡'), 3)).toBe('🌡…');
    expect(showPayload(bytes('x'.repeat(500)), Number.POSITIVE_INFINITY)).toHaveLength(500);
  });

  test('of any bytes can be read back from its JSON line, which has one line', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (payload) => {
        const { encoding, payload: value } = fieldsOf(payload);
        expect(payloadFields(payload)).not.toMatch(drivesTerminal);
        if (encoding === 'base64')
          expect(new Uint8Array(Buffer.from(String(value), 'base64'))).toEqual(payload);
        else if (encoding === 'text') expect(bytes(String(value))).toEqual(payload);
        else expect(value).toEqual(JSON.parse(Buffer.from(payload).toString('utf8')));
      }),
    );
  });

  test('of any JSON means the same after compaction', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.integer({ min: 0, max: 4 }), (value, indent) => {
        const { encoding, payload } = fieldsOf(bytes(JSON.stringify(value, undefined, indent)));
        expect(encoding).toBe('json');
        expect(JSON.stringify(payload)).toBe(JSON.stringify(JSON.parse(JSON.stringify(value))));
      }),
    );
  });

  test('with a byte order mark keeps it, as text', () => {
    expect(viewPayload(Uint8Array.of(0xef, 0xbb, 0xbf, 0x31))).toEqual({ encoding: 'text', text: '\ufeff1' });
  });
});

describe('a subject', () => {
  test.each(['raw.>', '>', '*', 'raw.*.x', 'raw.dev-1', 'a.b.c', '$JS.API.>', 'raw.ä'])(
    '%s is valid',
    (subject) => {
      expect(checkSubject(subject)).toBeUndefined();
    },
  );

  test.each([
    '',
    '.',
    'a.',
    '.a',
    'a..b',
    '>.a',
    'a.>.b',
    'a>',
    'a.b*',
    'a b',
    'a\tb',
    'a\u0000',
    'x'.repeat(1_025),
  ])('%j is not', (subject) => {
    expect(checkSubject(subject)).toMatch(/^(must|may) /);
  });

  test('of a device comes from the template of subjects', () => {
    expect(deviceSubject('raw.{id}', 'd1')).toBe('raw.d1');
    expect(deviceSubject('up.{type}.{id}.{topic}', 'd1')).toBe('up.*.d1.>');
    expect(deviceSubject('raw.{id}', 'a.b >')).toBe('raw.a%2Eb%20%3E');
    expect(deviceSubject('raw.{type}', 'd1')).toBeUndefined();
    expect(deviceSubject('raw.{unknown}', 'd1')).toBeUndefined();
  });
});
