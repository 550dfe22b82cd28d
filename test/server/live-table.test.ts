import { expect, test, vi } from 'vitest';
import { openLiveTable } from '../../src/server/directory/live-table.js';
import { openControlledFeed } from '../support/controlled-feed.js';

interface Row {
  readonly id: string;
  readonly text: string;
}

/** A live table over rows that a test changes. */
function open(options: { rowsInUse?: () => string[]; onRead?: () => void } = {}) {
  const feed = openControlledFeed();
  const rows = new Map(['a', 'b', 'c'].map((id) => [id, 'first']));
  const asked: (readonly string[])[] = [];
  const failures: unknown[] = [];
  let failing = false;
  const loaded = vi.fn();
  const table = openLiveTable<Row, undefined>({
    feed,
    table: 'devices',
    limit: 10,
    rowsPerSweep: 0,
    async fetch(ids) {
      asked.push(ids);
      if (failing) throw new Error('away');
      const read = ids.map((id) => ({ id, text: rows.get(id) ?? '' })).filter(({ text }) => text !== '');
      options.onRead?.();
      return read;
    },
    rowsInUse: options.rowsInUse ?? (() => []),
    makeNote: () => undefined,
    onLoaded: loaded,
    onFailed: (error) => failures.push(error),
  });
  const remember = async (id: string) => {
    const answer = await table.load(id);
    if ('row' in answer && answer.row !== undefined) table.remember(answer.row);
  };
  const fail = (on: boolean) => {
    failing = on;
  };
  return { feed, rows, asked, failures, loaded, table, remember, fail };
}

test('a row that is told of is loaded again, and not answered as it was meanwhile', async () => {
  const { feed, rows, table, remember, asked } = open();
  await remember('a');
  await remember('b');
  rows.set('a', 'second');
  feed.tell('policies', ['a']);
  expect(table.use('a')).toMatchObject({ row: { text: 'first' }, verified: true });
  feed.tell('devices', ['a', 'unknown']);
  expect(table.use('a')).toBeUndefined();
  expect(table.use('b')).toMatchObject({ verified: true });
  await expect.poll(() => table.use('a')).toMatchObject({ row: { text: 'second' }, verified: true });
  expect(asked).toEqual([['a'], ['b'], ['a', 'unknown']]);
  expect(table.size).toBe(2);
});

test('when any may have changed all are doubted and loaded again, those in use first', async () => {
  const { feed, rows, table, remember, asked, loaded } = open({ rowsInUse: () => ['c'] });
  await remember('a');
  await remember('b');
  rows.set('a', 'second');
  rows.delete('b');
  loaded.mockClear();
  feed.tell('devices');
  expect(table.use('a')).toMatchObject({ row: { text: 'first' }, verified: false });
  await expect.poll(() => table.use('a')).toMatchObject({ row: { text: 'second' }, verified: true });
  expect(table.peek('b')).toBeUndefined();
  expect(asked.at(-1)).toEqual(['c', 'a', 'b']);
  expect(loaded.mock.calls.map(([{ id, row, before }]) => [id, row?.text, before?.text])).toEqual([
    ['c', 'first', undefined],
    ['a', 'second', 'first'],
    ['b', undefined, 'first'],
  ]);
});

test('the last known rows stay while they cannot be loaded, and are loaded when they can', async () => {
  const { feed, rows, table, remember, fail, failures } = open();
  await remember('a');
  fail(true);
  rows.set('a', 'second');
  feed.tell('devices');
  await expect.poll(() => failures.length).toBeGreaterThan(1);
  expect(table.use('a')).toMatchObject({ row: { text: 'first' }, verified: false });
  fail(false);
  await expect.poll(() => table.use('a')).toMatchObject({ row: { text: 'second' }, verified: true });

  feed.leave();
  rows.set('a', 'third');
  feed.comeBack();
  await expect.poll(() => table.use('a')).toMatchObject({ row: { text: 'third' }, verified: true });
});

test('what was being read when any row changed is read once more', async () => {
  const { feed, rows, table } = open({
    onRead() {
      if (rows.get('a') === 'second') return;
      rows.set('a', 'second');
      feed.tell('devices');
    },
  });
  expect(await table.load('a')).toEqual({ row: { id: 'a', text: 'second' } });
});

test('nothing is followed or told once it is closed', async () => {
  const { feed, table, loaded } = open();
  const loading = table.load('a');
  table.close();
  await loading;
  expect(loaded).not.toHaveBeenCalled();
  expect(feed.followers).toBe(0);
});
