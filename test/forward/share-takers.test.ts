import { setTimeout as delay } from 'node:timers/promises';
import { connect, type NatsConnection } from 'nats';
import { expect, onTestFinished, test } from 'vitest';
import { connectNats } from '../../src/server/forward/connection/nats-link.js';
import { openFleetTelling } from '../../src/server/forward/fleet/fleet-telling.js';
import { openFleetInterest } from '../../src/server/forward/state/fleet-interest.js';
import { openShareTakers } from '../../src/server/forward/state/share-takers.js';
import { encodeStateHeaders, type StateMessage } from '../../src/server/forward/state/state-message.js';
import { noNatsSettings, openTestLog, until } from '../support/forwarding.js';
import { startNatsServer } from '../support/nats-server.js';

/** One real replica's part, and others that are played, so that each can be silent, or gone, when it matters. */

const share = 'w/jobs/#';

function message(payload: string, qos: 1 | 2 = 1): StateMessage {
  return { topic: 'jobs/a', payload: Buffer.from(payload), qos };
}

interface Played {
  readonly name: string;
  /** Questions it was asked. */
  asked: number;
  readonly given: string[];
  answers: boolean;
  /** The share has members there. */
  hasMembers: boolean;
  connection: NatsConnection;
  connect(): Promise<void>;
  announce(more?: object): Promise<void>;
}

async function openFleet(names: readonly string[]) {
  const nats = await startNatsServer();
  onTestFinished(() => nats.stop());
  const { log } = openTestLog();
  const link = await connectNats({ ...noNatsSettings, natsUrl: nats.url }, log);
  onTestFinished(() => link.close());
  const interest = openFleetInterest({ telling: openFleetTelling(link, log), replica: 'asks', log });
  const here: string[] = [];
  const near = { hasMember: false };
  const fleet = {
    nats,
    link,
    interest,
    /** Given to members beside the publisher. */
    here,
    near,
    takers: openShareTakers<StateMessage>({
      link,
      interest,
      replica: 'asks',
      encode: (message) => encodeStateHeaders(message),
      hasShare: () => near.hasMember,
      onGiven: () => false,
      giveHere({ payload }) {
        if (near.hasMember) here.push(payload.toString());
        return near.hasMember;
      },
    }),
  };
  fleet.takers.start();
  interest.start();
  onTestFinished(() => {
    fleet.takers.close();
    interest.close();
  });
  const played = await Promise.all(names.map((name) => play(name, nats.url)));
  for (const each of played) await each.announce();
  await until(() => (interest.shares.get(share)?.length ?? 0) === names.length);
  return { ...fleet, played };
}

async function play(name: string, url: string): Promise<Played> {
  const played: Played = {
    name,
    asked: 0,
    given: [],
    answers: true,
    hasMembers: true,
    connection: undefined as never,
    async connect() {
      played.connection = await connect({ servers: url, reconnect: false });
      const { connection } = played;
      onTestFinished(() => connection.close());
      connection.subscribe(`svc-mqtt.taker.${name}`, {
        callback(_error, question) {
          played.asked += 1;
          if (played.answers) question.respond(played.hasMembers ? '' : 'none');
        },
      });
      connection.subscribe(`svc-mqtt.taker.${name}.jobs.a`, {
        callback(_error, given) {
          if (played.hasMembers) played.given.push(given.string());
          if (played.answers) given.respond(played.hasMembers ? '' : 'none');
        },
      });
      await connection.flush();
    },
    async announce(more = {}) {
      const said = { replica: name, prefixes: [], shares: [share], asks: false, answers: true, ...more };
      played.connection.publish('svc-mqtt.interest', JSON.stringify(said));
      await played.connection.flush();
    },
  };
  await played.connect();
  return played;
}

test('all that wait for one replica ask it together, and those who are gone are passed over until they are heard again', async () => {
  const { takers, interest, played } = await openFleet(['a', 'b', 'c']);
  const [a, b, c] = played as [Played, Played, Played];
  await Promise.all(Array.from({ length: 100 }, () => takers.confirm(message('x'), [[share, 'a']])));
  expect(a.asked).toBe(1);
  await a.connection.close();
  await b.connection.close();
  await takers.confirm(message('1'), [[share, 'a']]);
  expect(c.given).toEqual(['1']);
  for (let number = 0; number < 3; number += 1) await takers.confirm(message('1'), [[share, 'b']]);
  expect(c.given).toEqual(['1', '1', '1', '1']);
  expect(interest.shares.get(share)).toEqual(['c']);
  expect(['a', 'b', 'c'].map(interest.answers)).toEqual([false, false, true]);

  // Where all are gone each may come back for what is stored.
  await c.connection.close();
  await takers.confirm(message('2'), [[share, 'c']]);
  expect(interest.shares.get(share)).toEqual(['a', 'b', 'c']);
  await b.connect();
  await b.announce();
  await until(() => interest.answers('b'));
  expect(interest.shares.get(share)).toEqual(['b']);
});

