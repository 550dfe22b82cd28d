import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { addDevices, type NewDevice } from '../../src/db/devices/devices.js';
import {
  type DeviceDirectory,
  type LookUp,
  type LossReason,
  startDeviceDirectory,
} from '../../src/server/directory/device-directory.js';
import { startPostgres, type TestPostgres, withClient } from '../support/postgres.js';
import { openTestDatabase, silentLog, type TestDatabase, testActor, until } from './databases.js';

/** The documentation promises 5 s; beyond this the test does not wait. */
const recoveryMs = 15_000;

interface Outage {
  readonly name: string;
  begin(server: TestPostgres): Promise<void> | void;
  end(server: TestPostgres): Promise<void> | void;
}

const outages: readonly Outage[] = [
  { name: 'stopped', begin: (server) => server.halt(), end: (server) => server.start() },
  { name: 'killed', begin: (server) => server.halt('kill'), end: (server) => server.start() },
  { name: 'frozen', begin: (server) => server.pause(), end: (server) => server.resume() },
];

describe.each(outages)('with PostgreSQL $name', ({ begin, end }) => {
  let server: TestPostgres;
  let database: TestDatabase;
  let directory: DeviceDirectory;
  let lost: [string, LossReason][] = [];
  /** Devices of which the directory has read that they are revoked when it knew so already. */
  const knownRevoked = new Set<string>();
  const connected = new Set<string>();

  beforeAll(async () => {
    server = await startPostgres();
    database = await openTestDatabase('postgres', { adminUrl: server.url, timeoutMs: 1_500 });
    directory = startDeviceDirectory({
      db: database.db,
      feed: await database.feed(),
      cacheSize: 1_000,
      holdMs: 3_000,
      log: silentLog,
      connectedIds: () => connected,
      onRefreshed: ({ id, revokedAtMs }) => {
        if (revokedAtMs !== undefined) knownRevoked.add(id);
      },
      onLost: (id, reason) => {
        if (connected.has(id)) lost.push([id, reason]);
      },
    });
  });
  beforeEach(() => {
    lost = [];
    connected.clear();
  });
  afterAll(async () => {
    server?.resume();
    await directory?.close();
    await database?.close();
    await server?.stop();
  });

  async function add(type: string): Promise<NewDevice> {
    const [device] = await addDevices(database.db, testActor, { type });
    if (device === undefined) throw new Error('no device');
    return device;
  }

  test('known devices are answered, revoked ones as revoked, unknown ones as away; all is well after', async () => {
    const active = await add('known');
    const revoked = await add('revoked');
    const unknown = await add('unknown');
    await database.sql('update devices set revoked_at = now() where id = $1', [revoked.id]);
    expect((await directory.find(active.id)).found).toBe('yes');
    expect((await directory.find(revoked.id)).found).toBe('yes');
    // What is reported changed and not yet read again would not be answered.
    await until('the change is read', () => knownRevoked.has(revoked.id));
    connected.add(active.id);

    await begin(server);
    try {
      expect(await directory.find(unknown.id)).toEqual({ found: 'away' });
      await until('away', () => directory.problem !== undefined);
      expect(await directory.find(unknown.id)).toEqual({ found: 'away' });
      for (const [device, isRevoked] of [
        [active, false],
        [revoked, true],
      ] as const) {
        const answer = await directory.find(device.id);
        expect(answer.found === 'yes' && answer.device.revokedAtMs !== undefined).toBe(isRevoked);
      }
      directory.seen(active.id);
      expect(lost).toEqual([]);
    } finally {
      await end(server);
    }
    await until('live', () => directory.problem === undefined, recoveryMs);
    expect((await directory.find(unknown.id)).found).toBe('yes');
    await database.sql('update devices set revoked_at = now() where id = $1', [active.id]);
    await until('revocation', () => lost.length > 0, recoveryMs);
    expect(lost).toEqual([[active.id, 'revoked']]);
  });

  test('what was revoked or deleted out of sight is noticed after', async () => {
    await until('live', () => directory.problem === undefined);
    const revoked = await add('revoked');
    const deleted = await add('deleted');
    const kept = await add('kept');
    for (const device of [revoked, deleted, kept]) {
      await directory.find(device.id);
      connected.add(device.id);
    }
    await begin(server);
    await until('away', () => directory.problem !== undefined);
    // The changes are made before the directory's connection can be back, as by an operator on another host.
    await end(server);
    const url = new URL(database.config.databaseUrl ?? '');
    await withClient(url.href, async (client) => {
      await client.query('set session_replication_role = replica');
      await client.query('update devices set revoked_at = now() where id = $1', [revoked.id]);
      await client.query('delete from devices where id = $1', [deleted.id]);
    });
    await until('losses', () => lost.length >= 2, recoveryMs);
    expect(new Map(lost)).toEqual(
      new Map([
        [revoked.id, 'revoked'],
        [deleted.id, 'deleted'],
      ]),
    );
    expect((await directory.find(kept.id)).found).toBe('yes');
  });

  test('a look-up of an unknown device waits for it, but not when it has been away for longer', async () => {
    await until('live', () => directory.problem === undefined);
    const unknown = await add('unknown');
    const minute = () => performance.now() + 60_000;
    let settled = false;
    await begin(server);
    let looking: Promise<LookUp>;
    try {
      looking = directory.find(unknown.id, minute());
      void looking.finally(() => {
        settled = true;
      });
      await until('away', () => directory.problem !== undefined);
      expect(settled).toBe(false);
      // From 3 s on nobody waits any more who comes then.
      await until('given up', async () => {
        const startMs = performance.now();
        expect(await directory.find('nobody', startMs + 500)).toEqual({ found: 'away' });
        return performance.now() - startMs < 250;
      });
      expect(settled).toBe(false);
    } finally {
      await end(server);
    }
    expect((await looking).found).toBe('yes');
  });

  test('closing does not wait for it', async () => {
    await until('live', () => directory.problem === undefined);
    await begin(server);
    try {
      directory.seen('somebody');
      // The database comes back only behind this, so that a wait for it would not end.
      await directory.close();
    } finally {
      await end(server);
    }
  });
});
