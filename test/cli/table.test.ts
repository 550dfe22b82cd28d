import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { CommandIo } from '../../src/cli/terminal/io.js';
import { writeListing } from '../../src/cli/terminal/listing.js';
import { fitColumns, openTable, tableTime, uncut } from '../../src/cli/terminal/table.js';
import { formatRelative } from '../../src/cli/terminal/text.js';
import { fakeIo } from './support.js';

/** A command whose stdout is a terminal of a width. */
function terminal(columns: number): CommandIo & { out(): string; err(): string } {
  const io = fakeIo();
  return Object.assign(io, { stdout: Object.assign(io.stdout, { isTTY: true, columns }) });
}

const columns = [{ title: 'ID', keep: 8 }, { title: 'SEEN' }, { title: 'NOTE' }];
const rows = [
  ['a1b2c3d4', '3m ago', 'in the cellar, behind the boiler'],
  ['x', 'never', '倉庫の三号機、二階の奥の棚\u001b[2J'],
];

describe('a table in a terminal', () => {
  test('has one line a row, cut to the width', async () => {
    const io = terminal(30);
    await openTable(io, columns)(rows);
    expect(io.out()).toBe(
      ['ID        SEEN    NOTE', 'a1b2c3d4  3m ago  in the cell…', 'x         never   倉庫の三号…', ''].join(
        '\n',
      ),
    );
  });

  test('leaves out columns from the right where their titles do not fit', async () => {
    const io = terminal(14);
    await openTable(io, columns)(rows);
    expect(io.out().split('\n')).toEqual(['ID        SEEN', 'a1b2c3d4  3m …', 'x         nev…', '']);
  });

  test('never cuts what is worth nothing in part', async () => {
    const io = terminal(10);
    await openTable(io, [{ title: 'TYPE' }, { title: 'SECRET', keep: uncut }])([
      ['sensor', 'abcdefghijklmno'],
    ]);
    expect(io.out()).toContain('abcdefghijklmno');
    expect(io.out()).not.toContain('…lmno');
  });

  test('is never wider than it, whatever the columns', () => {
    const column = fc.record({
      title: fc.string({ minLength: 1, maxLength: 9 }),
      keep: fc.integer({ min: 1, max: 40 }),
    });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(column, fc.integer({ min: 0, max: 100 })), { minLength: 1, maxLength: 9 }),
        fc.integer({ min: 50, max: 200 }),
        (given, width) => {
          const titles = given.map(([each]) => each);
          const wanted = given.map(([{ title }, most]) => Math.max(title.length, most));
          const widths = fitColumns(titles, wanted, width).filter((each) => each > 0);
          const all = widths.reduce((sum, each) => sum + each + 2, -2);
          expect(all).toBeLessThanOrEqual(width);
          const asked = wanted.reduce((sum, each) => sum + each + 2, -2);
          expect(all === width || all === asked || widths.length < given.length).toBe(true);
        },
      ),
    );
  });

  test('takes no notice of a terminal that does not tell its width', async () => {
    const io = terminal(0);
    await openTable(io, [{ title: 'NOTE' }])([['x'.repeat(100)]]);
    expect(io.out().split('\n')[1]).toBe(`${'x'.repeat(79)}…`);
  });
});

test('elsewhere nothing is cut, and tabs part the cells', async () => {
  const io = fakeIo();
  await openTable(io, columns)(rows);
  expect(io.out().split('\n')[2]).toBe('x\tnever\t倉庫の三号機、二階の奥の棚\\u001b[2J');
});

test('times are relative for people and ISO 8601 for machines', () => {
  const now = Date.parse('2026-06-01T12:00:00Z');
  expect(tableTime(fakeIo(), now)(new Date('2026-06-01T11:57:00Z'))).toBe('2026-06-01T11:57:00.000Z');
  const relative = (text: string) => tableTime(terminal(80), now)(new Date(text));
  expect(relative('2026-06-01T11:59:18Z')).toBe('42s ago');
  expect(relative('2026-06-01T11:57:00Z')).toBe('3m ago');
  expect(relative('2026-05-20T11:57:00Z')).toBe('12d ago');
  expect(relative('2026-06-01T17:30:00Z')).toBe('in 5h');
  expect(formatRelative(new Date(now), now)).toBe('0s ago');
});

test('a list stops at its limit, over several pages, and says that there is more', async () => {
  const numbers = Array.from({ length: 10 }, (_, index) => index);
  const list = async (limit: number | undefined, io = fakeIo()) => {
    await writeListing<{ number: number }>(io, {
      json: true,
      limit,
      async *read(most) {
        const rows = numbers.slice(0, most).map((number) => ({ number }));
        for (let at = 0; at < rows.length; at += 3) yield rows.slice(at, at + 3);
      },
      columns: () => [{ title: 'N', text: ({ number }) => String(number) }],
    });
    return [io.out().trimEnd().split('\n').length, io.err()] as const;
  };
  expect(await list(undefined)).toEqual([10, '']);
  expect(await list(10)).toEqual([10, '']);
  expect(await list(3)).toEqual([3, 'There are more; --limit shows more of them.\n']);
  expect(await list(7)).toEqual([7, 'There are more; --limit shows more of them.\n']);
});
