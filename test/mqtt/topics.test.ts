import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compilePolicy, confinedTemplate, openTemplate } from '../../src/server/mqtt/admission/authorize.js';
import {
  checkFilter,
  checkTopic,
  covers,
  matches,
  partFilter,
} from '../../src/server/mqtt/protocol/topics.js';

const level = fc.constantFrom('a', 'b', '', '$x', 'raw');
const topic = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join('/'));
const filter = fc
  .tuple(fc.array(fc.oneof(level, fc.constant('+')), { minLength: 0, maxLength: 3 }), fc.boolean())
  .map(([levels, hash]) => [...levels, ...(hash ? ['#'] : [])].join('/'))
  .filter((text) => text !== '' && checkFilter(text) === undefined);

/** MQTT 3.1.1 §4.7 read as a regular expression, beside the implementation's walk over levels. */
function matchesByRegExp(pattern: string, name: string): boolean {
  if (name.startsWith('$') && /^[+#]/.test(pattern)) return false;
  const source = pattern
    .split('/')
    .map((part) => (part === '+' ? '[^/]*' : part === '#' ? '.*' : part.replace('$', '\\$')))
    .join('/')
    .replace(/\/\.\*$/, '(/.*)?');
  return new RegExp(`^${source}$`).test(name);
}

/** The same of filters, level by level. */
function coversByLevels(outer: string, inner: string): boolean {
  const [wide, narrow] = [outer.split('/'), inner.split('/')];
  if (inner.startsWith('$') && (wide[0] === '+' || wide[0] === '#')) return false;
  const many = wide.indexOf('#');
  if (many === -1 && wide.length !== narrow.length) return false;
  const fixed = many === -1 ? wide : wide.slice(0, many);
  return fixed.every((level, at) => {
    const other = narrow[at];
    return other !== undefined && other !== '#' && (level === '+' || level === other);
  });
}

describe('topic names and filters', () => {
  it('a filter covers another level by level', () => {
    fc.assert(
      fc.property(filter, fc.oneof(filter, topic), (outer, inner) => {
        expect(covers(outer, inner)).toBe(coversByLevels(outer, inner));
      }),
      { numRuns: 5_000 },
    );
  });

  it('match as the specification describes', () => {
    fc.assert(
      fc.property(filter, topic, (pattern, name) => {
        fc.pre(checkTopic(name) === undefined);
        expect(matches(pattern, name)).toBe(matchesByRegExp(pattern, name));
      }),
      { numRuns: 5_000 },
    );
  });

  it('a filter that covers another matches every topic that the other matches', () => {
    fc.assert(
      fc.property(filter, filter, topic, (outer, inner, name) => {
        fc.pre(covers(outer, inner) && matches(inner, name));
        expect(matches(outer, name)).toBe(true);
      }),
      { numRuns: 5_000 },
    );
  });

  it.each([
    ['sport/tennis/player1/#', 'sport/tennis/player1', true],
    ['sport/#', 'sport', true],
    ['sport/+', 'sport', false],
    ['sport/+', 'sport/', true],
    ['+/+', '/finance', true],
    ['/+', '/finance', true],
    ['+', '/finance', false],
    ['#', '$SYS/uptime', false],
    ['+/monitor/Clients', '$SYS/monitor/Clients', false],
    ['$SYS/#', '$SYS/monitor/Clients', true],
  ])('%s and %s, an example of §4.7', (pattern, name, expected) => {
    expect(matches(pattern, name)).toBe(expected);
  });

  it.each(['sport/tennis#', 'sport/#/ranking', 'sport+', '##', '+a/b', 'a/b+', '#/'])(
    '%s is malformed',
    (pattern) => {
      expect(checkFilter(pattern)).toBe('malformed-filter');
    },
  );

  it.each(['#', '+', '+/tennis/#', '/', '//', 'a/', '$SYS/#', ' '])('%s is well-formed', (pattern) => {
    expect(checkFilter(pattern)).toBeUndefined();
  });
});

describe('the policy of a device', () => {
  const device = { id: 'dev1', type: 'sensor' };

  it('confines a device to its own topics', () => {
    const policy = compilePolicy(confinedTemplate, device);
    for (const name of ['raw.dev1', 'raw/dev1', 'raw/dev1/', 'raw/dev1/temp/in']) {
      expect(policy.mayPublish(name), name).toBe(true);
    }
    for (const name of [
      'raw.dev2',
      'raw.dev1x',
      'raw/dev2',
      'raw/dev1x',
      'raw',
      'cmd/dev1/x',
      '$SYS/x',
      'RAW.dev1',
    ]) {
      expect(policy.mayPublish(name), name).toBe(false);
    }
    for (const pattern of ['cmd/dev1', 'cmd/dev1/#', 'cmd/dev1/+', 'cmd/dev1/a/#']) {
      expect(policy.maySubscribe(pattern), pattern).toBe(true);
    }
    for (const pattern of [
      '#',
      '+/dev1/#',
      'cmd/#',
      'cmd/+',
      'cmd/+/x',
      'cmd/dev2/#',
      'raw/dev1',
      '$SYS/#',
    ]) {
      expect(policy.maySubscribe(pattern), pattern).toBe(false);
    }
  });

  it('opens everything but $ topics with ACL=open', () => {
    const policy = compilePolicy(openTemplate, device);
    expect(policy.mayPublish('any/thing')).toBe(true);
    expect(policy.maySubscribe('#')).toBe(true);
    expect(policy.mayPublish('$SYS/x')).toBe(false);
    expect(policy.maySubscribe('$SYS/#')).toBe(false);
  });

  it('leaves out a template that a value would widen', () => {
    const template = { publish: ['data/{type}/{id}'], subscribe: ['data/{type}/#'], localDelivery: false };
    for (const type of ['+', '#', 'a/b', '']) {
      const policy = compilePolicy(template, { id: 'dev1', type });
      expect(policy.mayPublish(`data/${type}/dev1`), type).toBe(false);
      expect(policy.maySubscribe(`data/${type}/#`), type).toBe(false);
    }
    expect(compilePolicy(template, device).mayPublish('data/sensor/dev1')).toBe(true);
  });

  it('never allows more than the confined topics, whatever is asked for', () => {
    const policy = compilePolicy(confinedTemplate, device);
    const part = fc.constantFrom('raw', 'cmd', 'dev1', 'dev2', '+', '#', '', 'raw.dev1', '$SYS');
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 4 }), (parts) => {
        const text = parts.join('/');
        if (policy.maySubscribe(text)) expect(text).toMatch(/^cmd\/dev1(\/|$)/);
        if (checkTopic(text) === undefined && policy.mayPublish(text)) {
          expect(text).toMatch(/^raw(\.dev1$|\/dev1(\/|$))/);
        }
      }),
    );
  });
});

describe('a filter that may be shared', () => {
  it('has a name of one level and a filter that is well-formed [MQTT 5.0 MQTT-4.8.2-1] [MQTT 5.0 MQTT-4.8.2-2]', () => {
    fc.assert(
      fc.property(level, filter, (name, shared) => {
        fc.pre(name !== '');
        expect(partFilter(`$share/${name}/${shared}`)).toEqual({ shareName: name, filter: shared });
        if (!shared.startsWith('$share/'))
          expect(partFilter(shared)).toEqual({ shareName: undefined, filter: shared });
      }),
    );
    for (const text of [
      '$share/',
      '$share/g',
      '$share//a',
      '$share/+/a',
      '$share/g#/a',
      '$share/g/',
      '$share/g/#/a',
    ])
      expect(partFilter(text)).toBeUndefined();
    for (const text of ['$share', '$shared/g/a', 'x/$share/g/a'])
      expect(partFilter(text)).toEqual({ shareName: undefined, filter: text });
  });
});
