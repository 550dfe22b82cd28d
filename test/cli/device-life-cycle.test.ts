import { userInfo } from 'node:os';
import { describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import { loadCredentials, matchSecret } from '../../src/db/devices/device-credentials.js';
import type { SvcMqttError } from '../../src/errors.js';
import { kinds } from '../db/databases.js';
import { useDatabase } from './database.js';
import { fakeIo, jsonLines } from './support.js';

describe.each(kinds)('on %s', (kind) => {
  const database = useDatabase(kind);

  const run = async (...args: string[]) => {
    const io = fakeIo({ env: database.env });
    const outcome = await runProgram(args, io).catch((error: SvcMqttError) => error);
    return { outcome, out: io.out(), err: io.err(), json: () => jsonLines(io.out())[0] ?? {} };
  };
  const secretOf = async (id: string, password: unknown) => {
    const [credentials] = await loadCredentials(database.db, [id]);
    return credentials && matchSecret(credentials, Buffer.from(String(password)));
  };

  test('a device is added with an expiry and metadata, shown, changed and found again', async () => {
    const metadata = ['--metadata', 'site=lyon', '--metadata', 'note=a=b'];
    const added = await run(
      'device',
      'add',
      '--type',
      't',
      '--id',
      'one',
      '--expires',
      '2099-01-31',
      ...metadata,
      '--json',
    );
    expect(added.json()).toMatchObject({
      id: 'one',
      expires_at: '2099-01-31T00:00:00.000Z',
      metadata: { site: 'lyon', note: 'a=b' },
    });
    const expiry = ['--expires', '2099-01-31'];
    const two = await run('device', 'add', '--type', 't', '--id', 'two', ...expiry, '--metadata', 'a=b');
    expect(two.out).toMatch(/\nexpires_at {5}2099-01-31 00:00:00Z\nmetadata {7}a=b\n$/);
    const many = await run('device', 'add', '--type', 'm', '--count', '2', ...expiry, '--metadata', 'c=d');
    const [header, ...lines] = many.out.trimEnd().split('\n');
    expect(header).toMatch(/TYPE\tEXPIRES\tMETADATA$/);
    expect(lines).toHaveLength(2);
    for (const line of lines) expect(line).toMatch(/m\t2099-01-31T00:00:00\.000Z\tc=d$/);
    const shown = await run('device', 'show', 'one');
    expect(shown.out).toContain('expires          2099-01-31 00:00:00Z\n');
    expect(shown.out).toContain('previous secret  none\n');
    expect(shown.out).toMatch(/metadata +note=a=b, site=lyon\n/);
    expect((await run('device', 'list', '--metadata', 'site=lyon', '--json')).json()).toMatchObject({
      id: 'one',
    });
    const changed = await run(
      'device',
      'set',
      'one',
      '--expires',
      'never',
      '--metadata',
      'rack=7',
      '--unset',
      'note',
      '--json',
    );
    expect(changed.json()).toMatchObject({ expires_at: null, metadata: { rack: '7', site: 'lyon' } });
    expect((await run('device', 'list', '--metadata', 'site=lyon', '--metadata', 'rack=8')).err).toContain(
      'no active',
    );
    const { rows } = await database.db.pool.query(`select * from audit_log where target = 'one' order by id`);
    expect(rows).toMatchObject([
      { action: 'device.add', actor_kind: 'cli', actor: userInfo().username },
      { action: 'device.set', details: { expires_at: null, metadata: { rack: '7', note: null } } },
    ]);
    expect((await run('audit', '--device', 'one')).out).toMatch(/\tdevice\.set\tone\t.* expires_at=never\n/);
  });

  test('an expired device is listed as such', async () => {
    await run('device', 'add', '--type', 'old', '--id', 'old');
    await database.db.pool.query(
      `update devices set expires_at = now() - interval '1 minute' where id = 'old'`,
    );
    expect((await run('device', 'list', '--type', 'old')).err).toContain('no active');
    expect((await run('device', 'list', '--expired', '--json')).json()).toMatchObject({ id: 'old' });
    expect((await run('device', 'show', 'old')).out).toMatch(/expires .*Z \(expired\)\n/);
  });

  test('a secret is replaced, once or twice within a grace, and what holds is shown', async () => {
    const first = (await run('device', 'add', '--type', 't', '--id', 'rot', '--json')).json().mqtt_password;
    const rotated = await run('device', 'rotate', 'rot', '--grace', '24h');
    expect(rotated.out).toMatch(/^id {13}rot\nmqtt_user {6}rot\nmqtt_password {2}[a-z2-7]{32}\n$/);
    expect(rotated.err).toMatch(/^Keep the password.*The old one is valid until 20.*Z\.\n$/);
    expect(rotated.out).not.toContain(String(first));
    expect((await run('device', 'show', 'rot')).out).toMatch(/previous secret +valid until 20/);
    // The new one is lost before the device has it: the device must not be locked out.
    const lost = /mqtt_password {2}(\S+)/.exec(rotated.out)?.[1];
    const again = await run('device', 'rotate', 'rot', '--grace', '1h', '--until-used', '--json');
    expect(await secretOf('rot', first)).toBe('previous');
    expect(await secretOf('rot', lost)).toBeUndefined();
    expect(await secretOf('rot', again.json().mqtt_password)).toBe('current');
    await database.db.pool.query(`update devices set last_secret_used = 'current' where id = 'rot'`);
    const third = await run('device', 'rotate', 'rot', '--grace', '1h', '--json');
    expect(await secretOf('rot', first)).toBeUndefined();
    expect(await secretOf('rot', again.json().mqtt_password)).toBe('previous');
    expect((await run('device', 'show', 'rot')).out).toMatch(/last login by +the previous secret\n/);
    await run('device', 'rotate', 'rot', '--yes');
    expect(await secretOf('rot', third.json().mqtt_password)).toBeUndefined();
    expect((await run('device', 'show', 'rot')).out).toMatch(/last login by +-\nprevious secret +none\n/);
  });

  test('a revocation is ended', async () => {
    await run('device', 'add', '--type', 't', '--id', 'back');
    await run('device', 'revoke', 'back', '--yes');
    const enabled = await run('device', 'enable', 'back', 'nope');
    expect(enabled).toMatchObject({ out: 'back enabled\n', outcome: { code: 'DEVICE_NOT_FOUND' } });
    expect((await run('device', 'enable', 'back', '--json')).json()).toEqual({
      id: 'back',
      outcome: 'already_enabled',
    });
    expect((await run('device', 'show', 'back', '--json')).json().revoked_at).toBeNull();
  });

  test.each([
    [['add', '--type', 't', '--expires', 'tomorrow'], /--expires cannot be "tomorrow"/],
    [['add', '--type', 't', '--expires', '2099-02-29'], /--expires cannot be/],
    [['add', '--type', 't', '--expires', '2020-01-01'], /must be in the future/],
    [['add', '--type', 't', '--expires', '2099-01-01T00:00:00'], /--expires cannot be/],
    [['add', '--type', 't', '--metadata', 'site'], /key=value/],
    [['add', '--type', 't', '--metadata', '__proto__=x'], /metadata.__proto__ has a key/],
    [['add', '--type', 't', '--metadata', `a=${'x'.repeat(257)}`], /256/],
    [['add', '--type', 't', '--metadata', 'a=b', '--metadata', 'a=c'], /"a=c": there is another value for a/],
    [['list', '--metadata', 'a=b', '--metadata', 'a=c'], /another value for a/],
    [['set', 'one'], /something to change/],
    [['set', 'one', '--metadata', 'a=b', '--unset', 'a'], /"a" is in --metadata and in --unset/],
    [['rotate', 'one', '--until-used'], /--until-used needs --grace/],
    [['rotate', 'one', '--grace', '366d'], /at most 365d/],
    [['list', '--expired', '--all'], /cannot be used with/],
  ])('%j is refused', async (args, message) => {
    const { outcome } = await run('device', ...args);
    expect(outcome).toMatchObject({ code: 'USAGE', message: expect.stringMatching(message) });
  });

  test.each([
    ['rotate', 'nobody', '--yes'],
    ['set', 'nobody', '--expires', 'never'],
    ['enable', 'nobody'],
  ])('%s of an unknown device is a failure that names it', async (...args) => {
    expect((await run('device', ...args)).outcome).toMatchObject({
      code: 'DEVICE_NOT_FOUND',
      message: 'There is no device nobody',
    });
  });
});
