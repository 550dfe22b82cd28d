import { expect, test } from 'vitest';
import { sumOf } from '../../src/command-state.js';
import { stateOf } from '../../src/server/mqtt/sessions/commands/command-state.js';
import { PassedCommands } from '../../src/server/mqtt/sessions/delivery/passed-commands.js';
import type { StoredSubscription } from '../../src/server/mqtt/sessions/store/session-record.js';

const subscription: StoredSubscription = {
  name: 'cmd/d/#',
  qos: 1,
  noLocal: false,
  retainAsPublished: false,
  retainHandling: 0,
  id: undefined,
  from: 10,
};
const session = {
  subscriptions: [subscription],
  cursors: { commands: 20, messages: 0, commandStream: 'CMD 1' },
  unacked: [{ packetId: 1, stream: 'commands' as const, sequence: 15, released: false }],
};
const command = { sequence: 12, topic: 'cmd/d/fan', qos: 1 as const, expiresAtMs: undefined };
const ask = (change: Partial<typeof command> = {}, other: Partial<typeof session> = {}, stream = 'CMD 1') =>
  stateOf({ ...command, ...change }, stream, { ...session, ...other })?.state;

test('a session has what lies behind its cursor and is not in flight', () => {
  expect(ask()).toBe('acknowledged');
  expect(ask({ sequence: 15 })).toBe('sent');
  expect(ask({ sequence: 21 })).toBe('queued');
});

test('what was stored before it subscribed, or is of another topic, is not for it, unless it was sent', () => {
  expect(ask({ sequence: 10 })).toBeUndefined();
  expect(ask({ topic: 'cmd/e/fan' })).toBeUndefined();
  expect(ask({ sequence: 15, topic: 'cmd/e/fan' })).toBe('sent');
  expect(ask({}, { subscriptions: [{ ...subscription, name: '$share/g/cmd/d/#' }] })).toBeUndefined();
});

test('what was sent with QoS 0 is not acknowledged', () => {
  expect(ask({ qos: 0 as never })).toBe('sent');
  expect(ask({}, { subscriptions: [{ ...subscription, qos: 0 }] })).toBe('sent');
});

test('of a stream that was made anew it has had nothing', () => {
  expect(ask({ sequence: 5 }, {}, 'CMD 2')).toBe('queued');
  expect(ask({ sequence: 15 }, {}, 'CMD 2')).toBe('queued');
});

test('what is passed over is kept in stretches, the latest of them', () => {
  const passed = new PassedCommands();
  expect(passed.record).toBeUndefined();
  passed.note(12, 'expired');
  passed.note(14, 'expired');
  passed.interrupt();
  passed.note(18, 'refused');
  expect(passed.record).toEqual({
    unknownTo: 0,
    stretches: [
      [12, 14, 'expired'],
      [18, 18, 'refused'],
    ],
  });
  const state = (sequence: number) =>
    stateOf({ ...command, sequence }, 'CMD 1', { ...session, passed: passed.record })?.state;
  expect([12, 13, 14, 16, 18].map(state)).toEqual([
    'expired',
    'expired',
    'expired',
    'acknowledged',
    'refused',
  ]);
  for (let sequence = 100; sequence < 163; sequence += 1) {
    passed.interrupt();
    passed.note(sequence, 'refused');
  }
  expect(passed.record).toMatchObject({ unknownTo: 14 });
  expect([12, 16, 18].map(state)).toEqual(['unknown', 'acknowledged', 'refused']);
});

test('the device is as far as the furthest of its sessions', () => {
  expect(sumOf([])).toBe('unclaimed');
  expect(sumOf(['queued', 'acknowledged', 'expired'])).toBe('acknowledged');
  expect(sumOf(['expired', 'queued'])).toBe('queued');
  expect(sumOf(['expired', 'unknown'])).toBe('unknown');
});
