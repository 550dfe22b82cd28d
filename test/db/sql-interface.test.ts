import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { listAudit } from '../../src/db/audit-log.js';
import { loadCredentials, matchSecret } from '../../src/db/devices/device-credentials.js';
import { addDevices } from '../../src/db/devices/devices.js';
import { migrate } from '../../src/db/migrate.js';
import { kinds, openTestDatabase, type TestDatabase, testActor } from './databases.js';

interface Added {
  device_id: string;
  secret: string;
}

describe.each(kinds)('the SQL interface in %s', (kind) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  afterAll(async () => {
    await database?.close();
  });

  const add = async (args: string): Promise<Added> => {
    const [added] = await database.sql<{ device_id: string; secret: string }>(
      `select * from svc_mqtt.add_device(${args})`,
    );
    return added as Added;
  };
  const auditOf = async (device: string) => {
    const records = await listAudit(database.db, { device, limit: 10 });
    return records.map(({ actorKind, action, details }) => ({ actorKind, action, details }));
  };

  test('says its version', async () => {
    expect(await database.sql('select svc_mqtt.version()')).toEqual([{ version: 1 }]);
  });

  test('adds a device whose secret logs in, and writes who did', async () => {
    const { device_id: id, secret } = await add(
      `'pump', expires_at => '2199-01-01Z', metadata => '{"site": "graz"}'`,
    );
    expect(id).toMatch(/^[a-z2-7]{16}$/);
    expect(secret).toMatch(/^[a-z2-7]{32}$/);
    const [credentials] = await loadCredentials(database.db, [id]);
    if (credentials === undefined) throw new Error('it is not there');
    expect(matchSecret(credentials, Buffer.from(secret), Date.now())).toBe('current');
    expect(matchSecret(credentials, Buffer.from(secret.toUpperCase()), Date.now())).toBeUndefined();
    expect(await auditOf(id)).toEqual([
      {
        actorKind: 'sql',
        action: 'device.add',
        details: { type: 'pump', expires_at: '2199-01-01T00:00:00.000Z', metadata: { site: 'graz' } },
      },
    ]);
    const [shown] = await database.sql('select * from svc_mqtt.device where id = $1', [id]);
    expect(shown).toMatchObject({ id, type: 'pump', state: 'active', metadata: { site: 'graz' } });
    expect(Object.keys(shown ?? {}).filter((name) => /secret|salt|hash/.test(name))).toEqual([]);
  });

  test('no two secrets are alike', async () => {
    const added = await database.sql<Added>(
      `select added.* from generate_series(1, 500) as at, lateral svc_mqtt.add_device('many-' || at) as added`,
    );
    expect(new Set(added.map(({ secret }) => secret)).size).toBe(500);
    expect(new Set(added.map(({ device_id }) => device_id)).size).toBe(500);
  });

  test('a device is added and revoked in the transaction of the application, or not at all', async () => {
    const client = await database.db.connect();
    try {
      await client.query('create table orders (device text references devices (id))');
      await client.query('begin');
      const { rows } = await client.query<Added>(`select * from svc_mqtt.add_device('pump')`);
      await client.query('insert into orders values ($1)', [rows[0]?.device_id]);
      await client.query('rollback');
      expect(await loadCredentials(database.db, [rows[0]?.device_id ?? ''])).toEqual([]);
      expect(await auditOf(rows[0]?.device_id ?? '')).toEqual([]);
      await client.query('begin');
      const { rows: kept } = await client.query<Added>(`
        with added as (select * from svc_mqtt.add_device('pump', 'order-1')),
          ordered as (insert into orders select device_id from added)
        select device_id, secret from added`);
      await client.query('commit');
      expect(kept).toEqual([{ device_id: 'order-1', secret: expect.stringMatching(/^[a-z2-7]{32}$/) }]);
      expect(await loadCredentials(database.db, ['order-1'])).toHaveLength(1);
    } finally {
      await client.query('drop table orders');
      await client.end();
    }
  });

  test('revokes a device once, with the reason, and tells the replicas', async () => {
    const [device] = await addDevices(database.db, testActor, { type: 'sensor' });
    const id = device?.id ?? '';
    await database.sql('delete from device_changes');
    const revoke = (reason: string) =>
      database.sql<{ revoked: boolean }>('select svc_mqtt.revoke_device($1, $2) as revoked', [id, reason]);
    expect(await revoke('stolen')).toEqual([{ revoked: true }]);
    expect(await revoke('again')).toEqual([{ revoked: false }]);
    expect(await database.sql('select device_id from device_changes')).toEqual([{ device_id: id }]);
    expect(await database.sql('select state from svc_mqtt.device where id = $1', [id])).toEqual([
      { state: 'revoked' },
    ]);
    expect((await auditOf(id))[0]).toEqual({
      actorKind: 'sql',
      action: 'device.revoke',
      details: { reason: 'stolen' },
    });
    const [noted] = await database.sql('select actor from svc_mqtt.audit where target = $1 limit 1', [id]);
    expect(noted).toHaveProperty('actor');
  });

  test.each([
    [`''`, '22023', /a type has/],
    [`null`, '22023', /a type has/],
    [`'-x'`, '22023', /hyphen/],
    [`e'a\\tb'`, '22023', /control/],
    [`repeat('x', 129)`, '22023', /128/],
    [`'svcmqtt_abcdefghijklmnop_abcdefghijklmnopqrstuvwxyz234567'`, '22023', /a type has/],
    [`'pump', 'a/b'`, '22023', /a device id has/],
    [`'pump', 'a.b'`, '22023', /a device id has/],
    [`'pump', '-a'`, '22023', /hyphen/],
    [`'pump', ''`, '22023', /a device id has/],
    [`'pump', 'twice'`, '23505', /a device with the id twice exists/],
    [`'pump', expires_at => now() - interval '1 s'`, '22023', /in the future/],
    [`'pump', expires_at => 'infinity'`, '22023', /10000/],
    [`'pump', metadata => '[]'`, '22023', /an object/],
    [`'pump', metadata => '{"a b": "c"}'`, '22023', /metadata\.a b/],
    [`'pump', metadata => '{"a": 1}'`, '22023', /metadata\.a/],
    [`'pump', metadata => jsonb_build_object('a', repeat('x', 257))`, '22023', /metadata\.a/],
  ])('refuses add_device(%s) with SQLSTATE %s and a hint', async (args, code, message) => {
    if (args.includes('twice')) await add(args);
    await expect(add(args)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
      hint: expect.stringMatching(/\S/),
    });
  });

  test('refuses to revoke a device that is not there', async () => {
    await expect(database.sql(`select svc_mqtt.revoke_device('nobody')`)).rejects.toMatchObject({
      code: 'P0002',
      hint: expect.stringMatching(/svc_mqtt\.device/),
    });
  });

  test.each([
    ["''"],
    ["repeat('x', 1025)"],
    ["e'a\\nb'"],
    ["e'a\\u0085b'"],
    ["'by svcmqtt_abcdefghijklmnop_abcdefghijklmnopqrstuvwxyz234567'"],
    ["'by SVCMQTTCLAIM_abcdefghijklmnop_abcdefghijklmnopqrstuvwxyz234567'"],
  ])('refuses the reason %s, as the API does', async (reason) => {
    const { device_id: id } = await add(`'pump'`);
    await expect(database.sql(`select svc_mqtt.revoke_device('${id}', ${reason})`)).rejects.toMatchObject({
      code: '22023',
      message: expect.stringMatching(/a reason has/),
      hint: expect.stringMatching(/\S/),
    });
    expect(await auditOf(id)).toHaveLength(1);
  });

  test.skipIf(kind === 'embedded')('a role can do what it was granted and nothing else', async () => {
    const client = await database.db.connect();
    const as = async (statement: string) => {
      try {
        return (await client.query(statement)).rows;
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    try {
      await client.query('create role shop');
      await client.query('grant usage on schema svc_mqtt to shop');
      await client.query('set role shop');
      for (const statement of [
        `select * from svc_mqtt.add_device('pump')`,
        `select svc_mqtt.revoke_device('x')`,
        'select * from svc_mqtt.device',
        'select * from svc_mqtt.audit',
        `select svc_mqtt.note('device.add', 'x', '{}')`,
        'select svc_mqtt_make_interface()',
        'select * from devices',
      ])
        expect([statement, await as(statement)]).toEqual([statement, '42501']);
      await client.query('reset role');
      await client.query('grant execute on function svc_mqtt.add_device to shop');
      await client.query('grant select on svc_mqtt.device to shop');
      await client.query('set role shop');
      // Neither what it makes itself nor its search path is in the way.
      await client.query('create temporary table devices (id text); set search_path = pg_temp, public');
      expect(await as(`select device_id from svc_mqtt.add_device('pump', 'of-shop')`)).toEqual([
        { device_id: 'of-shop' },
      ]);
      expect(await as(`select id from svc_mqtt.device where id = 'of-shop'`)).toEqual([{ id: 'of-shop' }]);
      expect(await as(`select svc_mqtt.revoke_device('of-shop')`)).toBe('42501');
      await client.query('reset role');
      const [noted] = await database.sql<{ actor: string }>(
        `select actor from svc_mqtt.audit where target = 'of-shop'`,
      );
      expect(noted).toEqual({ actor: 'sql:shop' });
    } finally {
      await client.query('reset role');
      await client.query('drop owned by shop; drop role shop').catch(() => {});
      await client.end();
    }
  });
});

