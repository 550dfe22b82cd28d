import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import {
  openTakingTurns,
  type Turn,
  type TurnRequest,
} from '../../src/server/mqtt/sessions/taking/taking-turns.js';

const atOnce = 512;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function requestOf(fields: Partial<TurnRequest> = {}): TurnRequest & { waits: boolean } {
  const request = {
    withinMs: 10_000,
    waits: false,
    isWanted: () => true,
    onWait: (waits: boolean) => {
      request.waits = waits;
    },
    ...fields,
  };
  return request;
}

/** All turns that may be had at once are under way, and so many wait, whose turns are noted when they come. */
function openCrowd(waiting: number) {
  const turns = openTakingTurns();
  const underWay = Array.from({ length: atOnce }, () => turns.begin(requestOf()) as Turn);
  const came: (readonly [number: number, turn: Turn | undefined])[] = [];
  const requests = Array.from({ length: waiting }, (_, number) => {
    let wanted = true;
    const request = requestOf({ isWanted: () => wanted });
    expect(turns.begin(request)).toBeUndefined();
    void turns.wait(request).then((turn) => came.push([number, turn]));
    return { request, leave: () => (wanted = false) };
  });
  return { underWay, came, requests };
}

test('those who wait have their turns in their order, as others end, and who has gone has none', async () => {
  const { underWay, came, requests } = openCrowd(4);
  expect(requests.map(({ request }) => request.waits)).toEqual([true, true, true, true]);
  requests[1]?.leave();
  for (const turn of underWay.slice(0, 2)) turn.end(true);
  await vi.advanceTimersByTimeAsync(0);
  expect(came.map(([number, turn]) => [number, turn !== undefined])).toEqual([
    [0, true],
    [1, false],
    [2, true],
  ]);
  expect(requests.map(({ request }) => request.waits)).toEqual([false, false, false, true]);
});

test('while the store answers somebody, nobody who waits is refused for a minute', async () => {
  const { underWay, came } = openCrowd(2_000);
  for (let second = 0; second < 50; second += 1) {
    await vi.advanceTimersByTimeAsync(1_000);
    underWay[second]?.end(true);
  }
  expect(came.map(([, turn]) => turn)).not.toContain(undefined);
  await vi.advanceTimersByTimeAsync(15_000);
  expect(came).toHaveLength(2_000);
});

test('a store that answers nobody for five seconds has all refused', async () => {
  const { underWay, came } = openCrowd(10);
  await vi.advanceTimersByTimeAsync(4_900);
  expect([underWay[0]?.isLate, came]).toEqual([false, []]);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(await underWay[0]?.late).toBe('late');
  expect(came.map(([, turn]) => turn)).toEqual(Array(10).fill(undefined));
});
