import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import { Interrupted } from '../../src/cli/terminal/io.js';
import { type Database, openDatabase } from '../../src/db/connection/open.js';
import type { SvcMqttError } from '../../src/errors.js';
import { readConfig } from '../../src/read-config.js';
import { copyEmbedded } from '../support/embedded-template.js';
import { borrowPostgres, createDatabase, postgresTemplateVariable, withClient } from '../support/postgres.js';
import { fakeIo, fakeTerminal, jsonLines, makeTempDir, runCli, until } from './support.js';

/** Runs a command in this process; a failure's code stands in for its exit status. */
async function run(env: Record<string, string>, args: readonly string[], stdin?: string) {
  const io = fakeIo(stdin === undefined ? { env } : { env, stdin });
  const outcome = await runProgram(args, io).catch((error: SvcMqttError) => error);
  return { outcome, out: io.out(), err: io.err(), lines: () => jsonLines(io.out()) };
}

let postgres: Awaited<ReturnType<typeof borrowPostgres>> | undefined;
let dir: ReturnType<typeof makeTempDir>;
/** Keeps the embedded database open, as a running server does: the commands attach to it. */
let holder: Database | undefined;
const environments: Record<string, Record<string, string>> = {};

beforeAll(async () => {
  dir = makeTempDir();
  await copyEmbedded(dir.path);
  environments.embedded = { DATA_DIR: dir.path };
  holder = await openDatabase(readConfig({ env: environments.embedded }), pino({ level: 'silent' }));
  postgres = await borrowPostgres();
  environments.postgres = {
    DATABASE_URL: await createDatabase(postgres.url, process.env[postgresTemplateVariable]),
  };
});
afterAll(async () => {
  await postgres?.release();
  await holder?.close();
  dir.remove();
});

test('PostgreSQL without the schema: the command says what to run, and `migrate` does it', async () => {
  const env = { DATABASE_URL: await createDatabase(postgres?.url ?? '') };
  const early = await run(env, ['device', 'list']);
  expect(early.outcome).toMatchObject({
    code: 'DATABASE_SCHEMA',
    suggestion: 'Run `svc-mqtt migrate` first',
  });
  const plan = await run(env, ['migrate', '--dry-run']);
  expect(plan.out).toMatch(/^would apply 0000_/);
  const before = (await run(env, ['migrate', '--status', '--json'])).lines()[0];
  expect(before).toMatchObject({ applied: [], newer: false, legacy_devices: null });
  expect(await run(env, ['migrate'])).toMatchObject({
    outcome: 0,
    out: expect.stringMatching(/^applied 0000_/),
  });
  const after = (await run(env, ['migrate', '--status', '--json'])).lines()[0];
  expect(after).toMatchObject({ applied: before?.pending, pending: [] });
  expect((await run(env, ['migrate', '--json'])).lines()).toEqual([{ applied: [], converted_devices: 0 }]);
});