test('a role that may not make a schema can migrate, and the interface is made when it may', async () => {
  const database = await openTestDatabase('postgres', { migrated: false });
  try {
    await database.sql(`create role keeper login`);
    await database.sql('grant all on schema public to keeper');
    const client = await database.db.connect();
    await client.query('set role keeper');
    const { readFile, readdir } = await import('node:fs/promises');
    for (const name of (await readdir('drizzle')).filter((each) => each.endsWith('.sql')).sort())
      for (const statement of (await readFile(`drizzle/${name}`, 'utf8')).split('--> statement-breakpoint'))
        await client.query(statement);
    const there = () => database.sql(`select to_regclass('svc_mqtt.device') is not null as there`);
    expect(await there()).toEqual([{ there: false }]);
    await client.query('reset role');
    const [{ name = '' } = {}] = await database.sql<{ name: string }>('select current_database() as name');
    await database.sql(`grant create on database "${name}" to keeper`);
    await client.query('set role keeper');
    await client.query('select svc_mqtt_make_interface()');
    expect(await there()).toEqual([{ there: true }]);
    await client.end();
    await database.sql('drop owned by keeper cascade; drop role keeper');
  } finally {
    await database.close();
  }
});

describe.each(kinds)('a schema svc_mqtt of something else in %s', (kind) => {
  test.each([
    'create table svc_mqtt.audit (x int)',
    `create function svc_mqtt.version() returns text language sql as 'select ''theirs'''`,
    `create function svc_mqtt.theirs() returns text language sql as 'select ''theirs'''`,
    'create type svc_mqtt.device as (x int)',
    'create view svc_mqtt.device as select 1 as x',
  ])('%s: it is left as it is, with a warning, and everything else is made', async (statement) => {
    const database = await openTestDatabase(kind, { migrated: false });
    try {
      await database.sql(`create schema svc_mqtt; ${statement}`);
      const { applied, warnings } = await migrate(database.db);
      expect(applied).toContain('0014_sql_interface_checks');
      expect(warnings).toEqual([
        expect.stringMatching(/svc_mqtt.* is not made.*there is a schema svc_mqtt already/),
      ]);
      await addDevices(database.db, testActor, { type: 'sensor' });
      expect(await database.sql(`select to_regproc('svc_mqtt.add_device') as made`)).toEqual([
        { made: null },
      ]);
      // Nor is a right of others taken.
      const [{ rights } = { rights: [] }] = await database.sql<{ rights: unknown[] }>(
        `select array_agg(proacl::text) as rights from pg_proc where pronamespace = 'svc_mqtt'::regnamespace`,
      );
      expect(rights ?? [null]).toEqual([null]);
      await database.sql('alter schema svc_mqtt rename to theirs');
      expect(await database.sql('select svc_mqtt_make_interface() as problem')).toEqual([{ problem: null }]);
      expect(await database.sql('select svc_mqtt.version()')).toEqual([{ version: 1 }]);
    } finally {
      await database.close();
    }
  });

  test('an empty one, made for it, is used', async () => {
    const database = await openTestDatabase(kind, { migrated: false });
    try {
      await database.sql('create schema svc_mqtt');
      expect(await migrate(database.db)).toMatchObject({ warnings: [] });
      expect(await database.sql('select svc_mqtt.version()')).toEqual([{ version: 1 }]);
    } finally {
      await database.close();
    }
  });
});

