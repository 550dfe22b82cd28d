import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeAudit } from '../../src/db/audit.js';
import { listAudit, pruneAudit } from '../../src/db/audit-log.js';
import { kinds, openTestDatabase, type TestDatabase } from './databases.js';

describe.each(kinds)('the audit log in %s', (kind) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  beforeEach(() => database.sql('truncate audit_log'));
  afterAll(() => database?.close());

  const write = (action: string, target: string, details: Record<string, unknown> = {}) =>
    writeAudit(database.db.orm, { kind: 'api-key', name: 'ci', address: '192.0.2.1' }, [
      { action, target, details },
    ]);

  test('is read newest first, a page at a time', async () => {
    for (let index = 0; index < 7; index += 1) await write('device.add', `d${index}`, { index });
    const seen: string[] = [];
    let page = await listAudit(database.db, { limit: 3 });
    while (page.length > 0) {
      seen.push(...page.map((record) => record.target));
      page = await listAudit(database.db, { limit: 3, before: page.at(-1)?.id });
    }
    expect(seen).toEqual(['d6', 'd5', 'd4', 'd3', 'd2', 'd1', 'd0']);
    expect((await listAudit(database.db, { limit: 1 }))[0]).toEqual({
      id: expect.any(Number),
      at: expect.any(Date),
      actorKind: 'api-key',
      actor: 'ci',
      address: '192.0.2.1',
      action: 'device.add',
      target: 'd6',
      details: { index: 6 },
    });
  });

  test('takes whatever the details hold', async () => {
    await write('device.command', 'one', {
      topic: 'a\ud800b',
      nested: [{ text: 'c\0d' }],
      fine: '😀 \\ud800',
    });
    expect((await listAudit(database.db, { limit: 1 }))[0]?.details).toEqual({
      topic: 'a\ufffdb',
      nested: [{ text: 'c\ufffdd' }],
      fine: '😀 \\ud800',
    });
  });

  test('is read of one device, and since a time', async () => {
    await write('device.add', 'one');
    await write('api-key.create', 'one');
    await write('device.add', 'two');
    await database.sql("update audit_log set at = now() - interval '3 days'");
    await write('device.revoke', 'one');
    await write('connection.kick', 'one');
    await write('session.end', 'one', { client: 'c' });
    const read = async (request: { device?: string; since?: Date }) =>
      (await listAudit(database.db, { ...request, limit: 10 })).map(({ action, target }) => [action, target]);
    expect(await read({ device: 'one' })).toEqual([
      ['session.end', 'one'],
      ['connection.kick', 'one'],
      ['device.revoke', 'one'],
      ['device.add', 'one'],
    ]);
    const since = new Date(Date.now() - 86_400_000);
    expect(await read({ since })).toEqual([
      ['session.end', 'one'],
      ['connection.kick', 'one'],
      ['device.revoke', 'one'],
    ]);
    expect(await read({ device: 'two', since })).toEqual([]);
    expect(await read({ device: 'nobody' })).toEqual([]);
    expect(await read({ device: 'a\0b' })).toEqual([]);
  });

  test('forgets what is older than asked for, a batch at a time, and nothing else', async () => {
    await database.sql(`insert into audit_log (at, actor_kind, actor, action, target)
      select now() - interval '31 days', 'cli', 'x', 'device.add', n::text from generate_series(1, 6000) n`);
    await database.sql(`insert into audit_log (at, actor_kind, actor, action, target)
      values (now() - interval '29 days', 'cli', 'x', 'device.add', 'kept')`);
    expect(await pruneAudit(database.db, 30)).toEqual({ deleted: 5_000, more: true });
    expect(await pruneAudit(database.db, 30)).toEqual({ deleted: 1_000, more: false });
    expect(await pruneAudit(database.db, 30)).toEqual({ deleted: 0, more: false });
    expect(await database.sql('select target from audit_log')).toEqual([{ target: 'kept' }]);
  });
});
