import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { EventFeed } from '../../src/server/event-feed.js';
import { openAsking } from '../../src/server/fleet/asking.js';
import { encodePosition, readPosition } from '../../src/server/fleet/event-position.js';
import { openFleetEvents } from '../../src/server/fleet/fleet-events.js';
import { openMembers } from '../../src/server/fleet/members.js';
import type { FleetListener } from '../../src/server/forward/fleet/fleet-telling.js';

/** Replicas that tell each other in memory, over a bus that can lose messages and takes none that is too long. */
function openBus() {
  const hearers = new Set<{ subject: string; listener: FleetListener }>();
  const told: { subject: string; text: string }[] = [];
  const bus = { told, loses: false, maxCharacters: 1_000_000, open, tell };

  function tell(subject: string, text: string): boolean {
    if (text.length > bus.maxCharacters) return false;
    told.push({ subject, text });
    if (bus.loses) return true;
    for (const hearer of hearers)
      if (hearer.subject === subject) hearer.listener.onMessage(Buffer.from(text));
    return true;
  }

  function open(replica: string) {
    const telling = {
      open: true,
      reached: async () => {},
      tell,
      hear(subject: string, listener: FleetListener) {
        const hearer = { subject, listener };
        hearers.add(hearer);
        return () => hearers.delete(hearer);
      },
    };
    const members = openMembers({ replica, host: 'localhost', version: '1.2.3' }, telling);
    const link = {
      open: true,
      ask: async () => ({ failed: 'silent', detail: '' }) as const,
      close: async () => {},
    };
    const feed = new EventFeed();
    const events = openFleetEvents({ replica, feed, asking: openAsking(members, link), telling });
    const seen: string[] = [];
    const follow = (lastId?: string) =>
      events.listen(
        {
          onEvent: (event, id) => void seen.push(`${event.replica} ${event.device} ${id}`),
          onMissed: (count) => void seen.push(`missed ${count}`),
        },
        lastId,
      );
    return { feed, members, seen, follow };
  }
  return bus;
}