test.each([1, 2] as const)(
  'with QoS %i one whose members have left is passed over, before and after it is asked',
  async (qos) => {
    const { takers, interest, played } = await openFleet(['a', 'b', 'c']);
    const [a, b, c] = played as [Played, Played, Played];
    a.hasMembers = false;
    b.hasMembers = false;
    for (const number of ['1', '2']) await takers.confirm(message(number, qos), [[share, 'a']]);
    expect([a.given, b.given, c.given]).toEqual([[], [], ['1', '2']]);
    // They are there all the same.
    expect(['a', 'b', 'c'].map(interest.answers)).toEqual([true, true, true]);
  },
);

test('one that is silent keeps what has QoS 2, and what has QoS 1 goes to another one, too', async () => {
  const { takers, interest, near, here, played } = await openFleet(['a', 'b']);
  const [a, b] = played as [Played, Played];
  a.answers = false;
  await Promise.all([
    takers.confirm(message('once'), [[share, 'a']]),
    takers.confirm(message('exactly once', 2), [[share, 'a']]),
  ]);
  // With QoS 2 it is asked again.
  expect([a.asked, b.given]).toEqual([2, ['once']]);
  expect(interest.answers('a')).toBe(false);
  // What it may have been given it keeps as well.
  b.answers = false;
  await a.connection.close();
  await takers.confirm(message('given', 2), [[share, 'a']]);
  expect(b.given).toEqual(['once', 'given']);
  near.hasMember = true;
  await takers.confirm(message('here'), [[share, 'a']]);
  expect(here).toEqual(['here']);
});

test('with QoS 2 one that dies with the question is asked again, and another one has the message', async () => {
  const { takers, played } = await openFleet(['a', 'b']);
  const [a, b] = played as [Played, Played];
  a.answers = false;
  const confirmed = takers.confirm(message('1', 2), [[share, 'a']]);
  await until(() => a.asked === 1);
  await a.connection.close();
  await confirmed;
  expect(b.given).toEqual(['1']);
});

test('with QoS 2 one that is between two connections is waited for', async () => {
  const { takers, played } = await openFleet(['a', 'b']);
  const [a, b] = played as [Played, Played];
  await a.connection.close();
  const confirmed = takers.confirm(message('exactly once', 2), [[share, 'a']]);
  await delay(600);
  await a.connect();
  await confirmed;
  expect([a.asked, a.given, b.given]).toEqual([1, [], []]);
});

test('what is asked when the connection to NATS ends is asked again on the next one', async () => {
  const { takers, nats, interest, played } = await openFleet(['a', 'b']);
  const [a, b] = played as [Played, Played];
  a.answers = false;
  const confirmed = takers.confirm(message('1'), [[share, 'a']]);
  await until(() => a.asked === 1);
  await nats.kill();
  expect(await takers.drain(100)).toBe(1);
  await nats.restart();
  a.answers = true;
  await a.connect();
  await confirmed;
  expect([await takers.drain(0), b.given, interest.answers('a')]).toEqual([0, [], true]);
});

test('closing waits for nobody', async () => {
  const { takers, link, nats } = await openFleet(['a']);
  await nats.pause();
  onTestFinished(() => nats.resume());
  const confirmed = takers.confirm(message('1'), [[share, 'a']]);
  const beganAtMs = performance.now();
  expect(await takers.drain(50)).toBe(1);
  takers.close();
  nats.resume();
  await link.close();
  await confirmed;
  expect(performance.now() - beganAtMs).toBeLessThan(5_000);
});

test('one of an earlier version, or whose name does not fit a subject, is not asked', async () => {
  const { interest, played } = await openFleet(['a']);
  const [a] = played as [Played];
  await a.announce({ replica: 'old', answers: undefined });
  await a.announce({ replica: 'of two words' });
  await until(() => interest.shares.get(share)?.length === 3);
  expect(['a', 'old', 'of two words', 'unknown'].map(interest.answers)).toEqual([true, false, false, false]);
});

test('that the last member of a share has left is told at once', async () => {
  const { interest, nats } = await openFleet([]);
  const observer = await connect({ servers: nats.url });
  onTestFinished(() => observer.close());
  const told: string[][] = [];
  observer.subscribe('svc-mqtt.interest', {
    callback: (_error, said) => void told.push(said.json<{ shares: string[] }>().shares),
  });
  await observer.flush();
  interest.add('jobs/#', share);
  await until(() => told.at(-1)?.[0] === share);
  const beganAtMs = performance.now();
  interest.remove('jobs/#', share);
  await until(() => told.at(-1)?.length === 0);
  expect(performance.now() - beganAtMs).toBeLessThan(2_000);
});
