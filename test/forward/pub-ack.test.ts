import fc from 'fast-check';
import type { Msg } from 'nats';
import { describe, expect, it } from 'vitest';
import { AnswerSource, readPlace, readPubAck, readToken } from '../../src/server/forward/pub-ack.js';
import { messageInside } from '../support/forwarding.js';

function answer(text: string, status?: number): Msg {
  return {
    data: new TextEncoder().encode(text),
    ...messageInside(status === undefined ? '' : `NATS/1.0 ${status}\r\n\r\n`),
  } as unknown as Msg;
}

describe('readPubAck', () => {
  it.each([
    '{"stream":"RAW", "seq":1}',
    '{"stream":"RAW","seq":18446744073709551615}',
    '{"stream":"RAW","seq":7,"duplicate": true}',
    '{"stream":"RAW","domain":"hub","seq":7}',
    '{ "seq": 7, "stream": "RAW" }',
  ])('stored: %s', (text) => {
    expect(readPubAck(answer(text)).kind).toBe('stored');
  });

  it.each([
    '{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"RAW","seq":0}',
    '{"error":{"code":404,"err_code":10059,"description":"stream not found"}}',
    '{"stream":"RAW","seq":3,"error":{"code":500,"err_code":1,"description":"x"}}',
  ])('never stored with an error: %s', (text) => {
    expect(readPubAck(answer(text)).kind).toBe('refused');
  });

  it('tells refusals that no retry mends', () => {
    const ack = readPubAck(
      answer('{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}'),
    );
    expect(ack).toMatchObject({ kind: 'refused', permanent: true });
  });

  it('tells that no stream takes the subject', () => {
    expect(readPubAck(answer('', 503))).toMatchObject({
      kind: 'refused',
      cause: 'no_stream',
      permanent: false,
    });
  });

  it.each([
    '',
    '+OK',
    'stored',
    '{}',
    'null',
    '{"stream":"RAW"}',
    '{"stream":"RAW","seq":}',
    '{"stream":"RAW","seq":1',
    '{"stream":"RAW","seq":0}',
    '{"seq":3}',
    '{"stream":',
  ])('takes no notice of %j', (text) => {
    expect(readPubAck(answer(text)).kind).toBe('other');
  });
});

describe('readPubAck of the stream that is watched', () => {
  const kindsOf = (source: AnswerSource, texts: string[]) =>
    texts.map((text) => readPubAck(answer(text), source).kind);

  it('takes no confirmation of another stream or domain', () => {
    const source = new AnswerSource({ name: 'RAW', domain: 'hub' });
    const texts = [
      '{"stream":"RAW", "domain":"hub", "seq":7}',
      '{"stream":"RAW", "domain":"hub", "seq":8}',
      '{"stream":"RAW", "seq":9}',
      '{"stream":"RAW","seq":3,"domain":"hub","duplicate":true}',
      '{"stream":"RAW", "domain":"leaf", "seq":10}',
      '{"stream":"RAW2", "domain":"hub", "seq":11}',
      '{"stream":"EDGE", "seq":12}',
      '{"stream":"RAW","seq":3,"domain":"leaf","batch":"b","count":7}',
    ];
    const expected = [...Array(4).fill('stored'), ...Array(4).fill('elsewhere')];
    expect(kindsOf(source, texts)).toEqual(expected);
    expect(kindsOf(source, texts)).toEqual(expected);
  });

  it('takes no domain where the stream is known to be in none, and any where that is not known', () => {
    const text = '{"stream":"RAW", "domain":"hub", "seq":7}';
    expect(kindsOf(new AnswerSource({ name: 'RAW', domain: '' }), [text])).toEqual(['elsewhere']);
    expect(kindsOf(new AnswerSource({ name: 'RAW', domain: undefined }), [text])).toEqual(['stored']);
  });

  it('takes the answers of the stream that was there before the last look, and no longer', () => {
    const source = new AnswerSource({ name: 'A', domain: undefined });
    const texts = ['{"stream":"A", "seq":7}', '{"stream":"B", "seq":7}'];
    expect(kindsOf(source, texts)).toEqual(['stored', 'elsewhere']);
    source.expect({ name: 'B', domain: undefined });
    expect(kindsOf(source, texts)).toEqual(['stored', 'stored']);
    source.expect({ name: 'B', domain: undefined });
    expect(kindsOf(source, texts)).toEqual(['elsewhere', 'stored']);
  });

  it('takes a refusal that names another stream for none', () => {
    const source = new AnswerSource({ name: 'RAW', domain: undefined });
    const error =
      '"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}';
    expect(kindsOf(source, [`{${error}}`, `{${error},"stream":"RAW","seq":0}`])).toEqual([
      'refused',
      'refused',
    ]);
    expect(readPubAck(answer(`{${error},"stream":"EDGE","seq":0}`), source)).toMatchObject({
      kind: 'elsewhere',
      said: { kind: 'refused', permanent: true },
    });
  });
});

describe('readToken', () => {
  const bytes = (subject: string) =>
    ({ _msg: { subject: new TextEncoder().encode(subject) } }) as unknown as Msg;

  it.each([
    ['_INBOX.x.1048576', 1_048_576],
    [`_INBOX.x.${Number.MAX_SAFE_INTEGER}`, Number.MAX_SAFE_INTEGER],
    ['_INBOX.x.0', 0],
    ['_INBOX.x.', -1],
    ['_INBOX.x.12a', -1],
    ['12', -1],
    ['_INBOX.x.99999999999999999999', -1],
  ])('%s → %d', (subject, token) => {
    expect(readToken(bytes(subject))).toBe(token);
    expect(readToken({ subject } as Msg)).toBe(token);
  });
});

it('reads from an answer where the message is stored, whatever was answered before', () => {
  const name = fc.constantFrom('RAW', 'RAW2', 'Ä', 'A B', 'with\u0001');
  const answer = fc.record({
    stream: name,
    seq: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    behind: fc.integer({ min: 0, max: 1_000 }),
    tail: fc.constantFrom({}, { duplicate: true }, { batch: 'b', count: 7 }, { domain: 'd' }),
  });
  fc.assert(
    fc.property(fc.array(answer, { minLength: 1, maxLength: 10 }), (answers) => {
      for (const { stream, seq, behind, tail } of answers) {
        const ack = Buffer.from(JSON.stringify({ stream, seq, ...tail }));
        expect(readPlace(ack, behind)).toEqual({ stream, sequence: seq - behind });
      }
    }),
  );
});
