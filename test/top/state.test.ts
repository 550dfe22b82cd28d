import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ConnectionPageJson } from '../../src/api/connection.js';
import type { PageRequest } from '../../src/cli/store/live-api.js';
import { toAction } from '../../src/cli/top/keys.js';
import { reduce } from '../../src/cli/top/reduce.js';
import {
  type Action,
  initialState,
  isLoaded,
  requestOf,
  rowAt,
  selectedRow,
  type TopState,
} from '../../src/cli/top/state.js';
import { act, answer, at, details, open, pageOf, row } from './data.js';

const idOf = (state: TopState) => selectedRow(state)?.id;
const press = (state: TopState, ...inputs: readonly string[]): TopState =>
  inputs.reduce((next, input) => {
    const action = toAction(input, {}, next);
    return action === undefined ? next : act(next, action);
  }, state);

describe('moving', () => {
  test('scrolls when the selection leaves the screen, and stops at both ends', () => {
    const state = open(120, 20);
    expect(idOf(act(state, { type: 'move', by: -1 }))).toBe('r1-0');
    const down = act(state, { type: 'move', by: state.tableRows });
    expect([down.cursor, down.top]).toEqual([state.tableRows, 1]);
    const last = answer(act(state, { type: 'move-to', end: 'last' }), 100);
    expect([last.cursor, last.top, idOf(last)]).toEqual([99, 100 - state.tableRows, 'r1-99']);
    expect(act(last, { type: 'move', by: 1 }).cursor).toBe(99);
    expect(act(last, { type: 'move-to', end: 'first' }).cursor).toBe(0);
  });

  test('finds the rows of the next screen loaded already', () => {
    const state = open(120, 20, 1_000);
    const next = act(state, { type: 'move-page', by: 1 });
    expect(next.top).toBe(state.tableRows);
    expect(isLoaded(next)).toBe(true);
    const afterwards = act(next, { type: 'move-page', by: 1 });
    expect(isLoaded(afterwards)).toBe(false);
    expect(isLoaded(answer(afterwards, 1_000))).toBe(true);
  });

  test('does nothing in an empty list', () => {
    const state = open(120, 20, 0);
    for (const by of [-1, 1, 100]) expect(act(state, { type: 'move', by }).cursor).toBe(0);
    expect(idOf(state)).toBeUndefined();
    for (const type of ['kick', 'revoke', 'copy'] as const) expect(reduce(state, { type })[1]).toEqual([]);
  });
});

describe('the selection', () => {
  test('goes with the connection that was chosen, when the order changes', () => {
    const state = act(open(120, 20), { type: 'move', by: 2 });
    expect(idOf(state)).toBe('r1-2');
    const later = answer(state, 100, -3);
    expect([later.cursor, idOf(later)]).toEqual([5, 'r1-2']);
  });

  test('stays at its place when the connection has ended', () => {
    const state = act(open(120, 20), { type: 'move', by: 2 });
    const later = answer(state, 100, 50);
    expect([later.cursor, idOf(later)]).toEqual([2, 'r1-52']);
  });

  test('stays on top until it was moved', () => {
    expect(idOf(answer(open(120, 20), 100, -3))).toBe('r1--3');
  });
});

describe('sorting and filtering', () => {
  test('begin at the top, and answers to earlier questions are dropped', () => {
    const state = act(open(120, 20), { type: 'move', by: 5 });
    const before = requestOf(state);
    const sorted = act(state, { type: 'sort', by: 1 });
    expect([sorted.sort, sorted.descending, sorted.cursor]).toEqual(['messages', true, 0]);
    expect(act(sorted, { type: 'page', request: before, page: pageOf(before, 7) })).toBe(sorted);
    expect(act(sorted, { type: 'reverse' }).descending).toBe(false);
  });

  test('leave the columns where they are, whoever comes into the list', () => {
    const state = open(120, 20);
    const { widths } = act(state, { type: 'filter-begin' }, { type: 'filter-type', text: 'a' });
    expect(widths).toEqual(state.widths);
    expect(Object.keys(widths).length).toBeGreaterThan(0);
  });

  test('go round through every column', () => {
    let state = open(120, 20);
    const seen = new Set<string>();
    for (let count = 0; count < 14; count += 1) {
      seen.add(state.sort);
      state = act(state, { type: 'sort', by: 1 });
    }
    expect([seen.size, state.sort]).toEqual([14, 'rate']);
    expect(act(state, { type: 'sort', by: 1 }, { type: 'sort', by: -1 }).sort).toBe('rate');
  });

  test('take every character while one types, and Esc takes the filter back', () => {
    const typed = press(open(120, 20), '/', 'q', 'x', 'R', ' ', '?');
    expect(typed).toMatchObject({ filter: 'qxR ?', screen: 'table', question: undefined, frozen: false });
    expect(act(typed, { type: 'filter-erase', all: false }).filter).toBe('qxR ');
    expect(act(typed, { type: 'filter-end', keep: true })).toMatchObject({
      filter: 'qxR ?',
      filterBefore: undefined,
    });
    expect(act(typed, { type: 'filter-end', keep: false })).toMatchObject({
      filter: '',
      filterBefore: undefined,
    });
    expect(toAction('\u001b[31m', {}, typed)).toEqual({ type: 'filter-type', text: '[31m' });
  });
});