const eventsOf = ({ told }: ReturnType<typeof openBus>) =>
  told.filter(({ subject }) => subject === 'svc-mqtt.fleet.event').map(({ text }) => JSON.parse(text));

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('events of the fleet', () => {
  test('are told together, and only while somebody follows them', () => {
    const bus = openBus();
    const [here, there] = [bus.open('aaaaaa'), bus.open('bbbbbb')];
    there.feed.emit({ kind: 'connected', device: 'early' });
    const end = here.follow();
    here.feed.emit({ kind: 'connected', device: 'own' });
    for (const device of ['one', 'two']) there.feed.emit({ kind: 'connected', device });
    vi.advanceTimersByTime(60);
    expect(here.seen).toEqual([
      'aaaaaa own aaaaaa.1',
      'bbbbbb one aaaaaa.1,bbbbbb.2',
      'bbbbbb two aaaaaa.1,bbbbbb.3',
    ]);
    expect(eventsOf(bus)).toHaveLength(1);
    end();
    there.feed.emit({ kind: 'connected', device: 'late' });
    vi.advanceTimersByTime(60_000);
    expect(eventsOf(bus)).toHaveLength(1);
  });

  test('are told as long as it is said again that somebody follows them, and a little longer', () => {
    const bus = openBus();
    const [here, there] = [bus.open('aaaaaa'), bus.open('bbbbbb')];
    here.follow();
    vi.advanceTimersByTime(60_000);
    expect(there.members.followed).toBe(true);
    bus.loses = true;
    vi.advanceTimersByTime(10_001);
    expect(there.members.followed).toBe(false);
    bus.loses = false;
    vi.advanceTimersByTime(3_001);
    expect(there.members.followed).toBe(true);
  });

  test('that do not get through are said to be missed', () => {
    const bus = openBus();
    const [here, there] = [bus.open('aaaaaa'), bus.open('bbbbbb')];
    here.follow();
    const happen = (...devices: string[]) => {
      for (const device of devices) there.feed.emit({ kind: 'connected', device });
      vi.advanceTimersByTime(60);
    };
    happen('one');
    bus.loses = true;
    happen('two', 'three');
    bus.loses = false;
    happen('four');
    expect(here.seen).toEqual(['bbbbbb one aaaaaa.0,bbbbbb.1', 'missed 2', 'bbbbbb four aaaaaa.0,bbbbbb.4']);
    happen(...Array.from({ length: 3_000 }, (_, at) => `many-${at}`));
    expect(here.seen).toHaveLength(3 + 1_024 + 1);
    expect(here.seen.at(-1)).toBe('missed 1976');
  });

  test('have no replica in their id that has ended when another one comes', () => {
    const bus = openBus();
    const [here, there] = [bus.open('aaaaaa'), bus.open('bbbbbb')];
    here.follow();
    there.feed.emit({ kind: 'connected', device: 'before' });
    vi.advanceTimersByTime(60);
    there.members.close();
    const next = bus.open('cccccc');
    next.members.announce();
    next.feed.emit({ kind: 'connected', device: 'after' });
    vi.advanceTimersByTime(60);
    expect(here.seen).toEqual(['bbbbbb before aaaaaa.0,bbbbbb.1', 'cccccc after aaaaaa.0,cccccc.1']);
  });

  test('are told in parts where NATS takes no more', () => {
    const bus = openBus();
    bus.maxCharacters = 400;
    const [here, there] = [bus.open('aaaaaa'), bus.open('bbbbbb')];
    here.follow();
    const devices = Array.from({ length: 9 }, (_, at) => `device-${at}`);
    for (const device of devices) there.feed.emit({ kind: 'connected', device });
    vi.advanceTimersByTime(60);
    expect(here.seen.map((line) => line.split(' ')[1])).toEqual(devices);
    there.feed.emit({ kind: 'connected', device: 'd'.repeat(400) });
    there.feed.emit({ kind: 'connected', device: 'last' });
    vi.advanceTimersByTime(60);
    expect(here.seen.slice(9)).toEqual(['missed 1', 'bbbbbb last aaaaaa.0,bbbbbb.11']);
  });

  test('cannot be told in the name of this replica, or in another form', () => {
    const bus = openBus();
    const here = bus.open('aaaaaa');
    here.follow();
    const event = { number: 1, at: new Date().toISOString(), kind: 'connected' };
    const tell = (text: string) => bus.tell('svc-mqtt.fleet.event', text);
    for (const text of [
      'nonsense',
      '[]',
      JSON.stringify({ replica: 'aaaaaa', events: [event], last: 1 }),
      JSON.stringify({ replica: '*', events: [event], last: 1 }),
      JSON.stringify({ replica: 'bbbbbb', events: [event], last: -1 }),
      JSON.stringify({ replica: 'bbbbbb', events: [{ ...event, kind: 'unheard-of' }, null], last: 0 }),
    ])
      tell(text);
    expect(here.seen).toEqual([]);
    tell(
      JSON.stringify({ replica: 'bbbbbb', events: [{ ...event, replica: 'cccccc', newer: true }], last: 1 }),
    );
    expect(here.seen).toEqual(['bbbbbb undefined aaaaaa.0,bbbbbb.1']);
  });
});

test('the id of an event says how far each replica was read', () => {
  const position = new Map([
    ['aaaaaa', 1],
    ['bbbbbb', 22],
  ]);
  expect(encodePosition(position)).toBe('aaaaaa.1,bbbbbb.22');
  expect(readPosition('aaaaaa.1,bbbbbb.22')).toEqual(position);
  expect(readPosition('aaaaaa.,x,,.3,a b.4,bbbbbb.22')).toEqual(new Map([['bbbbbb', 22]]));
  expect(readPosition(undefined)).toEqual(new Map());
});
