import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startAuditRetention } from '../../src/server/operate/audit-retention.js';
import { kinds, openTestDatabase, type TestDatabase, until } from './databases.js';

describe.each(kinds)('a server on %s', (kind) => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  afterAll(() => database?.close());

  const count = async () =>
    (await database.sql<{ n: number }>('select count(*)::int as n from audit_log'))[0]?.n;
  const insert = (days: number, rows: number) =>
    database.sql(
      `insert into audit_log (at, actor_kind, actor, action, target)
       select now() - make_interval(days => $1), 'cli', 'x', 'device.add', n::text from generate_series(1, $2) n`,
      [days, rows],
    );

  test('deletes old audit entries, batch after batch, again and again, and says how many', async () => {
    await insert(401, 12_000);
    await insert(399, 3);
    const lines: Record<string, unknown>[] = [];
    const log = pino({ base: null }, { write: (line: string) => lines.push(JSON.parse(line)) });
    const times = { everyMs: 50, pauseMs: 1 };
    const retention = startAuditRetention({ db: database.db, days: 400, log, times });
    const logged = () => lines.filter(({ event }) => event === 'audit_pruned').map(({ entries }) => entries);
    await until('the old entries are gone', () => logged().length === 1);
    expect(await count()).toBe(3);
    await insert(500, 7);
    await until('later ones are gone, too', () => logged().length === 2);
    expect([await count(), logged()]).toEqual([3, [12_000, 7]]);
    await retention.close();
    await retention.close();
    expect(lines.filter(({ level }) => Number(level) > 30)).toEqual([]);
  });
});