/** Kicks, with the question answered. */
function kick(state: TopState) {
  return reduce(reduce(state, { type: 'kick' })[0], { type: 'answer', yes: true });
}

describe('acting on a connection', () => {
  test.each(['kick', 'revoke'] as const)('%s asks, and only y is yes', (type) => {
    const state = act(open(120, 20), { type: 'move', by: 3 });
    const [asking, nothing] = reduce(state, { type });
    expect(nothing).toEqual([]);
    expect(asking.question).toMatchObject({ about: type, device: 'device0003' });
    for (const input of ['n', 'q', ' ', 'R', 'x']) {
      const action = toAction(input, {}, asking);
      expect(action).toEqual({ type: 'answer', yes: false });
    }
    // The list may have changed meanwhile: it is about the device that was asked for.
    const changed = answer(asking, 100, 40);
    expect(reduce(changed, { type: 'answer', yes: true })[1]).toMatchObject([{ type, device: 'device0003' }]);
    expect(reduce(changed, { type: 'answer', yes: false })).toMatchObject([{ question: undefined }, []]);
  });

  test.each([0, 3])('kick meets no other connection before the selection is moved, from place %i', (by) => {
    const [kicked, effects] = kick(act(open(120, 20), { type: 'move', by }));
    expect(effects).toEqual([
      { type: 'kick', id: `r1-${by}`, device: `device000${by}`, client: `client-${by}` },
    ]);
    // The same connection is not kicked twice, and its place is taken by another one afterwards.
    expect(reduce(kicked, { type: 'kick' })).toEqual([kicked, []]);
    const gone = answer(answer(kicked, 100, 50), 100, 60);
    expect(idOf(gone)).toBeUndefined();
    for (const type of ['kick', 'revoke', 'copy'] as const)
      expect(reduce(gone, { type })).toEqual([gone, []]);
    expect(act(gone, { type: 'open', screen: 'details' })).toBe(gone);
    const moved = act(gone, { type: 'move', by: 1 });
    expect(kick(moved)[1]).toMatchObject([{ id: `r1-${by + 61}` }]);
    // What failed may be tried again, and meets no other either.
    const failed = act(kicked, { type: 'kick-failed', id: `r1-${by}` });
    expect(kick(failed)).toEqual([kicked, effects]);
    expect(kick(answer(failed, 100, 50))[1]).toEqual([]);
    // Somewhere else in the list it is selected still.
    expect(idOf(answer(kicked, 100, -3))).toBe(`r1-${by}`);
  });

  test('kick from the details leaves nothing selected on the table', () => {
    const opened = act(open(120, 20), { type: 'move', by: 3 }, { type: 'open', screen: 'details' });
    const [kicked] = kick(act(opened, { type: 'details', id: 'r1-3', found: details }));
    const back = act(answer(kicked, 100, 50), { type: 'back' });
    expect(reduce(back, { type: 'kick' })).toEqual([back, []]);
  });

  test('nothing acts on one that another screen hides', () => {
    for (const screen of ['help', 'log'] as const) {
      const hidden = act(open(120, 20), { type: 'open', screen });
      for (const key of ['x', 'R', 'c']) expect(toAction(key, {}, hidden)).toBeUndefined();
    }
  });

  test('on the details it is the connection shown', () => {
    const opened = act(open(120, 20), { type: 'move', by: 3 }, { type: 'open', screen: 'details' });
    expect(kick(opened)[1]).toEqual([]);
    const shown = answer(act(opened, { type: 'details', id: 'r1-3', found: details }), 100, 40);
    expect(kick(shown)[1]).toEqual([{ type: 'kick', id: 'r1-3', device: 'device0003', client: 'client-3' }]);
    const ended = act(shown, { type: 'details', id: 'r1-3', found: 'ended' });
    expect(kick(ended)[1]).toEqual([]);
    expect(act(shown, { type: 'back' })).toMatchObject({ screen: 'table', details: undefined });
  });

  test('copies the device id', () => {
    expect(reduce(open(120, 20), { type: 'copy' })[1]).toEqual([{ type: 'copy', text: 'device0000' }]);
  });

  test('to quit asks only where it stops the server', () => {
    expect(reduce(open(80, 24), { type: 'quit' })[1]).toEqual([{ type: 'quit' }]);
    const serving = initialState({ columns: 80, rows: 24, serving: true });
    const [asking, nothing] = reduce(serving, { type: 'quit' });
    expect([nothing, asking.question?.about]).toEqual([[], 'stop']);
    expect(reduce(asking, { type: 'answer', yes: true })[1]).toEqual([{ type: 'quit' }]);
  });
});

