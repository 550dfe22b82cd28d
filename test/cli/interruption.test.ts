import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import { Interrupted } from '../../src/cli/terminal/io.js';
import { loadCredentials, matchSecret } from '../../src/db/devices/device-credentials.js';
import { kinds } from '../db/databases.js';
import { useDatabase } from './database.js';
import { fakeIo, jsonLines, killLeftovers, makeTempDir, startCli, until } from './support.js';

describe('a secret that cannot be written', () => {
  const database = useDatabase('postgres');

  test.each([
    [['device', 'add', '--type', 'a', '--id', 'd1'], 'Device d1 is added'],
    [['device', 'rotate', 'd1', '--yes', '--json'], 'The new secret of device d1 holds'],
    [['claim', 'create', '--type', 'a'], expect.stringMatching(/^Claim \S+ is made/)],
    [['api-key', 'create', '--name', 'k', '--role', 'viewer'], expect.stringMatching(/^API key \S+ is made/)],
  ])('is told of, since the change is made: %j', async (args, message) => {
    const io = fakeIo({ env: database.env });
    const stdout = new Writable({ write: (_chunk, _encoding, done) => done(new Error('ENOSPC')) });
    stdout.on('error', () => io.closeOutput());
    const outcome = await runProgram(args, { ...io, stdout }).catch((error) => error);
    expect(outcome).toMatchObject({
      code: 'INTERNAL',
      message: expect.stringContaining('could not be written'),
    });
    const expected = typeof message === 'string' ? expect.stringContaining(message) : message;
    expect(outcome).toMatchObject({ message: expected });
  });
});

/** Ctrl-C while a command is at work in the database: what it answers and what the database has must agree. */
describe.each(kinds)('a signal on %s', (kind) => {
  const database = useDatabase(kind);
  beforeEach(async () => {
    await database.db.pool.query('truncate devices, audit_log, claims, api_keys');
    await database.db.pool.query(`create function go_slowly() returns trigger language plpgsql as
      $$ begin perform pg_sleep(1); return null; end $$`);
  });
  afterEach(async () => {
    await database.db.pool.query('drop function go_slowly cascade');
  });
  const slowDown = (table: string) =>
    database.db.pool.query(
      `create trigger slow before insert or update on ${table} for each statement execute function go_slowly()`,
    );
  const countDevices = async () => (await database.db.pool.query('select from devices')).rowCount;
  const start = (args: readonly string[], stdin?: string) => {
    const io = fakeIo({ env: database.env, ...(stdin !== undefined && { stdin }) });
    const ended = runProgram(args, io).catch((error: unknown) => error);
    return { io, ended };
  };
  /** Asked only of PostgreSQL: the embedded database does one thing at a time. */
  const untilSlow = () =>
    until('the transaction is slow', async () => {
      const { rows } = await database.db.pool.query(
        `select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`,
      );
      return rows.length > 0;
    });
  const newFile = () => {
    const dir = makeTempDir();
    onTestFinished(() => dir.remove());
    return join(dir.path, 'credentials.csv');
  };
  const linesOf = (file: string) => (existsSync(file) ? readFileSync(file, 'utf8').split('\n').length : 0);

  test('imports all or none', async () => {
    await slowDown('devices');
    const output = newFile();
    const csv = `id,type\n${Array.from({ length: 4_000 }, (_, at) => `d${at},a\n`).join('')}`;
    const { io, ended } = start(['device', 'import', '-', '--output', output], csv);
    // The first batch is in the transaction, and the second one on its way.
    await until('the file has credentials', () => linesOf(output) > 2);
    io.stop('SIGINT');
    expect(await ended).toMatchObject({ exitStatus: 130, told: 'Nothing was imported: interrupted' });
    expect(await countDevices()).toBe(0);
    expect(existsSync(output)).toBe(false);
  });

  test.skipIf(kind === 'embedded').each([
    [['import', '-'], { force: true, told: 'svc-mqtt: Nothing was imported: interrupted' }],
    [['import', '-'], { force: false, told: 'svc-mqtt: Nothing was imported: interrupted' }],
    [['add', '--type', 'a', '--count', '10'], { force: true, told: '' }],
    [['add', '--type', 'a', '--count', '10'], { force: false, told: '' }],
    [['export', '--hashed'], { force: true, told: '' }],
    [['export', '--hashed'], { force: false, told: '' }],
  ])('leaves no file behind when a second one ends it at once: %j %j', async (verb, { force, told }) => {
    const output = newFile();
    if (force) writeFileSync(output, 'old');
    const args = ['device', ...verb, '--output', output, ...(force ? ['--force'] : [])];
    const locking = await database.db.pool.connect();
    onTestFinished(() => locking.release(true));
    await locking.query('begin; lock table devices');
    const running = startCli(args, database.env, 'id,type\nd1,a\n');
    onTestFinished(killLeftovers);
    await until('it waits for the table', async () => {
      const { rows } = await database.db.pool.query(
        `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      );
      return rows.length > 0;
    });
    running.child.kill('SIGINT');
    await until('it says so', () =>
      running.output.stderr.includes('another signal ends the command at once'),
    );
    running.child.kill('SIGINT');
    const { status, stderr } = await running.ended;
    expect(status).toBe(130);
    expect(stderr).toContain(told);
    expect(readdirSync(dirname(output))).toEqual(force ? ['credentials.csv'] : []);
    if (force) expect(readFileSync(output, 'utf8')).toBe('old');
  });

  test.skipIf(kind === 'embedded').each([['--output'], ['--json']])(
    'adds all or none: %s',
    async (option) => {
      await slowDown('devices');
      const output = newFile();
      const { io, ended } = start([
        ...['device', 'add', '--type', 'a', '--count', '10', option],
        ...(option === '--output' ? [output] : []),
      ]);
      await untilSlow();
      io.stop('SIGINT');
      expect(await ended).toBeInstanceOf(Interrupted);
      expect([await countDevices(), existsSync(output), io.out()]).toEqual([0, false, '']);
    },
  );

  test.skipIf(kind === 'embedded').each([
    ['devices', ['device', 'rotate', 'd1', '--yes', '--json']],
    ['claims', ['claim', 'create', '--type', 'a', '--json']],
    ['api_keys', ['api-key', 'create', '--name', 'k', '--role', 'viewer', '--json']],
  ])('shows the secret of what is made: %s', async (table, args) => {
    await start(['device', 'add', '--type', 'a', '--id', 'd1']).ended;
    await slowDown(table);
    const { io, ended } = start(args);
    await untilSlow();
    io.stop('SIGINT');
    expect(await ended).toBe(0);
    const [made] = jsonLines(io.out());
    if (table !== 'devices') {
      expect(made).toMatchObject({ [table === 'claims' ? 'claim' : 'key']: expect.any(String) });
      return;
    }
    const [credentials] = await loadCredentials(database.db, ['d1']);
    expect(credentials && matchSecret(credentials, Buffer.from(String(made?.mqtt_password)))).toBe('current');
  });
});
