import { PassThrough } from 'node:stream';
import { render } from 'ink';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import { canDraw } from '../../src/cli/terminal/io.js';
import { formatProgress, toPercent } from '../../src/cli/terminal/progress.js';
import {
  drawBar,
  formatRemaining,
  openProgressBar,
  ProgressBar,
} from '../../src/cli/terminal/progress-bar.js';
import { borrowPostgres, createDatabase, withClient } from '../support/postgres.js';
import { fakeIo, jsonLines, until } from './support.js';

let postgres: Awaited<ReturnType<typeof borrowPostgres>> | undefined;
beforeAll(async () => {
  postgres = await borrowPostgres();
});
afterAll(() => postgres?.release());

/** A database as the Go service leaves it. */
async function makeLegacyDatabase(rows: number): Promise<string> {
  const url = await createDatabase(postgres?.url ?? '');
  await withClient(url, async (client) => {
    await client.query(
      `create table devices (id text primary key, device_type text not null, mqtt_user text not null,
        mqtt_password text not null, created_at timestamptz)`,
    );
    await client.query(
      `insert into devices select 'd' || n, 'sensor', 'd' || n, md5(n::text), now() from generate_series(1, $1) n`,
      [rows],
    );
  });
  return url;
}

describe('the table of the Go service', () => {
  test('is told by --status and --dry-run, which change nothing, and converted, with its progress on stderr', async () => {
    const env = { DATABASE_URL: await makeLegacyDatabase(2_000) };
    for (const flag of ['--status', '--dry-run']) {
      const io = fakeIo({ env });
      expect(await runProgram(['migrate', flag], io)).toBe(0);
      expect(io.out()).toMatch(/2,000 devices/);
    }
    const status = fakeIo({ env });
    await runProgram(['migrate', '--status', '--json'], status);
    expect(jsonLines(status.out())).toMatchObject([
      { applied: [], legacy_devices: 2_000, legacy_problem: null },
    ]);
    const io = fakeIo({ env });
    expect(await runProgram(['migrate', '--json'], io)).toBe(0);
    expect(jsonLines(io.out())).toMatchObject([{ converted_devices: 2_000 }]);
    expect(io.err()).toMatch(/: 100% \(2,000 of 2,000\)\n/);
  });

  test('with a row that cannot be converted makes --dry-run fail as the migration would', async () => {
    const env = { DATABASE_URL: await makeLegacyDatabase(2) };
    await withClient(env.DATABASE_URL, (client) =>
      client.query(`update devices set mqtt_password = '' where id = 'd1'`),
    );
    for (const args of [['migrate', '--dry-run'], ['migrate']]) {
      await expect(runProgram(args, fakeIo({ env }))).rejects.toMatchObject({ code: 'DATABASE_SCHEMA' });
    }
    const status = fakeIo({ env });
    expect(await runProgram(['migrate', '--status'], status)).toBe(0);
    expect(status.out()).toContain('d1');
  });
});

test('columns that would be lost are listed by --dry-run and --status', async () => {
  const env = { DATABASE_URL: await makeLegacyDatabase(2) };
  await withClient(env.DATABASE_URL, (client) => client.query('alter table devices add location text'));
  await expect(runProgram(['migrate', '--dry-run'], fakeIo({ env }))).rejects.toMatchObject({
    code: 'DATABASE_SCHEMA',
    message: expect.stringContaining('"location"'),
    suggestion: expect.stringContaining('alter table devices drop "location"'),
  });
  const status = fakeIo({ env });
  expect(await runProgram(['migrate', '--status'], status)).toBe(0);
  expect(status.out()).toContain('alter table devices drop "location"');
});

test('what the database warns of is told on stderr', async () => {
  const env = { DATABASE_URL: await createDatabase(postgres?.url ?? '') };
  await withClient(env.DATABASE_URL, (client) =>
    client.query('create schema svc_mqtt; create view svc_mqtt.device as select 1 as x'),
  );
  const io = fakeIo({ env });
  expect(await runProgram(['migrate', '--json'], io)).toBe(0);
  expect(jsonLines(io.out())).toMatchObject([{ converted_devices: 0 }]);
  expect(io.err()).toMatch(/^the SQL interface .*a schema svc_mqtt already.*docs\/sql\.md\.$/m);
});

describe('progress', () => {
  test('as a line counts and rounds down', () => {
    expect(formatProgress({ step: 'converting', done: 45_999, total: 100_000 })).toBe(
      'converting: 45% (45,999 of 100,000)',
    );
    expect(toPercent(0, 0)).toBe(100);
    expect(toPercent(999, 1_000)).toBe(99);
  });

  test('as a bar is as wide as asked for, and tells the time left once there is a pace', () => {
    expect(drawBar(0, 10)).toBe('');
    expect(drawBar(0.5, 10)).toBe('█████');
    expect(drawBar(0.55, 10)).toBe('█████▌');
    expect(drawBar(1, 10)).toBe('██████████');
    expect(formatRemaining(0.5, 10_000)).toBe('  10 s left');
    expect(formatRemaining(0.01, 60_000)).toBe('  99 min left');
    expect(formatRemaining(0.5, 100)).toBe('');
    expect(formatRemaining(1, 10_000)).toBe('');
  });

  test('is drawn on one line of any width', async () => {
    for (const columns of [20, 80, 200]) {
      const stream = Object.assign(new PassThrough(), { columns, isTTY: true });
      let drawn = '';
      stream.on('data', (chunk) => {
        drawn += String(chunk);
      });
      const progress = { step: 'converting devices', done: 1_250, total: 5_000 };
      const view = render(<ProgressBar progress={progress} elapsedMs={0} columns={columns} />, {
        stdout: stream as unknown as NodeJS.WriteStream,
        debug: true,
        patchConsole: false,
      });
      await until('it is drawn', () => drawn.includes('converting'));
      const line = drawn;
      view.unmount();
      await view.waitUntilExit();
      expect(line.length).toBeLessThanOrEqual(columns);
      if (columns >= 80) expect(line).toMatch(/^converting devices █+▌? + 25% {2}1,250 of 5,000$/);
    }
  });

  test('is drawn on terminals that have a size, since drawing on others clears their history', () => {
    const terminal = (rows: number) => Object.assign(new PassThrough(), { isTTY: true, rows });
    expect(canDraw(terminal(24), {})).toBe(true);
    expect(canDraw(terminal(0), {})).toBe(false);
    expect(canDraw(terminal(24), { TERM: 'dumb' })).toBe(false);
    expect(canDraw(new PassThrough(), {})).toBe(false);
  });

  test('gives the terminal back at its end: the cursor is shown again', async () => {
    const stream = Object.assign(new PassThrough(), { columns: 80, isTTY: true as const });
    let drawn = '';
    stream.on('data', (chunk) => {
      drawn += String(chunk);
    });
    const view = openProgressBar(stream, { step: 'step', done: 0, total: 2 });
    view.update({ step: 'step', done: 2, total: 2 });
    await view.close();
    await until('the last state is drawn', () => drawn.includes('2 of 2'));
    expect(drawn.lastIndexOf('\u001b[?25h')).toBeGreaterThanOrEqual(drawn.lastIndexOf('\u001b[?25l'));
  });
});
