import fc from 'fast-check';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { newForwarderCounters, type UplinkMessage } from '../../src/server/forward/forwarder.js';
import { openInFlight } from '../../src/server/forward/lanes/in-flight.js';

interface Sent {
  readonly name: string;
  readonly token: number;
}

const refused = { cause: 'full', detail: 'maximum messages exceeded', permanent: false };

/** Messages in flight over an outlet that only remembers what it was given. */
function openBench(
  options: {
    maxInFlight?: number;
    ackTimeoutMs?: number;
    /** Messages that the outlet refuses for good instead of sending them. */
    refuses?: (name: string) => boolean;
  } = {},
) {
  const counters = newForwarderCounters();
  const logged: { event: string }[] = [];
  const sent: Sent[] = [];
  const stored: string[] = [];
  const refusals: string[] = [];
  const compacted: string[] = [];
  const outlet = {
    open: true,
    group: 0,
    lost: true,
    /** What is given is held, until it may depart. */
    holds: false,
    problem: undefined as string | undefined,
    problemOf: (): string | undefined => outlet.problem,
    identify(message: UplinkMessage) {
      message.messageId ??= 'again';
    },
    isLost: () => outlet.lost,
    groupOf: () => outlet.group,
    send(message: UplinkMessage, token: number) {
      const name = Buffer.from(message.subject).toString();
      if (options.refuses?.(name) === true) {
        return { ...refused, detail: 'too large', permanent: true };
      }
      sent.push({ name, token });
      return !outlet.holds;
    },
  };
  const inFlight = openInFlight({
    outlet,
    sendUnconfirmed: () => {},
    ackTimeoutMs: options.ackTimeoutMs ?? 5_000,
    counters,
    log: pino({ level: 'info' }, { write: (line: string) => logged.push(JSON.parse(line)) }),
    full: () => inFlight.count >= (options.maxInFlight ?? 1_000),
    onRoom: () => {},
  });
  let nowMs = performance.now();
  return {
    inFlight,
    counters,
    outlet,
    stored,
    refusals,
    compacted,
    logged,
    openLane: () => inFlight.openLane(),
    message: (name: string): UplinkMessage => ({
      subject: Buffer.from(name),
      headers: new Uint8Array(10),
      payload: new Uint8Array(5),
      confirm: true,
      messageId: undefined,
      batchable: true,
      onStored: () => stored.push(name),
      compact: () => compacted.push(name),
      renew: () => undefined,
      onRefused: (reason) => refusals.push(`${name}: ${reason}`),
    }),
    /** What was sent since the last call. */
    takeSent: () => sent.splice(0),
    names: () => sent.splice(0).map(({ name }) => name),
    pass(ms: number) {
      nowMs += ms;
      inFlight.tick(nowMs);
    },
  };
}

function tokenOf(sent: readonly Sent[], name: string): number {
  return sent.find((entry) => entry.name === name)?.token ?? -1;
}

