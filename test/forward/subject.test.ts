import fc from 'fast-check';
import { headers as natsHeaders } from 'nats';
import { describe, expect, it } from 'vitest';
import { covers } from '../../src/server/forward/stream/subject-match.js';
import {
  compileSubject,
  encodeHeaders,
  escapeToken,
  readTopicHeader,
  tokensToTopic,
  topicToTokens,
  unescapeToken,
} from '../../src/server/forward/subject.js';
import { checkSubjectTemplate, subjectsOfTemplate } from '../../src/subject-template.js';

/** What MQTT allows as a topic, with what NATS gives a meaning to drawn often. */
const topics = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        '/',
        '/',
        '.',
        ' ',
        '*',
        '>',
        '%',
        '%2E',
        '\t',
        '\r\n',
        '\u00a0',
        '\ufeff',
        '\u2028',
        'é',
        '\u{1f600}',
      ),
      fc.string({ unit: 'binary', minLength: 1, maxLength: 3 }),
    ),
    { minLength: 1, maxLength: 12 },
  )
  .map((parts) => parts.join(''))
  .filter((topic) => !topic.includes('\0') && topic.isWellFormed());

/** What nats-server takes as a subject to publish to: no empty token, no wildcard, no white space. */
function isSubject(subject: string): boolean {
  return subject.split('.').every((token) => token !== '' && !/[*>\s\p{Cc}]/u.test(token));
}

describe('topicToTokens', () => {
  it('makes a valid subject of every topic, and the topic can be read back', () => {
    fc.assert(
      fc.property(topics, (topic) => {
        const tokens = topicToTokens(topic);
        expect(isSubject(`raw.${tokens}`)).toBe(true);
        expect(tokensToTopic(tokens)).toBe(topic);
      }),
      { numRuns: 2_000 },
    );
  });

  it('makes different subjects of different topics', () => {
    fc.assert(
      fc.property(topics, topics, (one, other) => {
        expect(topicToTokens(one) === topicToTokens(other)).toBe(one === other);
      }),
      { numRuns: 2_000 },
    );
  });

  it('keeps one token a level, so that wildcards of NATS and MQTT match alike', () => {
    fc.assert(
      fc.property(topics, (topic) => {
        expect(topicToTokens(topic).split('.').length).toBe(topic.split('/').length);
      }),
    );
  });

  it.each([
    ['raw/abc/temp', 'raw.abc.temp'],
    ['raw.abc', 'raw%2Eabc'],
    ['a b/*/>', 'a%20b.%2A.%3E'],
    ['/a//', '%.a.%.%'],
    ['50%', '50%25'],
    ['größe', 'größe'],
  ])('%s → %s', (topic, tokens) => {
    expect(topicToTokens(topic)).toBe(tokens);
  });
});