test('an interface that was made before is brought up to date, and keeps the rights that were granted', async () => {
  const database = await openTestDatabase('postgres', { migrated: false });
  try {
    const { readFile, readdir } = await import('node:fs/promises');
    const files = (await readdir('drizzle')).filter((each) => each.endsWith('.sql')).sort();
    const apply = async (names: string[]) => {
      for (const name of names)
        for (const statement of (await readFile(`drizzle/${name}`, 'utf8')).split('--> statement-breakpoint'))
          await database.sql(statement);
    };
    await apply(files.filter((name) => name < '0014'));
    await database.sql('select svc_mqtt_make_interface()');
    await database.sql('grant execute on function svc_mqtt.revoke_device to public');
    const device = `select device_id as id from svc_mqtt.add_device('pump')`;
    const revoke = `select svc_mqtt.revoke_device(id, '') from (${device}) as added`;
    await database.sql(revoke);
    await apply(files.filter((name) => name >= '0014'));
    await expect(database.sql(revoke)).rejects.toMatchObject({ code: '22023' });
    expect(
      await database.sql(
        `select has_function_privilege('public', 'svc_mqtt.revoke_device(text, text)', 'execute') as may`,
      ),
    ).toEqual([{ may: true }]);
  } finally {
    await database.close();
  }
});
