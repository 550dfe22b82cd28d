import fc from 'fast-check';
import { expect, it } from 'vitest';
import { newBrokerCounters } from '../../src/server/mqtt/live/counters.js';
import type { Message } from '../../src/server/mqtt/sessions/delivery/message.js';
import {
  createSharedSubscriptions,
  type ShareMember,
} from '../../src/server/mqtt/sessions/subscriptions/shared-subscriptions.js';
import type {
  Listener,
  SessionEngine,
} from '../../src/server/mqtt/sessions/subscriptions/subscription-matcher.js';

/** Members that the test makes ready, full or absent; sessions and connections are tested in `conformance/`. */

type State = 'ready' | 'busy' | 'full' | 'absent';

interface FakeMember extends ShareMember {
  state: State;
  readonly held: Map<Message, () => void>;
  leave(): void;
}

function openShare() {
  const counters = newBrokerCounters();
  const listeners = new Set<Listener>();
  const engine: Pick<SessionEngine, 'subscribe'> = {
    subscribe(_filter, listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  const shares = createSharedSubscriptions(engine as SessionEngine, counters);
  let deliveries = 0;
  return {
    counters,
    listeners,
    join(state: State): FakeMember {
      const held = new Map<Message, () => void>();
      const member: FakeMember = {
        state,
        held,
        get isConnected() {
          return member.state !== 'absent';
        },
        get isReady() {
          return member.state === 'ready';
        },
        hasRoom: ({ qos }) => member.state !== 'full' && (member.state !== 'absent' || qos > 0),
        take: (message, handBack) => held.set(message, handBack),
        leave: () => {},
      };
      const end = shares.join('g', 't', member);
      member.leave = () => {
        end();
        for (const handBack of [...held.values()]) handBack();
        held.clear();
      };
      return member;
    },
    publish(message: Message) {
      deliveries += 1;
      for (const listener of listeners) listener(message, deliveries);
    },
  };
}

const state = fc.constantFrom<State>('ready', 'busy', 'full', 'absent');
const happenings = fc.array(
  fc.oneof(
    fc.record({ what: fc.constant('publish' as const), qos: fc.constantFrom<0 | 1>(0, 1) }),
    fc.record({ what: fc.constant('join' as const), state }),
    fc.record({ what: fc.constant('change' as const), which: fc.nat(9), state }),
    fc.record({ what: fc.constant('leave' as const), which: fc.nat(9) }),
  ),
  { maxLength: 100 },
);

it('gives each message to one member, of those that can take it best, and drops it only where none can', () => {
  fc.assert(
    fc.property(happenings, (all) => {
      const share = openShare();
      const members: FakeMember[] = [];
      const published: Message[] = [];
      const holders = (message: Message) => members.filter(({ held }) => held.has(message));
      const dropped = () => share.counters.limits['shared-subscription'];
      for (const happening of all) {
        if (happening.what === 'join') {
          members.push(share.join(happening.state));
        } else if (happening.what === 'publish') {
          const { qos } = happening;
          const message = { topic: 't', payload: Buffer.alloc(1), qos, retain: false };
          const before = dropped();
          share.publish(message);
          const [holder, ...others] = holders(message);
          expect(others).toEqual([]);
          const best = (['ready', 'busy', 'absent'] as const).find((wanted) =>
            members.some((member) => member.state === wanted && (wanted !== 'absent' || qos > 0)),
          );
          expect(holder?.state).toBe(best);
          expect(dropped() - before).toBe(best === undefined && qos > 0 && members.length > 0 ? 1 : 0);
          if (holder !== undefined) published.push(message);
        } else if (members.length > 0) {
          const member = members[happening.which % members.length] as FakeMember;
          if (happening.what === 'change') {
            member.state = happening.state;
          } else {
            members.splice(members.indexOf(member), 1);
            const before = dropped();
            const left = [...member.held.keys()];
            member.leave();
            const lost = left.filter((message) => holders(message).length === 0);
            const mustHave = left.filter(({ qos }) =>
              members.some((other) => other.hasRoom({ qos } as Message)),
            );
            expect(mustHave.filter((message) => lost.includes(message))).toEqual([]);
            const counted = members.length > 0 ? lost.filter(({ qos }) => qos > 0).length : 0;
            expect(dropped() - before).toBe(counted);
            for (const message of left) expect(holders(message).length).toBeLessThanOrEqual(1);
          }
        }
        // One subscription of the engine, as long as there is a member.
        expect(share.listeners.size).toBe(members.length > 0 ? 1 : 0);
      }
      const held = members.reduce((sum, member) => sum + member.held.size, 0);
      expect(held).toBe(published.filter((message) => holders(message).length === 1).length);
    }),
  );
});

it('takes its members in turn, whoever leaves', () => {
  const share = openShare();
  const members = Array.from({ length: 4 }, () => share.join('ready'));
  const publish = (count: number) => {
    for (let number = 0; number < count; number += 1)
      share.publish({ topic: 't', payload: Buffer.alloc(1), qos: 1, retain: false });
  };
  publish(40);
  expect(members.map(({ held }) => held.size)).toEqual([10, 10, 10, 10]);
  members.shift()?.leave();
  publish(30);
  for (const { held } of members) expect(Math.abs(held.size - 70 / 3)).toBeLessThan(2);
});

it('does not hand on what has expired', () => {
  const share = openShare();
  const [leaving, staying] = [share.join('ready'), share.join('busy')];
  share.publish({ topic: 't', payload: Buffer.alloc(1), qos: 1, retain: false, expiresAtMs: Date.now() - 1 });
  share.publish({
    topic: 't',
    payload: Buffer.alloc(1),
    qos: 1,
    retain: false,
    expiresAtMs: Date.now() + 60_000,
  });
  expect(leaving.held.size).toBe(2);
  leaving.leave();
  expect(staying.held.size).toBe(1);
});
