import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Actor } from '../../src/db/audit.js';
import {
  changePolicy,
  type DevicePolicy,
  findPolicy,
  listPolicies,
  loadPolicies,
  maxPolicies,
  removePolicy,
  setPolicy,
} from '../../src/db/policies.js';
import { startPolicyDirectory } from '../../src/server/directory/policy-directory.js';
import { openTestLog } from '../support/forwarding.js';
import { kinds, openTestDatabase, type TestDatabase, until } from './databases.js';

const actor: Actor = { kind: 'cli', name: 'tester' };
const rules = {
  publish: ['raw/{id}/#'],
  subscribe: ['cmd/{id}/#'],
  publishRate: 10,
  maxPacketBytes: 4_096,
  natsSubject: 'raw.{type}.{id}',
  ackLevel: null,
  onRefusal: null,
  receipts: null,
};

describe.each(kinds)('policies in %s', (kind) => {
  let database: TestDatabase;
  let directory: Awaited<ReturnType<typeof startPolicyDirectory>> | undefined;
  beforeAll(async () => {
    database = await openTestDatabase(kind);
  });
  afterEach(async () => {
    directory?.close();
    await database.sql('delete from policies');
    await database.sql('delete from audit_log');
  });
  afterAll(async () => {
    await database?.close();
  });
  const audited = () =>
    database.sql<{ action: string; target: string; actor: string }>(
      'select action, target, actor, details from audit_log order by id',
    );

  test('are set whole, found, listed in order and removed, each change in the audit log', async () => {
    const first = await setPolicy(database.db, actor, { type: 'b', ...rules });
    expect(first).toMatchObject({ type: 'b', ...rules });
    const none = {
      publishRate: null,
      maxPacketBytes: null,
      natsSubject: null,
      ackLevel: null,
      onRefusal: null,
      receipts: null,
    };
    const second = await setPolicy(database.db, actor, { type: 'b', publish: [], subscribe: [], ...none });
    expect(second).toMatchObject({ type: 'b', publish: [], subscribe: [], ...none });
    expect(second.createdAt).toEqual(first.createdAt);
    expect(second.updatedAt.getTime()).toBeGreaterThanOrEqual(first.updatedAt.getTime());
    await setPolicy(database.db, actor, { type: 'a', ...rules });
    expect((await listPolicies(database.db)).map(({ type }) => type)).toEqual(['a', 'b']);
    expect((await listPolicies(database.db, { after: 'a', limit: 1 })).map(({ type }) => type)).toEqual([
      'b',
    ]);
    expect(await findPolicy(database.db, 'b')).toEqual(second);
    expect(await removePolicy(database.db, actor, 'b')).toBe(true);
    expect(await removePolicy(database.db, actor, 'b')).toBe(false);
    expect(await findPolicy(database.db, 'b')).toBeUndefined();
    expect(await findPolicy(database.db, 'a\0')).toBeUndefined();
    expect(await audited()).toMatchObject([
      { action: 'policy.set', target: 'b', actor: 'tester', details: { publish_rate: 10 } },
      { action: 'policy.set', target: 'b', details: { publish: [], publish_rate: null } },
      { action: 'policy.set', target: 'a' },
      { action: 'policy.remove', target: 'b' },
    ]);
  });

  test('are changed in some fields, none of the changes at once being lost', async () => {
    const { before, after } = await changePolicy(database.db, actor, 'a', { publish: [] });
    expect([before, after]).toMatchObject([
      undefined,
      { publish: [], subscribe: ['cmd/{id}/#'], publishRate: null },
    ]);
    await Promise.all([
      changePolicy(database.db, actor, 'a', { publishRate: 5 }),
      changePolicy(database.db, actor, 'a', { subscribe: [] }),
      changePolicy(database.db, actor, 'a', { maxPacketBytes: 4_096 }),
      changePolicy(database.db, actor, 'a', {
        natsSubject: 'raw.{id}',
        ackLevel: null,
        onRefusal: null,
        receipts: null,
      }),
    ]);
    const merged = {
      publish: [],
      subscribe: [],
      publishRate: 5,
      maxPacketBytes: 4_096,
      natsSubject: 'raw.{id}',
      ackLevel: null,
      onRefusal: null,
      receipts: null,
    };
    const stored = await findPolicy(database.db, 'a');
    expect(stored).toMatchObject(merged);
    expect(await changePolicy(database.db, actor, 'a', merged)).toEqual({ before: stored, after: stored });
    expect(await audited()).toHaveLength(5);
  });

  test('with faults are refused, and nothing is written', async () => {
    const bad = { type: '', ...rules, publish: ['#/a'], publishRate: 0 };
    await expect(setPolicy(database.db, actor, bad)).rejects.toMatchObject({
      code: 'INPUT_INVALID',
      message: expect.stringMatching(/^type must not be empty; publish "#\/a".*; publish_rate must/),
    });
    await expect(changePolicy(database.db, actor, 'a', { publishRate: 0 })).rejects.toMatchObject({
      code: 'INPUT_INVALID',
    });
    expect([await listPolicies(database.db), await audited()]).toEqual([[], []]);
  });

  test('have a bound, also when two are added at once', async () => {
    await database.sql(
      `insert into policies (device_type, publish, subscribe) select 'type ' || n, '{}', '{}' from generate_series(1, ${maxPolicies - 1}) as n`,
    );
    const outcomes = await Promise.allSettled(
      ['x', 'y', 'z'].map((type) => setPolicy(database.db, actor, { type, ...rules })),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(outcomes.find(({ status }) => status === 'rejected')).toMatchObject({
      reason: { code: 'INPUT_INVALID', message: 'There are 10000 policies already' },
    });
    // One that exists can still be changed.
    await setPolicy(database.db, actor, { type: 'type 1', ...rules });
    expect(await listPolicies(database.db)).toHaveLength(maxPolicies);
    // More can only come by hand. A replica then keeps what it has, rather than the default for those left out.
    await database.sql(`insert into policies (device_type, publish, subscribe) values ('more', '{}', '{}')`);
    await expect(loadPolicies(database.db)).rejects.toMatchObject({ code: 'INPUT_INVALID' });
    expect(await audited()).toHaveLength(2);
  });

  test('stay as they were last known while they cannot be loaded, and are loaded when they can', async () => {
    await setPolicy(database.db, actor, { type: 'a', ...rules });
    const { log, lines } = openTestLog();
    let loaded: readonly DevicePolicy[] = [];
    let loads = 0;
    directory = await startPolicyDirectory({
      db: database.db,
      feed: await database.feed(),
      log,
      onLoaded(policies) {
        loaded = policies;
        loads += 1;
      },
    });
    expect(loaded.map(({ type }) => type)).toEqual(['a']);
    await database.sql(
      `insert into policies (device_type, publish, subscribe) values ('b', '{}', '{}');
       alter table policies rename to elsewhere`,
    );
    await until('they cannot be loaded', () => lines.some(({ event }) => event === 'policies_not_loaded'));
    expect(loads).toBe(1);
    await database.sql('alter table elsewhere rename to policies');
    await until('both are loaded', () => loaded.length === 2);
    expect(lines.filter(({ event }) => event === 'policies_not_loaded')).toHaveLength(1);
  });

  test('written by hand allow nothing where they are unsound', async () => {
    await database.sql(
      'insert into policies (device_type, publish, subscribe, nats_subject) values ($1, $2, $3, $4), ($5, $6, $7, $8)',
      [
        ...['a', ['raw/{id}/#', '#/x'], ['cmd/{id}/#', '$SYS/#'], null],
        ...['b', ['raw/{id}'], ['cmd/{id}/#'], '>'],
      ],
    );
    const { log, lines } = openTestLog();
    let loaded: readonly DevicePolicy[] = [];
    directory = await startPolicyDirectory({
      db: database.db,
      feed: await database.feed(),
      log,
      onLoaded(policies) {
        loaded = policies;
      },
    });
    expect(loaded).toMatchObject([
      { type: 'a', publish: ['raw/{id}/#'], subscribe: ['cmd/{id}/#'] },
      {
        type: 'b',
        publish: [],
        subscribe: ['cmd/{id}/#'],
        natsSubject: null,
        ackLevel: null,
        onRefusal: null,
        receipts: null,
      },
    ]);
    expect(lines.filter(({ event }) => event === 'policy_unsound')).toMatchObject([
      { type: 'a', problems: [expect.stringContaining('#/x'), expect.stringContaining('$SYS')] },
      { type: 'b', problems: [expect.stringContaining('nats_subject')] },
    ]);
  });
});
