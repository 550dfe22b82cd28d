import { beforeEach, describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import { parseApiKey } from '../../src/db/api-keys.js';
import type { SvcMqttError } from '../../src/errors.js';
import { kinds } from '../db/databases.js';
import { useDatabase } from './database.js';
import { fakeIo, jsonLines } from './support.js';

async function run(env: Record<string, string>, ...args: string[]) {
  const io = fakeIo({ env });
  const outcome = await runProgram(args, io).catch((error: SvcMqttError) => error);
  return { outcome, out: io.out(), err: io.err(), lines: () => jsonLines(io.out()) };
}

describe.each(kinds)('on %s', (kind) => {
  const database = useDatabase(kind);
  const env = () => database.env;
  beforeEach(() => database.db.pool.query('truncate api_keys, audit_log, devices'));

  test('a key is made and shown once; the first one says what it changes', async () => {
    const made = await run(env(), 'api-key', 'create', '--name', 'ci', '--role', 'provisioner');
    expect(made.outcome).toBe(0);
    expect(made.out).toMatch(
      /^id {7}[a-z2-7]{16}\nname {5}ci\nrole {5}provisioner\nkey {6}svcmqtt_[a-z2-7]{16}_[a-z2-7]{32}\nexpires {2}never\n$/,
    );
    expect(made.err).toBe(
      'Keep the key: nothing can show it again.\n' +
        'This is the first key: the HTTP API now wants a key or API_TOKEN of everybody, on this machine too.\n',
    );
    const secret = parseApiKey(/svcmqtt_\S+/.exec(made.out)?.[0] ?? '')?.secret ?? '';
    expect(secret).toHaveLength(32);
    const second = await run(
      env(),
      ...['api-key', 'create', '--name', 'ops', '--role', 'operator', '--expires', '90d', '--json'],
    );
    expect(second.err).toBe('');
    const [key] = second.lines();
    expect(Object.keys(key ?? {})).toEqual(['id', 'name', 'role', 'key', 'created_at', 'expires_at']);
    const lifeMs = Date.parse(String(key?.expires_at)) - Date.parse(String(key?.created_at));
    expect(Math.round(lifeMs / 86_400_000)).toBe(90);
    for (const args of [['api-key', 'list'], ['api-key', 'list', '--json'], ['audit'], ['audit', '--json']]) {
      const shown = await run(env(), ...args);
      expect(shown.out).toContain('ops');
      expect(shown.out).not.toContain(secret);
    }
  });

  test('keys are listed by state, and marked when they have expired', async () => {
    expect(await run(env(), 'api-key', 'list')).toMatchObject({
      outcome: 0,
      out: '',
      err: 'There are no active API keys.\n',
    });
    for (const name of ['b', 'a', 'old'])
      await run(env(), 'api-key', 'create', '--name', name, '--role', 'viewer');
    await database.db.pool.query("update api_keys set expires_at = now() where name = 'b'");
    expect((await run(env(), 'api-key', 'revoke', 'old')).out).toMatch(/^old \([a-z2-7]{16}\) revoked\n$/);
    const names = async (...args: string[]) =>
      (await run(env(), 'api-key', 'list', '--json', ...args)).lines().map(({ name }) => name);
    expect([await names(), await names('--revoked'), await names('--all')]).toEqual([
      ['a', 'b'],
      ['old'],
      ['a', 'b', 'old'],
    ]);
    const table = (await run(env(), 'api-key', 'list', '--all')).out.trimEnd().split('\n');
    expect(table[0]).toMatch(/^ID\tNAME\tROLE\tCREATED\tLAST USED\tEXPIRES\tREVOKED$/);
    expect(table[2]).toMatch(/\tb\t.*\tnever\t.*Z \(expired\)\t-$/);
    expect(table[1]).toMatch(/\ta\t.*\tnever\tnever\t-$/);
    expect(table[3]).toMatch(/\told\t.*Z$/);
  });

  test('a key is revoked by name or id; the key itself is no argument', async () => {
    const [key] = (
      await run(env(), 'api-key', 'create', '--name', 'ci', '--role', 'viewer', '--json')
    ).lines();
    const refused = await run(env(), 'api-key', 'revoke', String(key?.key));
    expect(refused.outcome).toMatchObject({
      code: 'USAGE',
      suggestion: `svc-mqtt api-key revoke ${key?.id}`,
    });
    expect(refused.outcome).not.toMatchObject({ message: expect.stringContaining('svcmqtt_') });
    expect((await run(env(), 'api-key', 'revoke', String(key?.id), '--json')).lines()).toEqual([
      { id: key?.id, name: 'ci', outcome: 'revoked' },
    ]);
    expect((await run(env(), 'api-key', 'revoke', 'ci', '--json')).lines()).toEqual([
      { id: key?.id, name: 'ci', outcome: 'already_revoked' },
    ]);
    const unknown = await run(env(), 'api-key', 'revoke', 'nobody\u001b');
    expect(unknown.outcome).toMatchObject({ code: 'API_KEY_NOT_FOUND', exitStatus: 1 });
    expect(unknown.outcome).not.toMatchObject({ message: expect.stringContaining('\u001b') });
  });

  test.each<[string[], string, RegExp]>([
    [['--role', 'viewer'], 'USAGE', /--name/],
    [['--name', 'x'], 'USAGE', /--role/],
    [['--name', 'x', '--role', 'king'], 'USAGE', /viewer, provisioner, operator/],
    [['--name', 'a b', '--role', 'viewer'], 'INPUT_INVALID', /^name may contain only/],
    [['--name', 'x', '--role', 'viewer', '--expires', 'soon'], 'USAGE', /--expires/],
    [['--name', 'taken', '--role', 'viewer'], 'API_KEY_EXISTS', /taken/],
  ])('api-key create %j is refused', async (args, code, message) => {
    await run(env(), 'api-key', 'create', '--name', 'taken', '--role', 'viewer');
    const { outcome, out } = await run(env(), 'api-key', 'create', ...args);
    expect(outcome).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(out).toBe('');
  });

  test('the audit log shows the latest changes, newest last, by device and time', async () => {
    expect(await run(env(), 'audit')).toMatchObject({
      outcome: 0,
      out: '',
      err: 'There are no such entries in the audit log.\n',
    });
    await run(env(), 'device', 'add', '--type', 'sensor', '--id', 'one');
    await run(env(), 'device', 'add', '--type', 'sensor', '--id', 'two');
    await run(env(), 'device', 'revoke', 'one', '--yes');
    await run(env(), 'api-key', 'create', '--name', 'one', '--role', 'viewer');
    const read = async (...args: string[]) =>
      (await run(env(), 'audit', '--json', ...args)).lines().map(({ action, target }) => [action, target]);
    expect(await read()).toEqual([
      ['device.add', 'one'],
      ['device.add', 'two'],
      ['device.revoke', 'one'],
      ['api-key.create', 'one'],
    ]);
    expect(await read('--device', 'one')).toEqual([
      ['device.add', 'one'],
      ['device.revoke', 'one'],
    ]);
    const latest = await run(env(), 'audit', '--limit', '2');
    expect(latest.err).toBe('There are older entries; --limit shows more.\n');
    const rows = latest.out.trimEnd().split('\n');
    expect(rows).toHaveLength(3);
    expect(rows[0]).toMatch(/^TIME\tACTOR\tADDRESS\tACTION\tTARGET\tDETAILS$/);
    expect(rows[2]).toMatch(/^20\S+Z\tcli:\S+\t-\tapi-key\.create\tone\t.*role=viewer/);
    await database.db.pool.query("update audit_log set at = now() - interval '2 hours' where target = 'two'");
    expect(await read('--since', '1h')).not.toContainEqual(['device.add', 'two']);
    expect(await read('--since', '3h')).toContainEqual(['device.add', 'two']);
    const [entry] = (await run(env(), 'audit', '--json', '--limit', '1')).lines();
    expect(Object.keys(entry ?? {})).toEqual([
      'id',
      'at',
      'actor_kind',
      'actor',
      'address',
      'action',
      'target',
      'details',
    ]);
  });

  test('a change of many devices is a line of the table, and does not hide the others', async () => {
    await run(env(), 'device', 'add', '--type', 'before', '--id', 'b1');
    await run(env(), 'device', 'add', '--type', 'sensor', '--count', '70', '--metadata', 'site=lyon');
    await run(env(), 'device', 'add', '--type', 'after', '--id', 'a1');
    const table = async (...args: string[]) => (await run(env(), 'audit', ...args)).out.trimEnd().split('\n');
    const [, before, bulk, after, ...rest] = await table('--limit', '3');
    expect(rest).toEqual([]);
    expect(before).toMatch(/\tdevice\.add\tb1\ttype=before$/);
    expect(bulk).toMatch(
      /\tdevice\.add\t70 devices: \w+, \w+, \w+, …\ttype=sensor metadata=\{"site":"lyon"\}$/,
    );
    expect(after).toMatch(/\tdevice\.add\ta1\ttype=after$/);
    expect((await run(env(), 'audit', '--json')).lines()).toHaveLength(72);
    expect((await run(env(), 'audit', '--json', '--limit', '71')).lines()).toHaveLength(71);
    const [, id = ''] = / devices: (\w+),/.exec(bulk ?? '') ?? [];
    expect(await table('--device', id)).toHaveLength(2);
    expect((await run(env(), 'audit', '--limit', '2')).err).toContain('older entries');
  });

  test('the audit log comes whole when it is longer than a page', async () => {
    await database.db.pool.query(`insert into audit_log (actor_kind, actor, action, target)
      select 'cli', 'x', 'device.add', n::text from generate_series(1, 2500) n`);
    const targets = (await run(env(), 'audit', '--json', '--limit', '2300'))
      .lines()
      .map(({ target }) => target);
    expect(targets).toEqual(Array.from({ length: 2_300 }, (_, index) => String(index + 201)));
  });
});
