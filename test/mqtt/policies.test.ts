import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DevicePolicy } from '../../src/db/policies.js';
import { checkPolicy, describeRisks, type PolicyRules } from '../../src/policy.js';
import { compilePolicy, type PolicyTemplate } from '../../src/server/mqtt/admission/authorize.js';
import { createPolicySet } from '../../src/server/mqtt/admission/policy-set.js';
import { checkFilter, checkTopic, matches } from '../../src/server/mqtt/protocol/topics.js';
import {
  checkTopicTemplate,
  defaultTemplates,
  filtersOverlap,
  isWellFormedFilter,
  templatesMeet,
} from '../../src/topic-template.js';

const placed = fc.constantFrom('{id}', 'x{id}', '{id}.', '{type}', 'p{type}');
const level = fc.oneof(fc.constantFrom('a', 'b', 'd1', 'd2', 'xd1', 't', ''), placed, fc.constant('+'));
const template = fc
  .tuple(fc.array(level, { maxLength: 3 }), fc.boolean())
  .map(([levels, hash]) => [...levels, ...(hash ? ['#'] : [])].join('/'))
  .filter((text) => checkTopicTemplate(text) === undefined);
const word = fc.constantFrom('a', 'b', 'd1', 'd2', 'xd1', 'd1.', 't', 'pt', '', '$SYS', 'raw', 'cmd');
const topic = fc
  .array(word, { minLength: 1, maxLength: 4 })
  .map((levels) => levels.join('/'))
  .filter((text) => checkTopic(text) === undefined);
const filter = fc
  .tuple(fc.array(fc.oneof(word, fc.constant('+')), { maxLength: 4 }), fc.boolean())
  .map(([levels, hash]) => [...levels, ...(hash ? ['#'] : [])].join('/'))
  .filter((text) => checkFilter(text) === undefined);
/** Ids as converted devices can have them: whatever a topic can carry. */
const anyId = fc.oneof(
  fc.constantFrom('d1', 'd2', '+', '#', 'a/b', '$SYS', 'd1/#', 'd.1', '{id}', '{type}', ' ', 'ä'),
  fc.string({ minLength: 1, maxLength: 8 }),
);

/** A topic that a template filled for a device matches, with `tail` in the place of its wildcards. */
const topicOf = (each: string, id: string, tail: string): string =>
  each
    .replaceAll('{id}', () => id)
    .replaceAll('{type}', 't')
    .replace(/[+]/g, () => tail.split('/')[0] ?? '')
    .replace('#', () => tail);

const templateOf = (publish: readonly string[], subscribe: readonly string[]): PolicyTemplate => ({
  publish,
  subscribe,
  localDelivery: false,
});