describe.each(['postgres', 'embedded'])('on %s', (kind) => {
  const env = () => environments[kind] ?? {};
  const add = async (type: string, ...ids: string[]) => {
    for (const id of ids) await run(env(), ['device', 'add', '--type', type, '--id', id]);
  };

  beforeEach(async () => {
    if (kind === 'embedded') await holder?.pool.query('truncate devices, audit_log');
    else await withClient(env().DATABASE_URL ?? '', (client) => client.query('truncate devices, audit_log'));
  });

  test('an empty list says so on stderr and leaves stdout empty', async () => {
    expect(await run(env(), ['device', 'list'])).toMatchObject({
      outcome: 0,
      out: '',
      err: 'There are no active devices.\n',
    });
  });

  test('a device is added, with its secret shown once', async () => {
    const added = await run(env(), ['device', 'add', '--type', 'sensor', '--id', 'one']);
    expect(added.outcome).toBe(0);
    expect(added.out).toMatch(
      /^id {13}one\ntype {11}sensor\nmqtt_user {6}one\nmqtt_password {2}\S{20,}\ncreated_at {5}20.{17}Z\n$/,
    );
    expect(added.err).toBe('Keep the password: nothing can show it again.\n');
    const secret = /mqtt_password {2}(\S+)/.exec(added.out)?.[1] ?? '';
    for (const args of [['list', '--json'], ['list'], ['show', 'one']]) {
      const shown = await run(env(), ['device', ...args]);
      expect(shown.out).toContain('one');
      expect(shown.out).not.toContain(secret);
    }
  });

  test('several are added, as JSON lines with exactly the five fields of the API', async () => {
    const added = await run(env(), ['device', 'add', '--type', 'pump', '--count', '3', '--json']);
    const lines = added.lines();
    expect(lines).toHaveLength(3);
    for (const line of lines) {
      expect(Object.keys(line)).toEqual(['id', 'type', 'mqtt_user', 'mqtt_password', 'created_at']);
      expect(line.mqtt_user).toBe(line.id);
    }
    expect(new Set(lines.map((line) => line.id)).size).toBe(3);
    const table = await run(env(), ['device', 'add', '--type', 'pump', '--count', '2']);
    expect(table.out.trimEnd().split('\n')).toHaveLength(3);
  });

  test('a taken id and a bad type are refused', async () => {
    await add('sensor', 'one');
    expect((await run(env(), ['device', 'add', '--type', 'x', '--id', 'one'])).outcome).toMatchObject({
      code: 'DEVICE_EXISTS',
    });
    expect((await run(env(), ['device', 'add', '--type', 'a\tb'])).outcome).toMatchObject({
      code: 'INPUT_INVALID',
    });
  });

  test('the list is filtered by type; for a program its cells are parted by tabs', async () => {
    await add('pump', 'p1', 'p2');
    await add('sensor', 's1');
    const pumps = (await run(env(), ['device', 'list', '--type', 'pump', '--json'])).lines();
    expect(pumps.map(({ id }) => id)).toEqual(['p1', 'p2']);
    expect(Object.keys(pumps[0] ?? {})).toEqual([
      'id',
      'type',
      'created_at',
      'updated_at',
      'revoked_at',
      'last_seen_at',
      'expires_at',
      'metadata',
      'last_secret_used',
      'previous_secret_until',
      'previous_secret_until_used',
    ]);
    const rows = (await run(env(), ['device', 'list'])).out.trimEnd().split('\n');
    expect(rows).toHaveLength(4);
    const column = rows[0]?.split('\t').indexOf('CREATED') ?? -1;
    for (const row of rows.slice(1)) expect(row.split('\t')[column]).toMatch(/^20\d\d-.*T.*Z$/);
  });

  test('revoking names what is unknown and still revokes the rest', async () => {
    await add('sensor', 'one', 'two');
    const revoked = await run(env(), ['device', 'revoke', 'nope', 'one', 'one', '--yes']);
    expect(revoked.outcome).toMatchObject({ code: 'DEVICE_NOT_FOUND', message: 'There is no device nope' });
    expect(revoked.out).toBe('one revoked\n');
    const again = await run(env(), ['device', 'revoke', 'one', 'nope', '--yes', '--json']);
    expect(again.lines()).toEqual([
      { id: 'one', outcome: 'already_revoked' },
      { id: 'nope', outcome: 'unknown' },
    ]);
    const [shown] = (await run(env(), ['device', 'show', 'one', '--json'])).lines();
    expect(shown?.revoked_at).toMatch(/^20/);
    expect((await run(env(), ['device', 'list', '--revoked', '--json'])).lines()).toHaveLength(1);
    expect((await run(env(), ['device', 'list', '--json'])).lines()).toMatchObject([{ id: 'two' }]);
    expect((await run(env(), ['device', 'list', '--all', '--json'])).lines()).toHaveLength(2);
  });

  test('ids to revoke come from stdin, too', async () => {
    await add('sensor', 'one', 'two', 'three');
    const ids = (await run(env(), ['device', 'list', '--json'])).lines().map((line) => line.id);
    const revoked = await run(env(), ['device', 'revoke', '-', '--yes'], `  ${ids.join('\n')}\n`);
    expect(revoked.outcome).toBe(0);
    expect(revoked.out.trimEnd().split('\n')).toHaveLength(3);
    const none = await run(env(), ['device', 'revoke', '-', '--yes'], ' \n');
    expect(none.outcome).toMatchObject({ code: 'INPUT_INVALID' });
    const noList = await run(env(), ['device', 'revoke', '-', '--yes'], 'x'.repeat(100_000));
    expect(noList.outcome).toMatchObject({ code: 'INPUT_INVALID' });
  });

  test('removing leaves nothing of a device but the audit log, and its id is free again', async () => {
    await run(env(), ['device', 'add', '--type', 'old', '--id', 'gone', '--metadata', 'site=lyon']);
    await run(env(), ['device', 'add', '--type', 'old', '--id', 'revoked']);
    await run(env(), ['device', 'revoke', 'revoked', '--yes']);
    const removed = await run(env(), ['device', 'remove', 'nope', 'gone', 'revoked', '--yes', '--json']);
    expect(removed.outcome).toMatchObject({ code: 'DEVICE_NOT_FOUND', message: 'There is no device nope' });
    expect(removed.lines()).toEqual([
      { id: 'gone', outcome: 'removed' },
      { id: 'revoked', outcome: 'removed' },
      { id: 'nope', outcome: 'unknown' },
    ]);
    expect((await run(env(), ['device', 'list', '--type', 'old', '--all', '--json'])).lines()).toEqual([]);
    expect(await run(env(), ['device', 'remove', 'gone', '--yes'])).toMatchObject({
      outcome: { code: 'DEVICE_NOT_FOUND' },
      out: '',
    });
    const again = await run(env(), ['device', 'add', '--type', 'new', '--id', 'gone', '--json']);
    expect(again.outcome).toBe(0);
    expect(await run(env(), ['device', 'remove', '-', '--yes'], 'gone\n')).toMatchObject({
      outcome: 0,
      out: 'gone removed\n',
    });
    const entries = (await run(env(), ['audit', '--device', 'gone', '--json'])).lines();
    expect(entries).toMatchObject([
      { action: 'device.add' },
      { action: 'device.remove', actor_kind: 'cli', details: { type: 'old' } },
      { action: 'device.add' },
      { action: 'device.remove', details: { type: 'new' } },
    ]);
  });

  test('showing an unknown id is a failure that names it, harmlessly', async () => {
    const { outcome } = await run(env(), ['device', 'show', 'no\u001b[2Jpe']);
    expect(outcome).toMatchObject({ code: 'DEVICE_NOT_FOUND', message: 'There is no device no\\u001b[2Jpe' });
  });
});