describe('messages in flight', () => {
  it('are held against the stream once more when they leave after they were held', () => {
    const bench = openBench();
    bench.outlet.holds = true;
    bench.openLane().publish(bench.message('a'));
    const token = tokenOf(bench.takeSent(), 'a');
    // Meanwhile the stream is not worth any more what was promised.
    bench.outlet.problem = 'the stream does not sync';
    expect(bench.inFlight.departed(token)).toBe(false);
    expect(bench.inFlight.underWay).toBe(0);
    bench.outlet.problem = undefined;
    bench.outlet.holds = false;
    bench.pass(1_000);
    expect(bench.names()).toEqual(['a']);
  });

  it('reports each message once, however often its confirmation comes', () => {
    const bench = openBench();
    bench.openLane().publish(bench.message('a'));
    const token = tokenOf(bench.takeSent(), 'a');
    bench.inFlight.settleStored(token);
    bench.inFlight.settleStored(token);
    expect(bench.stored).toEqual(['a']);
    expect(bench.inFlight.count).toBe(0);
    expect(bench.inFlight.bytes).toBe(0);
  });

  it('compacts what has waited for a whole tick, sent or not, and nothing that is about to be stored', () => {
    const bench = openBench();
    const lane = bench.openLane();
    bench.pass(100);
    lane.publish(bench.message('a'));
    bench.pass(100);
    lane.publish(bench.message('b'));
    expect(bench.compacted).toEqual([]);
    bench.pass(100);
    expect(bench.compacted).toEqual(['a']);
    bench.outlet.open = false;
    lane.publish(bench.message('c'));
    bench.pass(100);
    expect(bench.compacted).toEqual(['a', 'a', 'b', 'c']);
  });

  it('keeps a lane out of the next batch until all that is in the one before is settled', () => {
    const bench = openBench();
    const [lane, other] = [bench.openLane(), bench.openLane()];
    bench.outlet.group = 1;
    lane.publish(bench.message('a'));
    lane.publish(bench.message('b'));
    const first = bench.takeSent();
    bench.outlet.group = 2;
    for (const name of ['c', 'd']) lane.publish(bench.message(name));
    other.publish(bench.message('x'));
    expect(bench.names()).toEqual(['x']);
    bench.inFlight.settleStored(tokenOf(first, 'a'));
    bench.pass(100);
    expect(bench.names()).toEqual([]);
    bench.inFlight.settleStored(tokenOf(first, 'b'));
    expect(bench.names()).toEqual(['c', 'd']);
    bench.outlet.group = 0;
    lane.publish(bench.message('e'));
    expect(bench.names()).toEqual([]);
    bench.inFlight.loseAll();
    bench.pass(100);
    expect(bench.names().sort()).toEqual(['c', 'x']);
  });

  it('sends nothing that waits behind a message that is refused for ever: its client sends it again, in order', () => {
    const bench = openBench();
    const lane = bench.openLane();
    bench.outlet.group = 1;
    for (const name of ['a', 'big']) lane.publish(bench.message(name));
    const first = bench.takeSent();
    bench.outlet.group = 2;
    for (const name of ['c', 'd']) lane.publish(bench.message(name));
    bench.inFlight.settleRefused(tokenOf(first, 'big'), { ...refused, detail: 'too large', permanent: true });
    expect(bench.refusals).toEqual([
      'big: too large',
      'c: a message before it was refused',
      'd: a message before it was refused',
    ]);
    expect(lane.inFlight).toBe(1);
    // Its will comes behind what was sent.
    lane.publish(bench.message('will'));
    bench.inFlight.settleStored(tokenOf(first, 'a'));
    expect(bench.names()).toEqual(['will']);
  });

  it('sends what a client that is gone left behind a message that is refused for ever', () => {
    const bench = openBench();
    const lane = bench.openLane();
    bench.outlet.group = 1;
    lane.publish(bench.message('big'));
    const first = bench.takeSent();
    bench.outlet.group = 2;
    lane.publish(bench.message('b'));
    lane.close();
    bench.inFlight.settleRefused(tokenOf(first, 'big'), { ...refused, detail: 'too large', permanent: true });
    expect(bench.names()).toEqual(['b']);
  });

  it('sends what nobody sends again behind a message that is refused for ever: a will, and what a lost connection left', () => {
    const bench = openBench();
    const lane = bench.openLane();
    bench.outlet.group = 1;
    lane.publish(bench.message('big'));
    const first = bench.takeSent();
    bench.outlet.group = 2;
    lane.publish({ ...bench.message('left'), comesAgain: false });
    lane.publish({ ...bench.message('again'), comesAgain: true });
    lane.publish({ ...bench.message('will'), comesAgain: false });
    bench.inFlight.settleRefused(tokenOf(first, 'big'), { ...refused, detail: 'too large', permanent: true });
    expect(bench.refusals).toEqual(['big: too large', 'again: a message before it was refused']);
    expect(bench.names()).toEqual(['left', 'will']);
  });

  it('lets a late confirmation of an earlier message settle no later one', () => {
    const bench = openBench();
    const lane = bench.openLane();
    const tokens = new Set<number>();
    for (let round = 0; round < 100; round += 1) {
      lane.publish(bench.message(`m${round}`));
      const token = tokenOf(bench.takeSent(), `m${round}`);
      for (const earlier of tokens) bench.inFlight.settleStored(earlier);
      for (const earlier of tokens) bench.inFlight.settleRefused(earlier, refused);
      expect(bench.stored.length).toBe(round);
      tokens.add(token);
      bench.inFlight.settleStored(token);
    }
    expect(tokens.size).toBe(100);
  });

  it('takes a confirmation that comes after the timeout, and does not send again', () => {
    const bench = openBench({ ackTimeoutMs: 1_000 });
    bench.openLane().publish(bench.message('a'));
    const token = tokenOf(bench.takeSent(), 'a');
    bench.pass(1_001);
    bench.inFlight.settleStored(token);
    bench.pass(60_000);
    expect(bench.stored).toEqual(['a']);
    expect(bench.names()).toEqual([]);
    expect(bench.inFlight.holdingLanes).toBe(0);
  });

  describe('late answers', () => {
    it('does not send again what is only late, sends nothing more of its client, and goes on when it is stored', () => {
      const bench = openBench({ ackTimeoutMs: 1_000 });
      bench.outlet.lost = false;
      const lane = bench.openLane();
      lane.publish(bench.message('a'));
      lane.publish(bench.message('b'));
      const first = bench.takeSent();
      bench.pass(1_001);
      lane.publish(bench.message('c'));
      bench.pass(60_000);
      expect(bench.names()).toEqual([]);
      expect(lane.trouble).toMatchObject({ cause: 'timeout', subject: 'a' });
      for (const { token } of first) bench.inFlight.settleStored(token);
      bench.pass(200);
      const next = bench.takeSent();
      expect(next.map(({ name }) => name)).toEqual(['c']);
      bench.inFlight.settleStored(tokenOf(next, 'c'));
      expect(bench.stored).toEqual(['a', 'b', 'c']);
      expect(bench.counters.retriedTimeout).toBe(0);
      expect(lane.trouble).toBeUndefined();
    });

    it('sends again, with an identifier, what the stream has overtaken', () => {
      const bench = openBench({ ackTimeoutMs: 1_000 });
      bench.outlet.lost = false;
      const lost = bench.message('a');
      bench.openLane().publish(lost);
      bench.pass(100);
      bench.openLane().publish(bench.message('b'));
      bench.inFlight.settleStored(tokenOf(bench.takeSent(), 'b'));
      bench.pass(500);
      expect(bench.names()).toEqual([]);
      bench.pass(500);
      bench.pass(200);
      expect(bench.names()).toEqual(['a']);
      expect(lost.messageId).toBe('again');
      expect(bench.counters.retriedTimeout).toBe(1);
    });

    it.each([
      ['that has an identifier, and may be one of before', { messageId: 'x' }],
      ['of another stream', { batchable: false }],
      ['sent in the same moment', undefined],
    ])('is not overtaken by a message %s', (_what, parts) => {
      const bench = openBench({ ackTimeoutMs: 1_000 });
      bench.outlet.lost = false;
      bench.openLane().publish(bench.message('a'));
      if (parts !== undefined) bench.pass(100);
      bench.openLane().publish({ ...bench.message('b'), ...parts });
      bench.inFlight.settleStored(tokenOf(bench.takeSent(), 'b'));
      bench.pass(2_000);
      bench.pass(200);
      expect(bench.names()).toEqual([]);
    });
  });

  it('has one message of each client under way to a stream that is silent, and as many as before to another one', () => {
    const bench = openBench({ ackTimeoutMs: 60_000 });
    bench.openLane().publish(bench.message('first'));
    bench.pass(1_100);
    const [watched, other] = [bench.openLane(), bench.openLane()];
    for (const name of ['a', 'b', 'c']) watched.publish(bench.message(name));
    for (const name of ['x', 'y']) other.publish({ ...bench.message(name), batchable: false });
    const sent = bench.takeSent();
    expect(sent.map(({ name }) => name)).toEqual(['first', 'a', 'x', 'y']);
    // It speaks again, and what it was given in its silence may be lost: that is settled first.
    bench.inFlight.settleStored(tokenOf(sent, 'first'));
    bench.pass(200);
    expect(bench.names()).toEqual([]);
    bench.inFlight.settleStored(tokenOf(sent, 'a'));
    expect(bench.names()).toEqual(['b', 'c']);
  });

  it('sends nothing behind a message of which another stream says nothing for a second', () => {
    const bench = openBench({ ackTimeoutMs: 60_000 });
    const lane = bench.openLane();
    lane.publish({ ...bench.message('x'), batchable: false });
    bench.pass(1_100);
    lane.publish({ ...bench.message('y'), batchable: false });
    const sent = bench.takeSent();
    expect(sent.map(({ name }) => name)).toEqual(['x']);
    bench.inFlight.settleStored(tokenOf(sent, 'x'));
    expect(bench.names()).toEqual(['y']);
  });

  it('holds a lane after a refusal until all is settled, tries the oldest alone, then sends the rest in order', () => {
    const bench = openBench();
    const lane = bench.openLane();
    for (const name of ['a', 'b', 'c', 'd']) lane.publish(bench.message(name));
    const first = bench.takeSent();
    bench.inFlight.settleRefused(tokenOf(first, 'c'), refused);
    bench.inFlight.settleRefused(tokenOf(first, 'a'), refused);
    lane.publish(bench.message('e'));
    bench.pass(4_000);
    expect(bench.names()).toEqual([]);
    bench.inFlight.settleStored(tokenOf(first, 'b'));
    bench.inFlight.settleStored(tokenOf(first, 'd'));
    bench.pass(1);
    const probe = bench.takeSent();
    expect(probe.map(({ name }) => name)).toEqual(['a']);
    lane.publish(bench.message('f'));
    bench.pass(1);
    expect(bench.names()).toEqual([]);
    bench.inFlight.settleStored(tokenOf(probe, 'a'));
    expect(bench.names()).toEqual(['c', 'e', 'f']);
    expect(lane.inFlight).toBe(3);
  });

  it('does not stop other lanes', () => {
    const bench = openBench();
    const [one, other] = [bench.openLane(), bench.openLane()];
    one.publish(bench.message('a'));
    bench.inFlight.settleRefused(tokenOf(bench.takeSent(), 'a'), refused);
    one.publish(bench.message('b'));
    other.publish(bench.message('c'));
    expect(bench.names()).toEqual(['c']);
  });

  it('tries less and less often, at least every five seconds, for as long as it is refused', () => {
    const bench = openBench();
    bench.openLane().publish(bench.message('a'));
    const times: number[] = [];
    let elapsedMs = 0;
    for (; elapsedMs < 60_000; elapsedMs += 50) {
      for (const { token } of bench.takeSent()) {
        times.push(elapsedMs);
        bench.inFlight.settleRefused(token, refused);
      }
      bench.pass(50);
    }
    const pauses = times.slice(1).map((time, index) => time - (times[index] ?? 0));
    expect(pauses.slice(0, 4)).toEqual([100, 200, 400, 800]);
    expect(Math.max(...pauses)).toBe(5_000);
    expect(bench.logged.map(({ event }) => event)).toEqual(['uplink_not_stored']);
    expect(bench.counters.retriedRefused).toBe(times.length);
  });

  it('logs a cause again when it has gone on for ten minutes', () => {
    const bench = openBench();
    bench.openLane().publish(bench.message('a'));
    for (let elapsedMs = 0; elapsedMs < 1_500_000; elapsedMs += 5_000) {
      for (const { token } of bench.takeSent()) bench.inFlight.settleRefused(token, refused);
      bench.pass(5_000);
    }
    expect(bench.logged.map(({ event }) => event)).toEqual(Array(3).fill('uplink_not_stored'));
  });

  it('logs a cause once and its end once', () => {
    const bench = openBench();
    const lane = bench.openLane();
    for (let round = 0; round < 3; round += 1) {
      lane.publish(bench.message(`m${round}`));
      bench.inFlight.settleRefused(tokenOf(bench.takeSent(), `m${round}`), refused);
      bench.pass(500);
      bench.inFlight.settleStored(tokenOf(bench.takeSent(), `m${round}`));
    }
    bench.pass(3_000);
    bench.pass(3_000);
    expect(bench.logged.map(({ event }) => event)).toEqual(['uplink_not_stored', 'uplink_stored_again']);
  });

  describe('nothing is stored for anybody', () => {
    const noStream = { cause: 'no_stream', detail: 'no stream takes the subject', permanent: false };
    /** A client whose message is refused whenever it is tried. */
    const openStuck = (bench: ReturnType<typeof openBench>, name: string, batchable = true) =>
      bench.openLane().publish({ ...bench.message(name), batchable });
    const fail = (bench: ReturnType<typeof openBench>, refusal = noStream) => {
      for (let round = 0; round < 20; round += 1) {
        for (const { token } of bench.takeSent()) bench.inFlight.settleRefused(token, refusal);
        bench.pass(500);
      }
    };

    it('when one client waits, and the reason is not the subject of its messages', () => {
      const bench = openBench();
      openStuck(bench, 'a');
      fail(bench, refused);
      expect(bench.inFlight.standstill).toMatchObject({ reason: refused.detail });
      openStuck(bench, 'b');
      const [{ token }] = bench.takeSent() as [Sent];
      bench.inFlight.settleStored(token);
      expect(bench.inFlight.standstill).toBeUndefined();
    });

    it('when two clients wait, but not when one does, for a reason that can be the subject of its messages', () => {
      const bench = openBench();
      openStuck(bench, 'a');
      fail(bench);
      expect(bench.inFlight.standstill).toBeUndefined();
      openStuck(bench, 'b');
      fail(bench);
      expect(bench.inFlight.standstill).toMatchObject({ reason: noStream.detail });
    });

    it('but not when two clients wait that waited while messages of another were stored', () => {
      const bench = openBench();
      for (const name of ['a', 'b']) openStuck(bench, name);
      fail(bench);
      const lane = bench.openLane();
      lane.publish(bench.message('c'));
      bench.inFlight.settleStored(tokenOf(bench.takeSent(), 'c'));
      fail(bench);
      expect(bench.inFlight.holdingLanes).toBe(2);
      expect(bench.inFlight.standstill).toBeUndefined();
    });

    it('but not when any number of clients wait for a stream that takes the subject of their policy', () => {
      const bench = openBench();
      for (const name of ['a', 'b', 'c']) openStuck(bench, name, false);
      fail(bench);
      expect(bench.inFlight.holdingLanes).toBe(3);
      expect(bench.inFlight.standstill).toBeUndefined();
      fail(bench, refused);
      expect(bench.inFlight.standstill).toMatchObject({ reason: refused.detail });
    });
  });

  it('says why a lane waits and since when, and what lanes wait for together, until something is stored', () => {
    const bench = openBench({ ackTimeoutMs: 1_000 });
    const [one, two, three] = [bench.openLane(), bench.openLane(), bench.openLane()];
    for (const [index, lane] of [one, two, three].entries()) lane.publish(bench.message(`subject.${index}`));
    expect(one.trouble).toBeUndefined();
    expect(bench.inFlight.troubles()).toEqual([]);

    bench.pass(100);
    const sent = bench.takeSent();
    bench.inFlight.settleRefused(tokenOf(sent, 'subject.0'), refused);
    const { sinceMs = Number.NaN } = one.trouble ?? {};
    bench.pass(1_000);
    expect(one.trouble).toEqual({ cause: 'full', detail: refused.detail, subject: 'subject.0', sinceMs });
    expect(two.trouble).toMatchObject({ cause: 'timeout', subject: 'subject.1' });
    expect(bench.inFlight.troubles()).toEqual([
      expect.objectContaining({ cause: 'timeout', lanes: 2 }),
      { cause: 'full', detail: refused.detail, lanes: 1, sinceMs },
    ]);
    // Refused again: it waits as long as before.
    bench.inFlight.settleRefused(tokenOf(bench.takeSent(), 'subject.0'), refused);
    expect(one.trouble?.sinceMs).toBe(sinceMs);

    bench.outlet.open = false;
    bench.pass(100);
    expect(one.trouble).toMatchObject({ cause: 'nats_away', subject: undefined });
    expect(bench.openLane().trouble).toBeUndefined();
    bench.outlet.open = true;
    bench.pass(10_000);
    for (const { token } of bench.takeSent()) bench.inFlight.settleStored(token);
    expect([one, two, three].map(({ trouble }) => trouble)).toEqual([undefined, undefined, undefined]);
    expect(bench.inFlight.troubles()).toEqual([]);
  });

  it('forgets what can never be stored, says so, and takes what was sent behind it as it comes', () => {
    const bench = openBench();
    const lane = bench.openLane();
    lane.publish(bench.message('big'));
    lane.publish(bench.message('next'));
    const sent = bench.takeSent();
    bench.inFlight.settleRefused(tokenOf(sent, 'big'), { ...refused, detail: 'too large', permanent: true });
    expect(bench.refusals).toEqual(['big: too large']);
    bench.inFlight.settleStored(tokenOf(sent, 'next'));
    expect(bench.stored).toEqual(['next']);
    expect(bench.counters).toMatchObject({ refused: 1, stored: 1 });
    expect(bench.inFlight.count).toBe(0);
  });

  it('stops at one that can never be sent while it sends what waited', () => {
    const bench = openBench({ refuses: (name) => name.startsWith('big') });
    const lane = bench.openLane();
    bench.outlet.open = false;
    for (const name of ['a', 'b', 'big', 'c']) lane.publish(bench.message(name));
    bench.outlet.open = true;
    bench.pass(1);
    const sent = bench.takeSent();
    expect(sent.map(({ name }) => name)).toEqual(['a', 'b']);
    expect(bench.refusals).toEqual(['big: too large', 'c: a message before it was refused']);
    for (const { token } of sent) bench.inFlight.settleStored(token);
    expect(bench.inFlight.count).toBe(0);
    // The lane goes on after a failure.
    lane.publish(bench.message('d'));
    bench.inFlight.settleRefused(tokenOf(bench.takeSent(), 'd'), refused);
    bench.pass(60_000);
    expect(bench.names()).toEqual(['d']);
  });

  it('refuses those that can never be sent and that a client left, and sends each other one once', () => {
    const bench = openBench({ refuses: (name) => name.startsWith('big') });
    const lane = bench.openLane();
    bench.outlet.open = false;
    for (const name of ['big1', 'big2', 'a', 'big3', 'b']) lane.publish(bench.message(name));
    lane.close();
    bench.outlet.open = true;
    bench.pass(1);
    const sent = bench.takeSent();
    expect(sent.map(({ name }) => name)).toEqual(['a', 'b']);
    expect(bench.refusals).toEqual(['big1: too large', 'big2: too large', 'big3: too large']);
    for (const { token } of sent) bench.inFlight.settleStored(token);
    expect(bench.inFlight.count).toBe(0);
    // The lane goes on after a failure.
    lane.publish(bench.message('c'));
    bench.inFlight.settleRefused(tokenOf(bench.takeSent(), 'c'), refused);
    bench.pass(60_000);
    expect(bench.names()).toEqual(['c']);
  });

  it('tells of no refusal of what may be stored: the stream is storing it, or it was lost from sight before', () => {
    const bench = openBench();
    const message = { ...bench.message('a'), tellsRefusal: true };
    const refuse = (refusal: typeof refused) =>
      bench.inFlight.settleRefused(tokenOf(bench.takeSent(), 'a'), refusal);
    bench.openLane().publish(message);
    refuse({ ...refused, cause: '10158 duplicate message id is in process' });
    bench.pass(10_000);
    refuse(refused);
    bench.pass(10_000);
    expect([bench.names(), bench.refusals]).toEqual([['a'], []]);
  });

  it('tells of no refusal of what was lost from sight when it was not to be told, and of one of what was refused then', () => {
    const bench = openBench();
    const lost = Object.assign(bench.message('lost'), { tellsRefusal: false });
    const known = Object.assign(bench.message('known'), { tellsRefusal: false });
    for (const message of [lost, known]) bench.openLane().publish(message);
    const first = bench.takeSent();
    bench.inFlight.settleRefused(tokenOf(first, 'known'), refused);
    bench.inFlight.loseAll();
    for (const message of [lost, known]) message.tellsRefusal = true;
    bench.pass(10_000);
    for (const { token } of bench.takeSent()) bench.inFlight.settleRefused(token, refused);
    expect(bench.refusals).toEqual(['known: maximum messages exceeded']);
    bench.pass(10_000);
    expect(bench.names()).toEqual(['lost']);
  });

  it('sends everything again, in order, after the connection was lost', () => {
    const bench = openBench();
    const lane = bench.openLane();
    for (const name of ['a', 'b', 'c']) lane.publish(bench.message(name));
    const first = bench.takeSent();
    bench.inFlight.settleStored(tokenOf(first, 'b'));
    bench.outlet.open = false;
    bench.inFlight.loseAll();
    lane.publish(bench.message('d'));
    bench.pass(60_000);
    expect(bench.names()).toEqual([]);
    bench.outlet.open = true;
    bench.pass(1);
    const probe = bench.takeSent();
    expect(probe.map(({ name }) => name)).toEqual(['a']);
    bench.inFlight.settleStored(tokenOf(probe, 'a'));
    expect(bench.names()).toEqual(['c', 'd']);
    expect(bench.counters.retriedReconnect).toBe(2);
  });

  it('sends nothing and times nothing out while the outlet is closed', () => {
    const bench = openBench({ ackTimeoutMs: 1_000 });
    const lane = bench.openLane();
    lane.publish(bench.message('a'));
    const first = bench.takeSent();
    bench.outlet.open = false;
    lane.publish(bench.message('b'));
    bench.pass(60_000);
    expect(bench.counters.retriedTimeout).toBe(0);
    bench.outlet.open = true;
    bench.inFlight.restartTimeouts();
    bench.pass(1);
    // The one before may be lost: the leader may have changed while its server did not answer.
    expect(bench.names()).toEqual([]);
    bench.inFlight.settleStored(tokenOf(first, 'a'));
    expect(bench.stored).toEqual(['a']);
    expect(bench.names()).toEqual(['b']);
  });

  it('gives up what absent clients left behind and NATS refuses, only at the bound', () => {
    const bench = openBench({ maxInFlight: 3 });
    const [gone, present] = [bench.openLane(), bench.openLane()];
    gone.publish(bench.message('a'));
    gone.publish(bench.message('b'));
    for (const { token } of bench.takeSent()) bench.inFlight.settleRefused(token, refused);
    gone.close();
    bench.pass(10);
    expect(bench.inFlight.count).toBe(2);
    present.publish(bench.message('c'));
    bench.pass(10);
    expect(bench.counters.abandoned).toBe(2);
    expect(bench.inFlight.count).toBe(1);
    bench.pass(200);
    expect(bench.inFlight.holdingLanes).toBe(0);
  });

  it('sends a message that the outlet could not take', () => {
    const bench = openBench();
    const { send } = bench.outlet;
    bench.outlet.send = () => {
      throw new Error('closed');
    };
    bench.openLane().publish(bench.message('a'));
    bench.outlet.send = send;
    bench.pass(200);
    expect(bench.names()).toEqual(['a']);
  });

  it('stores every message of every lane, whatever happens to the answers', () => {
    const events = fc.array(
      fc.oneof(
        { weight: 6, arbitrary: fc.record({ kind: fc.constant('publish' as const), lane: fc.nat(2) }) },
        { weight: 4, arbitrary: fc.record({ kind: fc.constant('stored' as const), pick: fc.nat(50) }) },
        { weight: 3, arbitrary: fc.record({ kind: fc.constant('refused' as const), pick: fc.nat(50) }) },
        { weight: 3, arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(3_000) }) },
        { weight: 2, arbitrary: fc.record({ kind: fc.constant('turn' as const), group: fc.nat(3) }) },
        { weight: 1, arbitrary: fc.record({ kind: fc.constant('lost' as const) }) },
        { weight: 1, arbitrary: fc.record({ kind: fc.constant('back' as const) }) },
      ),
      { maxLength: 80 },
    );
    fc.assert(
      fc.property(events, (script) => {
        const bench = openBench({ ackTimeoutMs: 2_000 });
        const lanes = [bench.openLane(), bench.openLane(), bench.openLane()];
        const all: Sent[] = [];
        let published = 0;
        for (const event of script) {
          all.push(...bench.takeSent());
          if (event.kind === 'publish') {
            published += 1;
            lanes[event.lane]?.publish(bench.message(`${event.lane}.${published}`));
          } else if (event.kind === 'stored') {
            bench.inFlight.settleStored(all[event.pick]?.token ?? -1);
          } else if (event.kind === 'refused') {
            bench.inFlight.settleRefused(all[event.pick]?.token ?? -1, refused);
          } else if (event.kind === 'pass') {
            bench.pass(event.ms);
          } else if (event.kind === 'turn') {
            bench.outlet.group = event.group;
          } else if (event.kind === 'lost') {
            bench.outlet.open = false;
            bench.inFlight.loseAll();
          } else {
            bench.outlet.open = true;
          }
          expect(bench.inFlight.count).toBe(published - bench.stored.length);
        }
        // From here on all is well: everything must be stored, and nothing sent in vain.
        bench.outlet.open = true;
        for (let round = 0; round < 20 && bench.inFlight.count > 0; round += 1) {
          all.push(...bench.takeSent());
          for (const { token } of all) bench.inFlight.settleStored(token);
          bench.pass(6_000);
        }
        expect(bench.stored.length).toBe(published);
        expect(new Set(bench.stored).size).toBe(published);
        bench.pass(6_000);
        expect(bench.inFlight).toMatchObject({ count: 0, bytes: 0, holdingLanes: 0 });
        expect(lanes.map((lane) => lane.inFlight)).toEqual([0, 0, 0]);
      }),
      { numRuns: 1_000 },
    );
  });

  it('keeps the order of a lane over a lost connection, whatever was confirmed before', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.array(fc.nat(39)), (count, confirmed) => {
        const bench = openBench();
        const lane = bench.openLane();
        for (let index = 0; index < count; index += 1) lane.publish(bench.message(String(index)));
        const first = bench.takeSent();
        for (const index of confirmed) bench.inFlight.settleStored(first[index]?.token ?? -1);
        bench.outlet.open = false;
        bench.inFlight.loseAll();
        bench.outlet.open = true;
        bench.pass(1);
        const again = bench.takeSent();
        for (const { token } of again) bench.inFlight.settleStored(token);
        again.push(...bench.takeSent());
        const expected = Array.from({ length: count }, (_, index) => index).filter(
          (index) => !confirmed.includes(index),
        );
        expect(again.map(({ name }) => Number(name))).toEqual(expected);
      }),
    );
  });
});
