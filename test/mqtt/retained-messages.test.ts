import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { checkFilter, matches } from '../../src/server/mqtt/protocol/topics.js';
import { createRetainedMessages } from '../../src/server/mqtt/sessions/retained-messages.js';

const message = (topic: string, payload: string) => ({
  topic,
  payload: Buffer.from(payload),
  qos: 1 as const,
  retain: true,
});
afterEach(() => {
  vi.useRealTimers();
});

const limits = { maxMessages: 1_000, maxBytes: 1_000_000 };

describe('retained messages', () => {
  it('are found as a plain walk over all of them would find them', () => {
    const part = fc.constantFrom('a', 'b', '', '$s');
    const topic = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
    const filter = fc
      .array(fc.oneof(part, fc.constantFrom('+', '#')), { minLength: 1, maxLength: 3 })
      .map((parts) => parts.join('/'))
      .filter((text) => checkFilter(text) === undefined);
    fc.assert(
      fc.property(fc.uniqueArray(topic), fc.uniqueArray(filter), (topics, filters) => {
        const retained = createRetainedMessages(limits);
        for (const name of topics) retained.store(message(name, 'x'));
        const found = new Map(retained.find(filters).map((entry) => [entry.message.topic, entry.filters]));
        for (const name of topics) {
          const expected = filters.filter((pattern) => matches(pattern, name));
          expect([...(found.get(name) ?? [])].toSorted()).toEqual(expected.toSorted());
        }
      }),
    );
  });

  it('keep the last of a topic, and nothing after an empty payload', () => {
    const retained = createRetainedMessages(limits);
    retained.store(message('t', 'one'));
    retained.store(message('t', 'two'));
    expect(retained.find(['t']).map((entry) => entry.message.payload.toString())).toEqual(['two']);
    expect(retained.store(message('t', ''))).toBe(true);
    expect(retained.find(['#'])).toEqual([]);
  });

  it('are bounded in number and bytes, and make room when they go', () => {
    const retained = createRetainedMessages({ maxMessages: 2, maxBytes: 10 });
    expect(retained.store(message('a', '1234'))).toBe(true);
    expect(retained.store(message('b', '123456'))).toBe(false);
    expect(retained.store(message('b', '1'))).toBe(true);
    expect(retained.store(message('c', '1'))).toBe(false);
    expect(retained.store(message('a', ''))).toBe(true);
    expect(retained.store(message('c', '1'))).toBe(true);
  });

  it('that have expired are not found [MQTT 5.0 MQTT-3.3.2-5], and make room', () => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_000_000 });
    const retained = createRetainedMessages({ maxMessages: 3, maxBytes: 1_000 });
    retained.store({ ...message('a', '1'), expiresAtMs: 1_002_000 });
    retained.store({ ...message('b', '1'), expiresAtMs: 1_002_500 });
    retained.store(message('c', '1'));
    expect(retained.store(message('d', '1'))).toBe(false);
    vi.setSystemTime(1_002_000);
    const topics = (filter: string) => retained.find([filter]).map((entry) => entry.message.topic);
    expect([topics('#'), topics('a'), topics('b')]).toEqual([['b', 'c'], [], ['b']]);
    expect(retained.store(message('d', '1'))).toBe(true);
    vi.setSystemTime(1_002_600);
    expect(topics('+')).toEqual(['c', 'd']);
    vi.setSystemTime(1_003_100);
    expect(retained.store(message('e', '1'))).toBe(true);
  });

  it('count with their properties', () => {
    const retained = createRetainedMessages({ maxMessages: 10, maxBytes: 100 });
    const properties = { userProperties: [['name', 'v'.repeat(100)]] as const };
    expect(retained.store({ ...message('a', '1'), properties })).toBe(false);
  });
});