describe.each([
  ['revoke', 'Revoke', 'Revoking', 'Nothing was revoked.'],
  ['remove', 'Remove', 'Removing', 'Nothing was removed.'],
])('before it does %s', (command, verb, doing, declined) => {
  const ask = (answer: (terminal: ReturnType<typeof fakeTerminal>) => void) => async () => {
    const io = fakeIo({ env: environments.postgres ?? {} });
    const stdin = fakeTerminal();
    const stderr = fakeTerminal();
    let asked = '';
    stderr.on('data', (chunk) => {
      asked += String(chunk);
    });
    const outcome = runProgram(['device', command, 'a', 'b'], { ...io, stdin, stderr }).catch(
      (error) => error,
    );
    await until('the question is asked', () => asked.includes('[y/N]'));
    expect(asked).toContain(`${verb} 2 devices (a, b)? Their connections and sessions end at once`);
    answer(stdin);
    const ended = await outcome;
    expect(asked.includes(declined)).toBe(ended === 1);
    return ended;
  };

  test('it asks on a terminal, and takes everything but yes for a no', async () => {
    expect(await ask((terminal) => terminal.write('\r'))()).toBe(1);
    expect(await ask((terminal) => terminal.write('no\r'))()).toBe(1);
    expect(await ask((terminal) => terminal.end())()).toBe(1);
    expect(await ask((terminal) => terminal.write('y\r'))()).toMatchObject({ code: 'DEVICE_NOT_FOUND' });
  });

  test('Ctrl-C at the question ends the command like a signal', async () => {
    const outcome = await ask((terminal) => terminal.write('\u0003'))();
    expect(outcome).toBeInstanceOf(Interrupted);
    expect((outcome as Interrupted).exitStatus).toBe(130);
  });

  test('without a terminal it wants --yes', async () => {
    const { status, stderr } = await runCli(['device', command, 'a'], environments.postgres);
    expect(status).toBe(2);
    expect(stderr).toBe(`svc-mqtt: ${doing} needs a yes, and there is no terminal to ask on. Add --yes\n`);
    expect((await run(environments.postgres ?? {}, ['device', command, '-'], 'a')).outcome).toMatchObject({
      code: 'USAGE',
    });
  });
});

test('a list of many devices comes whole, and stops quietly when nobody reads on', async () => {
  const env = environments.postgres ?? {};
  await run(env, ['device', 'add', '--type', 'many', '--count', '2500', '--json']);
  const listed = await runCli(['device', 'list', '--type', 'many', '--json'], env);
  expect(new Set(jsonLines(listed.stdout).map((line) => line.id)).size).toBe(2_500);
  const io = fakeIo({ env });
  io.closeOutput();
  expect(await runProgram(['device', 'list', '--json'], io)).toBe(0);
  expect(io.out().split('\n').length).toBeLessThanOrEqual(1_001);
});

test('a signal ends a command that waits for its database', async () => {
  const io = fakeIo({ env: environments.postgres ?? {} });
  io.stop('SIGTERM');
  const outcome = await runProgram(['device', 'list'], io).catch((error) => error);
  expect(outcome).toBeInstanceOf(Interrupted);
  expect((outcome as Interrupted).exitStatus).toBe(143);
});