const actions: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ type: fc.constant('move' as const), by: fc.integer({ min: -60, max: 60 }) }),
  fc.record({ type: fc.constant('move-page' as const), by: fc.constantFrom(-1 as const, 1 as const) }),
  fc.record({
    type: fc.constant('move-to' as const),
    end: fc.constantFrom('first' as const, 'last' as const),
  }),
  fc.record({ type: fc.constant('sort' as const), by: fc.constantFrom(-1 as const, 1 as const) }),
  fc.record({ type: fc.constant('filter-type' as const), text: fc.string({ maxLength: 3 }) }),
  fc.record({
    type: fc.constant('resized' as const),
    columns: fc.integer({ min: 1, max: 300 }),
    rows: fc.integer({ min: 1, max: 100 }),
  }),
  fc.constantFrom<Action>(
    { type: 'reverse' },
    { type: 'freeze' },
    { type: 'back' },
    { type: 'filter-begin' },
    { type: 'filter-erase', all: false },
    { type: 'filter-end', keep: false },
    { type: 'open', screen: 'details' },
    { type: 'open', screen: 'help' },
    { type: 'kick' },
    { type: 'kick-failed', id: 'r1-0' },
    { type: 'revoke' },
    { type: 'copy' },
    { type: 'answer', yes: true },
    { type: 'lost', reason: 'gone', retryInSec: 2 },
  ),
);

/** What comes from the server: a list of some length, its rows shuffled by a step, or fewer rows than were asked for. */
const pages = fc.record({
  type: fc.constant('served' as const),
  count: fc.nat(400),
  first: fc.integer({ min: -20, max: 20 }),
  short: fc.nat(30),
  stale: fc.boolean(),
});

describe('whatever happens', () => {
  test('the selection is inside of the list and on the screen, and actions are about what is shown', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(actions, pages), { maxLength: 60 }), (steps) => {
        let state = initialState({ columns: 120, rows: 30 });
        let asked: PageRequest = requestOf(state);
        for (const step of steps) {
          const shown = selectedRow(state);
          if (step.type === 'served') {
            const request = step.stale ? asked : requestOf(state);
            const page = pageOf(request, step.count, step.first);
            const cut: ConnectionPageJson = { ...page, connections: page.connections.slice(step.short) };
            [state] = reduce(state, { type: 'page', request, page: step.short > 20 ? cut : page });
          } else {
            asked = requestOf(state);
            const { question } = state;
            const [next, effects] = reduce(state, step);
            for (const effect of effects) {
              if (effect.type === 'kick') expect(question).toMatchObject({ about: 'kick', id: effect.id });
              if (effect.type === 'copy') expect(effect.text).toBe(shown?.device);
            }
            state = next;
          }
          const count = state.page?.matching ?? 0;
          expect(state.cursor).toBeGreaterThanOrEqual(0);
          expect(state.cursor).toBeLessThanOrEqual(Math.max(0, count - 1));
          expect(state.top).toBeGreaterThanOrEqual(0);
          expect(state.top).toBeLessThanOrEqual(state.cursor);
          expect(state.cursor).toBeLessThan(state.top + state.tableRows);
          expect(requestOf(state).limit).toBeGreaterThan(0);
          expect(requestOf(state).limit).toBeLessThanOrEqual(500);
        }
      }),
    );
  });

  test('the same list again changes nothing', () => {
    fc.assert(
      fc.property(fc.array(actions, { maxLength: 20 }), fc.nat(400), (steps, count) => {
        const state = answer(act(answer(initialState({ columns: 90, rows: 25 }), count), ...steps), count);
        const again = answer(state, count);
        expect([again.cursor, again.top, again.chosen]).toEqual([state.cursor, state.top, state.chosen]);
      }),
    );
  });

  test('a chosen connection stays selected wherever it goes on the page', () => {
    fc.assert(
      fc.property(
        fc.nat(9),
        fc.shuffledSubarray([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], { minLength: 10 }),
        (by, order) => {
          const state = act(open(120, 40, 10), { type: 'move', by });
          const connections = order.map((index) => row(index));
          const page = { at, total: 10, matching: 10, connections, replicas: [] };
          const later = act(state, { type: 'page', request: requestOf(state), page });
          expect(rowAt(later, later.cursor)?.id).toBe(by === 0 ? `r1-${order[0]}` : `r1-${by}`);
        },
      ),
    );
  });
});
