import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { openTurns } from '../../src/server/http/turns.js';
import { openIdleFleet } from '../support/idle-fleet.js';
import { call, startTestApi } from './support.js';

describe('turns', () => {
  let nowMs = 0;
  beforeEach(() => {
    nowMs = 0;
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
  });
  afterEach(() => {
    vi.restoreAllMocks();
    vi.useRealTimers();
  });

  /** Lets time pass, in which what is due happens. */
  const pass = (ms: number) => {
    for (let passed = 0; passed < ms; passed += 1) {
      nowMs += 1;
      vi.advanceTimersByTime(1);
    }
  };
  const isHere = () => false;
  const tooMany = { problem: { status: 429 }, retryAfterSec: 1 };

  test('give work a fifth of the time', () => {
    const turns = openTurns(16);
    const done: { startMs: number; endMs: number }[] = [];
    for (const costMs of [10, 50, 1, 20, 20]) {
      void turns.take('a', isHere, () => {
        const startMs = nowMs;
        nowMs += costMs;
        done.push({ startMs, endMs: nowMs });
      });
    }
    expect(done).toHaveLength(1);
    pass(1_000);
    expect(done).toHaveLength(5);
    for (const [at, { startMs, endMs }] of done.entries()) {
      const next = done[at + 1];
      if (next !== undefined) expect(next.startMs - endMs).toBe((endMs - startMs) * 4);
    }
  });

  test('let short work be done at once, however often', () => {
    const turns = openTurns(0);
    let done = 0;
    for (let count = 0; count < 100; count += 1) {
      void turns.take('a', isHere, () => {
        nowMs += 0.9;
        done += 1;
      });
    }
    expect(done).toBe(100);
  });

  test('go round the callers, and refuse the one who waits for most when too many wait', async () => {
    const turns = openTurns(4);
    const order: string[] = [];
    const take = (caller: string, name: string) =>
      turns.take(caller, isHere, () => {
        nowMs += 10;
        order.push(name);
        return name;
      });
    const [first, ...greedy] = ['a0', 'a1', 'a2', 'a3', 'a4', 'a5'].map((name) => take('a', name));
    const others = ['b1', 'c1', 'd1', 'e1'].map((name) => take(name.slice(0, 1), name));
    const results = Promise.allSettled([...greedy, ...others]);
    pass(1_000);
    expect(await first).toBe('a0');
    expect(order).toEqual(['a0', 'a1', 'b1', 'c1', 'd1']);
    expect((await results).map(({ status }) => status)).toEqual([
      ...['fulfilled', 'rejected', 'rejected', 'rejected', 'rejected'],
      ...['fulfilled', 'fulfilled', 'fulfilled', 'rejected'],
    ]);
    await expect(greedy[4]).rejects.toMatchObject(tooMany);
    await expect(others[3]).rejects.toMatchObject(tooMany);
  });

  test('are not spent on, nor kept by, who has left', async () => {
    const turns = openTurns(1);
    const work = vi.fn(() => {
      nowMs += 10;
    });
    let gone = false;
    await turns.take('a', isHere, work);
    const left = turns.take('a', () => gone, work);
    gone = true;
    const next = turns.take('b', isHere, work);
    await expect(left).rejects.toMatchObject(tooMany);
    pass(40);
    await next;
    expect(work).toHaveBeenCalledTimes(2);
  });

  test('go on after work that throws', async () => {
    const turns = openTurns(2);
    const fail = () => {
      nowMs += 10;
      throw new Error('broken');
    };
    const failed = [turns.take('a', isHere, fail), turns.take('a', isHere, fail)];
    const next = turns.take('a', isHere, () => 'done');
    pass(100);
    for (const each of failed) await expect(each).rejects.toThrow('broken');
    expect(await next).toBe('done');
  });
});

describe('lists of connections that take long', () => {
  async function startSlowApi(limits: Parameters<typeof startTestApi>[0] = {}) {
    const idle = openIdleFleet();
    const list: typeof idle.connections.list = async (request, take) => {
      await take(() => {
        const endMs = performance.now() + 20;
        while (performance.now() < endMs);
      });
      return await idle.connections.list(request, async (work) => work());
    };
    const api = await startTestApi({
      ...limits,
      view: { ...idle, connections: { ...idle.connections, list } },
    });
    onTestFinished(() => api.close());
    return api;
  }

  test('let others be answered in between', async () => {
    const { port } = await startSlowApi();
    let answered = 0;
    const asked = Array.from({ length: 16 }, async () => {
      const { status } = await call(port, 'GET', '/connections');
      answered += 1;
      return status;
    });
    await Promise.race(asked);
    expect((await call(port, 'GET', '/healthz')).status).toBe(200);
    expect(answered).toBeLessThan(16);
    expect(await Promise.all(asked)).toEqual(new Array(16).fill(200));
  });

  test('are answered 429 when too many wait, with the time to wait', async () => {
    const { port } = await startSlowApi({ limits: { maxWaitingLists: 1 } });
    const ask = () => Promise.all(Array.from({ length: 8 }, () => call(port, 'GET', '/connections')));
    let refused: Awaited<ReturnType<typeof call>> | undefined;
    await expect
      .poll(async () => {
        refused ??= (await ask()).find(({ status }) => status === 429);
        return refused;
      })
      .toBeDefined();
    expect(refused?.json()).toMatchObject({
      code: 'TOO_MANY_REQUESTS',
      detail: expect.stringContaining('wait'),
    });
    expect(refused?.headers['retry-after']).toBe('1');
  });
});