describe('what a policy allows', () => {
  it('does not depend on the order of the rules', () => {
    fc.assert(
      fc.property(
        fc
          .array(template, { maxLength: 5 })
          .chain((list) =>
            fc.tuple(fc.constant(list), fc.shuffledSubarray(list, { minLength: list.length })),
          ),
        topic,
        filter,
        ([list, shuffled], name, pattern) => {
          const device = { id: 'd1', type: 't' };
          const one = compilePolicy(templateOf(list, list), device);
          const other = compilePolicy(templateOf(shuffled, shuffled), device);
          expect(other.mayPublish(name)).toBe(one.mayPublish(name));
          expect(other.maySubscribe(pattern)).toBe(one.maySubscribe(pattern));
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it('is what one of its rules allows, and nothing else', () => {
    fc.assert(
      fc.property(fc.array(template, { maxLength: 4 }), topic, filter, (list, name, pattern) => {
        const device = { id: 'd1', type: 't' };
        const policy = compilePolicy(templateOf(list, list), device);
        const alone = list.map((each) => compilePolicy(templateOf([each], [each]), device));
        expect(policy.mayPublish(name)).toBe(alone.some((each) => each.mayPublish(name)));
        expect(policy.maySubscribe(pattern)).toBe(alone.some((each) => each.maySubscribe(pattern)));
      }),
      { numRuns: 2_000 },
    );
  });

  it('is nothing without rules', () => {
    const policy = compilePolicy(templateOf([], []), { id: 'd1', type: 't' });
    fc.assert(
      fc.property(topic, filter, (name, pattern) => {
        expect([policy.mayPublish(name), policy.maySubscribe(pattern)]).toEqual([false, false]);
      }),
    );
  });

  it('never holds a topic that begins with $', () => {
    fc.assert(
      fc.property(template, topic, (each, tail) => {
        const policy = compilePolicy(templateOf([each], [each]), { id: '$d', type: '$SYS' });
        const name = topicOf(each.replaceAll('{type}', '$SYS'), '$d', tail);
        fc.pre(name.startsWith('$'));
        expect([policy.mayPublish(name), policy.maySubscribe(name)]).toEqual([false, false]);
      }),
      { numRuns: 500 },
    );
  });

  it('by a template with {id} holds no topic of another device, whatever the ids', () => {
    fc.assert(
      fc.property(template, anyId, anyId, topic, fc.boolean(), (each, one, other, tail, own) => {
        fc.pre(each.includes('{id}') && one !== other);
        const policies = [one, other].map((id) => compilePolicy(templateOf([each], []), { id, type: 't' }));
        const name = topicOf(each, own ? one : other, tail);
        fc.pre(name !== '' && checkTopic(name) === undefined);
        expect(policies.filter((policy) => policy.mayPublish(name)).length).toBeLessThanOrEqual(1);
      }),
      { numRuns: 2_000 },
    );
  });

  it('by a filter is never more than its template matches, whatever the id', () => {
    fc.assert(
      fc.property(template, anyId, filter, topic, (each, id, pattern, name) => {
        const policy = compilePolicy(templateOf([each], [each]), { id, type: 't' });
        fc.pre(policy.maySubscribe(pattern) && matches(pattern, name));
        expect(policy.mayPublish(name)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('two templates meet', () => {
  it('where a topic of one device is one of another', () => {
    fc.assert(
      fc.property(template, template, topic, (one, other, tail) => {
        const name = topicOf(one, 'd1', tail);
        const mayPublish = (each: string, id: string) =>
          compilePolicy(templateOf([each], []), { id, type: 't' }).mayPublish(name);
        fc.pre(mayPublish(one, 'd1') && mayPublish(other, 'd2'));
        expect(templatesMeet(one, other)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it.each([
    ['raw/{id}/#', 'raw/{id}', false],
    ['raw/{id}/#', 'raw/{id}/#', false],
    ['raw/#', 'raw/#', true],
    ['raw/{id}/#', 'raw/+/{id}', true],
    ['raw/{id}', '{id}/raw', true],
    ['raw.{id}', 'raw.{id}.x', true],
    ['up.{id}', 'raw.{id}', false],
    ['a/{id}', 'b/{id}', false],
    ['{type}/{id}', '{type}/x', true],
  ])('%s and %s: %s', (one, other, expected) => {
    expect(templatesMeet(one, other)).toBe(expected);
    expect(templatesMeet(other, one)).toBe(expected);
  });

  it('as filters, exactly where a topic matches both', () => {
    fc.assert(
      fc.property(filter, filter, topic, (one, other, tail) => {
        const name = topicOf(one, '', tail);
        fc.pre(matches(one, name) && matches(other, name));
        expect(filtersOverlap(one, other)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('templates', () => {
  it.each([
    ['', 'must not be empty'],
    ['a/#/b', 'misplaced wildcard'],
    ['a+/b', 'misplaced wildcard'],
    ['a/b#', 'misplaced wildcard'],
    ['+{id}', 'misplaced wildcard'],
    ['$SYS/{id}', 'starts with $'],
    ['a/{id}{type}', 'two placeholders'],
    ['a/{id}-{id}', 'two placeholders'],
    ['a/{name}', 'braces'],
    ['a/{id', 'braces'],
    ['a/\u0000', 'control characters'],
    ['a/\ud800', 'control characters'],
    ['a'.repeat(257), '256 characters'],
    [`a${'/a'.repeat(100)}`, '100 levels'],
  ])('%j: %s', (text, problem) => {
    expect(checkTopicTemplate(text)).toContain(problem);
  });

  it.each([
    ...defaultTemplates.publish,
    ...defaultTemplates.subscribe,
    '#',
    '+',
    '/',
    'a//b',
    '{type}/{id}/+/#',
  ])('%j is sound', (text) => {
    expect(checkTopicTemplate(text)).toBeUndefined();
  });

  it('are well-formed filters when filled', () => {
    fc.assert(
      fc.property(template, anyId, anyId, (each, id, type) => {
        const filled = each.replaceAll('{id}', () => id).replaceAll('{type}', () => type);
        fc.pre(!/[/+#]/.test(id + type));
        expect(isWellFormedFilter(filled)).toBe(true);
      }),
    );
  });
});

describe('a policy', () => {
  const rules: PolicyRules = {
    publish: ['raw/{id}/#'],
    subscribe: ['cmd/{id}/#'],
    publishRate: null,
    maxPacketBytes: null,
    natsSubject: null,
    ackLevel: null,
    onRefusal: null,
    receipts: null,
  };

  it('has its faults named, all of them', () => {
    expect(checkPolicy(rules)).toEqual([]);
    const faults = checkPolicy({
      publish: ['a', 'a', '+a'],
      subscribe: Array(17)
        .fill('b/{id}')
        .map((text, index) => `${text}/${index}`),
      publishRate: 0,
      maxPacketBytes: 127,
      natsSubject: '{id}.raw',
      ackLevel: null,
      onRefusal: null,
      receipts: null,
    });
    expect(faults.map(({ field }) => field)).toEqual([
      'publish',
      'publish',
      'subscribe',
      'publish_rate',
      'max_packet_bytes',
      'nats_subject',
    ]);
  });

  it.each([
    '$JS.API.{topic}',
    '_INBOX.{id}',
    'cmd',
    'cmd.{topic}',
    'svc-mqtt.{topic}',
    'raw.*',
    'raw..x',
    'a b',
  ])('cannot send to the subject %s', (natsSubject) => {
    expect(checkPolicy({ ...rules, natsSubject })).toMatchObject([{ field: 'nats_subject' }]);
  });

  it('is described by what it shares', () => {
    const risksOf = (part: Partial<PolicyRules>) => describeRisks({ ...rules, ...part }, 1_000_000);
    expect(risksOf({})).toEqual([]);
    expect(risksOf({ publish: [...defaultTemplates.publish] })).toEqual([]);
    expect(risksOf({ publish: ['raw/#'] })).toEqual([expect.stringContaining('has no {id}')]);
    expect(risksOf({ subscribe: ['+/x'] })).toEqual([expect.stringContaining('may read')]);
    expect(risksOf({ publish: ['raw/{id}', 'raw/+/{id}'] })).toEqual([]);
    expect(risksOf({ publish: ['raw/{id}/#', 'raw/+/{id}'] })).toEqual([
      'publish "raw/{id}/#" of one device can be publish "raw/+/{id}" of another',
    ]);
    expect(risksOf({ subscribe: ['+/+/{id}/#'] })).toEqual([
      expect.stringContaining('read what another publishes'),
    ]);
    expect(risksOf({ maxPacketBytes: 2_000_000 })).toEqual([expect.stringContaining('MAX_PACKET_BYTES')]);
  });
});

describe('the policies of all types', () => {
  const policy = (type: string, part: Partial<DevicePolicy> = {}): DevicePolicy => ({
    type,
    publish: ['raw/{id}/#'],
    subscribe: ['cmd/{id}/#'],
    publishRate: null,
    maxPacketBytes: null,
    natsSubject: null,
    ackLevel: null,
    onRefusal: null,
    receipts: null,
    createdAt: new Date(),
    updatedAt: new Date(),
    ...part,
  });

  it('are the default for a type without one', () => {
    const set = createPolicySet('confined', [policy('sensor', { publish: [] })]);
    expect(set.templateOf('other')).toMatchObject({ ...defaultTemplates, localDelivery: false });
    expect(set.templateOf('sensor')).toMatchObject({ publish: [], localDelivery: false });
  });

  it('deliver to MQTT subscribers where anyone may subscribe to what a type publishes', () => {
    const set = createPolicySet('confined', [
      policy('hub', { subscribe: ['raw/#'] }),
      policy('quiet', { publish: ['quiet/{id}'] }),
      policy('self', { publish: ['self/{id}'], subscribe: ['self/{id}'] }),
    ]);
    const delivers = (type: string) => set.templateOf(type).localDelivery;
    expect([delivers('hub'), delivers('other'), delivers('quiet'), delivers('self')]).toEqual([
      true,
      true,
      false,
      true,
    ]);
  });

  it('deliver wherever two devices could meet', () => {
    fc.assert(
      fc.property(template, template, topic, (publish, subscribe, tail) => {
        const name = topicOf(publish, 'd1', tail);
        const set = createPolicySet('confined', [
          policy('from', { publish: [publish], subscribe: [] }),
          policy('to', { publish: [], subscribe: [subscribe] }),
        ]);
        const from = compilePolicy(set.templateOf('from'), { id: 'd1', type: 'from' });
        const to = compilePolicy(set.templateOf('to'), { id: 'd2', type: 'to' });
        fc.pre(from.mayPublish(name) && to.maySubscribe(name));
        expect(from.localDelivery).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it('keep the template of a type that they do not change', () => {
    const before = createPolicySet('confined', [policy('a'), policy('b')]);
    const after = createPolicySet('confined', [policy('a'), policy('b', { publishRate: 5 })], before);
    expect(after.templateOf('a')).toBe(before.templateOf('a'));
    expect(after.templateOf('b')).not.toBe(before.templateOf('b'));
    expect(after.templateOf('other')).toBe(before.templateOf('other'));
    const withHub = createPolicySet('confined', [policy('a'), policy('hub', { subscribe: ['#'] })], after);
    expect(withHub.templateOf('a')).not.toBe(after.templateOf('a'));
    expect(withHub.templateOf('a').localDelivery).toBe(true);
  });

  it('with ACL=open leave topics open, and hold otherwise', () => {
    const set = createPolicySet('open', [policy('sensor', { publish: [], publishRate: 5 })]);
    expect(set.templateOf('sensor')).toMatchObject({ publish: ['#'], subscribe: ['#'], publishRate: 5 });
    expect(set.templateOf('sensor').localDelivery).toBe(true);
    expect(set.templateOf('other')).toMatchObject({ publish: ['#'], subscribe: ['#'], localDelivery: true });
  });
});