describe('escapeToken', () => {
  it('makes one token of any text, and reads it back', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        fc.pre(text.isWellFormed());
        const token = escapeToken(text);
        expect(isSubject(token)).toBe(true);
        expect(token.includes('.')).toBe(false);
        expect(unescapeToken(token)).toBe(text);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('compileSubject', () => {
  const device = { id: 'abc', type: 'air sensor' };

  it.each([
    ['raw.{id}', 'raw.abc'],
    ['raw.{type}.{id}', 'raw.air%20sensor.abc'],
    ['fleet.{id}.{topic}', 'fleet.abc.raw.abc.temp'],
    ['all', 'all'],
  ])('%s', (template, subject) => {
    expect(compileSubject(template, device)('raw/abc/temp')).toBe(subject);
  });

  it('gives every message a subject that the stream of the template covers', () => {
    const templates = fc.constantFrom(
      'raw.{id}',
      'raw.{type}.{id}',
      'a.{id}.up',
      'a.{type}.{topic}',
      'x.{topic}',
      'all',
    );
    fc.assert(
      fc.property(templates, fc.string(), fc.string(), topics, (template, id, type, topic) => {
        const subject = compileSubject(template, { id, type })(topic);
        const { needed, offered } = subjectsOfTemplate(template);
        expect(covers(needed, subject)).toBe(true);
        expect(covers(offered, needed)).toBe(true);
      }),
    );
  });
});

describe('subjectsOfTemplate', () => {
  it.each([
    ['raw.{id}', 'raw.*', 'raw.>'],
    ['raw.{type}.{id}', 'raw.*.*', 'raw.>'],
    ['raw.{id}.{topic}', 'raw.*.>', 'raw.>'],
    ['fleet.{id}.up', 'fleet.*.up', 'fleet.*.up'],
    ['all', 'all', 'all'],
  ])('%s needs %s and offers %s', (template, needed, offered) => {
    expect(subjectsOfTemplate(template)).toEqual({ needed, offered });
  });
});

describe('checkSubjectTemplate', () => {
  it.each([
    'raw.{id}',
    'raw.{type}.{id}',
    'raw.{id}.{topic}',
    'a-b_c.{id}.up',
    'all',
    'cmdr.{id}',
    'event.{id}',
  ])('accepts %s', (template) => {
    expect(checkSubjectTemplate(template)).toBeUndefined();
  });

  it.each([
    ['{id}', 'first token'],
    ['raw..{id}', 'empty token'],
    ['raw.', 'empty token'],
    ['raw.{topic}.up', 'last token'],
    ['raw.{name}', '{name}'],
    ['raw.dev-{id}', 'stands alone'],
    ['raw.{id', 'stands alone'],
    ['raw.*', 'wildcard'],
    ['raw.>', 'wildcard'],
    ['raw .{id}', 'cannot carry'],
    ['raw.\u00e9\t', 'cannot carry'],
    ['raw.\ud800.{id}', 'cannot carry'],
    ['$JS.{id}', 'belong to NATS'],
    ['_INBOX.{id}', 'belong to NATS'],
    ['cmd.{id}', 'commands'],
    ['call.{topic}', 'asked'],
    ['svc-mqtt.fleet.here', 'replicas'],
    ['event.device.{id}.revoked', 'events'],
    ['event.{type}.{id}.revoked', 'events'],
    ['event.{topic}', 'events'],
  ])('names what is wrong with %j', (template, words) => {
    expect(checkSubjectTemplate(template)).toContain(words);
  });
});

describe('encodeHeaders', () => {
  /** Reads a header block as the client library does. */
  function decode(block: Uint8Array): { keys: string[]; get: (name: string) => string } {
    const read = (
      natsHeaders().constructor as unknown as { decode(block: Uint8Array): ReturnType<typeof natsHeaders> }
    ).decode(block);
    return { keys: read.keys().sort(), get: (name) => read.get(name) };
  }

  it('carries every topic through, and no topic adds a header', () => {
    fc.assert(
      fc.property(topics, fc.boolean(), (topic, retain) => {
        const { keys, get } = decode(encodeHeaders(topic, retain));
        expect(readTopicHeader(get)).toBe(topic);
        const expected = ['Mqtt-Topic', 'Mqtt-Topic-Encoding', 'Mqtt-Retain'];
        expect(keys.filter((key) => !expected.includes(key))).toEqual([]);
        expect(get('Mqtt-Retain')).toBe(retain ? '1' : '');
      }),
      { numRuns: 2_000 },
    );
  });

  it('shows the topic as published when a header can hold it', () => {
    for (const topic of ['raw/abc', '50% of größe', 'a b', '/']) {
      expect(decode(encodeHeaders(topic)).get('Mqtt-Topic')).toBe(topic);
    }
  });

  it('lets no topic inject a header', () => {
    const { get } = decode(encodeHeaders('a\r\nNats-Msg-Id: 1'));
    expect(get('Nats-Msg-Id')).toBe('');
    expect(get('Mqtt-Topic-Encoding')).toBe('percent');
  });

  it('answers no topic for a message from elsewhere', () => {
    expect(readTopicHeader(() => '')).toBeUndefined();
  });
});
