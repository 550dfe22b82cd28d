import fc from 'fast-check';
import { expect, it } from 'vitest';
import { RecentRoutes } from '../../src/server/mqtt/uplink/recent-routes.js';
import type { Route } from '../../src/server/mqtt/uplink/route.js';

function routeOf(topic: string, retain: boolean): Route {
  const bytes = Buffer.from(topic);
  return { topicBytes: bytes, topic, retain, subject: bytes, headers: bytes, batchable: true };
}

it('finds the route of a topic and of no other, wherever in a packet the topic stands', () => {
  const topic = fc.stringMatching(/^raw\/[ab]{0,3}$/);
  fc.assert(
    fc.property(fc.array(fc.tuple(topic, fc.boolean()), { maxLength: 40 }), fc.nat(5), (uses, padding) => {
      const routes = new RecentRoutes();
      for (const [text, retain] of uses) {
        const packet = Buffer.concat([Buffer.alloc(padding, 'x'), Buffer.from(text), Buffer.from('payload')]);
        const end = padding + Buffer.byteLength(text);
        const found = routes.find(packet, padding, end, retain);
        if (found === undefined) routes.add(routeOf(text, retain));
        else expect([found.topic, found.retain]).toEqual([text, retain]);
        expect(routes.find(packet, padding, end, retain)?.topic).toBe(text);
        expect(routes.topics[0]).toBe(text);
      }
    }),
  );
});

it('keeps eight, forgets the one added longest ago, and tells the topics, the one used last first', () => {
  const routes = new RecentRoutes();
  const find = (topic: string) => routes.find(Buffer.from(topic), 0, topic.length, false);
  for (let number = 0; number < 9; number += 1) routes.add(routeOf(`t${number}`, false));
  expect(find('t0')).toBeUndefined();
  expect(find('t1')?.topic).toBe('t1');
  expect(routes.topics).toEqual(['t1', 't8', 't7', 't6', 't5', 't4', 't3', 't2']);
  routes.clear();
  expect(find('t8')).toBeUndefined();
  expect(routes.topics).toEqual([]);
});
