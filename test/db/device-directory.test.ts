import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { rotateSecret, setDevice } from '../../src/db/devices/device-changes.js';
import {
  type DeviceCredentials,
  endPreviousSecrets,
  loadCredentials,
  markSeen,
  matchSecret,
} from '../../src/db/devices/device-credentials.js';
import { enableDevices, revokeDevices } from '../../src/db/devices/device-revocation.js';
import { addDevices, findDevice } from '../../src/db/devices/devices.js';
import {
  type DeviceDirectory,
  type LossReason,
  startDeviceDirectory,
} from '../../src/server/directory/device-directory.js';
import { openControlledFeed } from '../support/controlled-feed.js';
import { kinds, openTestDatabase, silentLog, type TestDatabase, testActor, until } from './databases.js';

describe.each(kinds)('device directory on %s', (kind) => {
  let database: TestDatabase;
  let directory: DeviceDirectory;
  let lost: [string, LossReason][];
  /** Of those the ones that are news. */
  let news: [string, LossReason][];
  let refreshed: DeviceCredentials[];
  const connected = new Set<string>();

  beforeAll(async () => {
    database = await openTestDatabase(kind);
    directory = startDeviceDirectory({
      db: database.db,
      feed: await database.feed(),
      cacheSize: 100,
      holdMs: 10_000,
      log: silentLog,
      connectedIds: () => connected,
      onLost(id, reason, isNews) {
        lost.push([id, reason]);
        if (isNews) news.push([id, reason]);
      },
      onRefreshed: (device) => refreshed.push(device),
    });
  });
  beforeEach(() => {
    lost = [];
    news = [];
    refreshed = [];
    connected.clear();
  });
  const lostOf = (device: { id: string }) =>
    lost.filter(([id]) => id === device.id).map(([, reason]) => reason);
  afterAll(async () => {
    await directory?.close();
    await database?.close();
  });

  async function knownDevice() {
    const [device] = await addDevices(database.db, testActor, { type: 'sensor' });
    if (device === undefined) throw new Error('no device');
    const answer = await directory.find(device.id);
    expect(answer.found).toBe('yes');
    connected.add(device.id);
    return device;
  }

  test('finds a device that was just added, and says no to an unknown one', async () => {
    const [device] = await addDevices(database.db, testActor, { type: 'sensor' });
    const answer = await directory.find(device?.id ?? '');
    if (answer.found !== 'yes') throw new Error(answer.found);
    expect(answer.device.type).toBe('sensor');
    expect(matchSecret(answer.device, Buffer.from(device?.mqttPassword ?? ''))).toBe('current');
    expect(await directory.find('nobody')).toEqual({ found: 'no' });
    expect(await directory.find('x'.repeat(100_000))).toEqual({ found: 'no' });
    expect(await directory.find('a\0b')).toEqual({ found: 'no' });
  });

  test('does not remember that a device was unknown', async () => {
    expect(await directory.find('later')).toEqual({ found: 'no' });
    await addDevices(database.db, testActor, { type: 'sensor', id: 'later' });
    expect((await directory.find('later')).found).toBe('yes');
  });

  test.each([
    ['revoked', `update devices set revoked_at = now() where id = $1`],
    ['deleted', `delete from devices where id = $1`],
    [
      'secret-changed',
      `update devices set secret_hash = sha256('x'), secret_salt = gen_random_uuid()::text::bytea where id = $1`,
    ],
    ['type-changed', `update devices set type = 'other' where id = $1`],
  ] as const)('loses a device that is %s by plain SQL', async (reason, statement) => {
    const device = await knownDevice();
    await database.sql(statement, [device.id]);
    await until('lost', () => lostOf(device).length > 0);
    expect(lostOf(device)).toEqual([reason]);
    const answer = await directory.find(device.id);
    expect(answer.found === 'yes' && answer.device.revokedAtMs !== undefined).toBe(reason === 'revoked');
    expect(answer.found).toBe(reason === 'deleted' ? 'no' : 'yes');
  });

  test.skipIf(kind === 'embedded')('answers while the server ends every connection', async () => {
    for (let round = 0; round < 3; round += 1) {
      const [device] = await addDevices(database.db, testActor, { type: 'sensor' });
      await Promise.all(Array.from({ length: 5 }, () => database.db.pool.query('select pg_sleep(0.01)')));
      await database.sql(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where pid <> pg_backend_pid() and datname = current_database()`,
      );
      expect((await directory.find(device?.id ?? '')).found).toBe('yes');
      expect(directory.problem).toBeUndefined();
    }
  });

  test('loses a device that another process revokes', async () => {
    const device = await knownDevice();
    await revokeDevices(database.db, testActor, [device.id]);
    await until('lost', () => lostOf(device).length > 0);
    expect(lostOf(device)).toEqual(['revoked']);
  });

  test('loses every device when the table is truncated', async () => {
    const devices = [await knownDevice(), await knownDevice()];
    await database.sql('truncate devices');
    await until('lost', () => devices.every((device) => lostOf(device).includes('deleted')));
  });

  test('knows a device that was deleted and added again by its new secret', async () => {
    const device = await knownDevice();
    await database.sql('delete from devices where id = $1', [device.id]);
    const [again] = await addDevices(database.db, testActor, { type: 'sensor', id: device.id });
    await until('lost', () => lostOf(device).length > 0);
    const answer = await directory.find(device.id);
    if (answer.found !== 'yes') throw new Error(answer.found);
    expect(matchSecret(answer.device, Buffer.from(again?.mqttPassword ?? ''))).toBe('current');
  });

  test('lets a device in again that is no longer revoked', async () => {
    const device = await knownDevice();
    await database.sql('update devices set revoked_at = now() where id = $1', [device.id]);
    await until('lost', () => lostOf(device).length > 0);
    await database.sql('update devices set revoked_at = null where id = $1', [device.id]);
    await until('active', async () => {
      const answer = await directory.find(device.id);
      return answer.found === 'yes' && answer.device.revokedAtMs === undefined;
    });
    expect(lostOf(device)).toEqual(['revoked']);
  });

  test('passes on a rotation, and loses a device that has expired, once', async () => {
    const device = await knownDevice();
    await rotateSecret(database.db, testActor, device.id, { graceMs: 60_000 });
    const isTold = () =>
      refreshed.some(({ id, previousSecret }) => id === device.id && previousSecret !== undefined);
    await until('told', isTold);
    expect(lostOf(device)).toEqual([]);
    await database.sql(`update devices set expires_at = now() - interval '1 second' where id = $1`, [
      device.id,
    ]);
    await until('lost', () => lostOf(device).length > 0);
    await database.sql(`update devices set metadata = '{"a":"b"}' where id = $1`, [device.id]);
    await database.sql(`update devices set expires_at = now() - interval '2 seconds' where id = $1`, [
      device.id,
    ]);
    await until('looked at again', async () => {
      const answer = await directory.find(device.id);
      return answer.found === 'yes' && (answer.device.expiresAtMs ?? 0) < Date.now() - 1_500;
    });
    expect(lostOf(device)).toEqual(['expired']);
    await database.sql(`update devices set expires_at = null where id = $1`, [device.id]);
    await until('back', () => refreshed.at(-1)?.expiresAtMs === undefined);
  });

  test('ends the previous secret at the first login with the new one, and writes it', async () => {
    const device = await knownDevice();
    await rotateSecret(database.db, testActor, device.id, { graceMs: 60_000, untilUsed: true });
    const find = async () => {
      const answer = await directory.find(device.id);
      if (answer.found !== 'yes') throw new Error(answer.found);
      return answer.device;
    };
    await until('rotated', async () => (await find()).previousSecret !== undefined);
    directory.loggedIn(await find(), 'previous');
    expect((await find()).previousSecret?.untilMs).toBeGreaterThan(Date.now());
    directory.loggedIn(await find(), 'current');
    // It has ended, and still tells that the rotation had a grace.
    const ended = { untilMs: 1_000, untilUsed: false };
    expect((await find()).previousSecret).toMatchObject(ended);
    expect(refreshed.at(-1)).toMatchObject({ id: device.id, previousSecret: ended });
    const read = async () =>
      (await findDevice(database.db, device.id)) ?? { previousSecretUntil: new Date() };
    await until('written', async () => (await read()).previousSecretUntil === null);
    await until(
      'shown',
      async () => (await findDevice(database.db, device.id))?.lastSecretUsed === 'current',
    );
    expect(lostOf(device)).toEqual([]);
  });

  test('does not lose a device of whose rotation it hears when the new secret has been used', async () => {
    const device = await knownDevice();
    const feed = openControlledFeed();
    const told: string[] = [];
    const own = startDeviceDirectory({
      db: database.db,
      feed,
      cacheSize: 100,
      holdMs: 10_000,
      log: silentLog,
      connectedIds: () => connected,
      onLost: (id, reason) => told.push(`${id} ${reason}`),
      onRefreshed: ({ id }) => told.push(id),
    });
    onTestFinished(() => own.close());
    expect((await own.find(device.id)).found).toBe('yes');
    const renewed = await rotateSecret(database.db, testActor, device.id, {
      graceMs: 60_000,
      untilUsed: true,
    });
    const [after] = await loadCredentials(database.db, [device.id]);
    await endPreviousSecrets(database.db, testActor, [
      { id: device.id, secretHash: after?.secretHash ?? Buffer.alloc(0) },
    ]);
    feed.tell('devices', [device.id]);
    await until('told', () => told.length > 0);
    expect(told).toEqual([device.id]);
    const answer = await own.find(device.id);
    if (answer.found !== 'yes') throw new Error(answer.found);
    const match = ({ mqttPassword }: { mqttPassword: string }) =>
      matchSecret(answer.device, Buffer.from(mqttPassword), 2_000);
    expect([match(device), renewed && match(renewed)]).toEqual([undefined, 'current']);
  });

  test('writes at once that a secret is used beside which there is another', async () => {
    const device = await knownDevice();
    await rotateSecret(database.db, testActor, device.id, { graceMs: 60_000 });
    // What waits for its round is not written.
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const own = startDeviceDirectory({
      db: database.db,
      feed: await database.feed(),
      cacheSize: 100,
      holdMs: 10_000,
      log: silentLog,
      connectedIds: () => [],
      onLost: () => {},
      onRefreshed: () => {},
    });
    vi.useRealTimers();
    onTestFinished(() => own.close());
    const answer = await own.find(device.id);
    if (answer.found !== 'yes') throw new Error(answer.found);
    own.loggedIn(answer.device, 'current');
    await until(
      'written',
      async () => (await findDevice(database.db, device.id))?.lastSecretUsed === 'current',
    );
  });

  test.skipIf(kind === 'embedded')(
    'writes the use of a secret also when someone else was writing the device',
    async () => {
      const device = await knownDevice();
      const answer = await directory.find(device.id);
      if (answer.found !== 'yes') throw new Error(answer.found);
      const other = await database.db.connect();
      try {
        await other.query('begin');
        await other.query('select from devices where id = $1 for update', [device.id]);
        directory.loggedIn(answer.device, 'current');
        const sighting = { id: device.id, secretHash: answer.device.secretHash };
        expect(await markSeen(database.db, [sighting])).toEqual([device.id]);
        await other.query('rollback');
      } finally {
        await other.end();
      }
      const used = async () => (await findDevice(database.db, device.id))?.lastSecretUsed;
      await until('written', async () => (await used()) === 'current');
    },
  );

  test('loses a connected device that it no longer remembers', async () => {
    const device = await knownDevice();
    const others = await addDevices(database.db, testActor, { type: 'sensor', count: 150 });
    for (const other of others) await directory.find(other.id);
    await revokeDevices(database.db, testActor, [device.id]);
    await until('lost', () => lostOf(device).length > 0);
    expect(lostOf(device)).toContain('revoked');
  });

  test('tells once what a device that is not remembered has lost, and lets it go each time', async () => {
    const marker = await knownDevice();
    const [device, old] = await addDevices(database.db, testActor, { type: 'sensor', count: 2 });
    if (device === undefined || old === undefined) throw new Error('no device');
    const newsOf = ({ id }: { id: string }) => news.filter(([of]) => of === id).map(([, reason]) => reason);
    /** Changes all in another way, and waits until that is told, in order. */
    const toldOf = async (expiresAt: Date) => {
      for (const { id } of [device, old, marker]) await setDevice(database.db, testActor, id, { expiresAt });
      await until('told', () =>
        refreshed.some(({ id, expiresAtMs }) => id === marker.id && expiresAtMs === expiresAt.getTime()),
      );
    };
    await database.sql(`update devices set revoked_at = now() - interval '1 hour' where id = $1`, [old.id]);
    await revokeDevices(database.db, testActor, [device.id]);
    await until('told', () => newsOf(device).length > 0);
    await toldOf(new Date('2100-01-01'));
    await toldOf(new Date('2200-01-01'));
    expect(newsOf(device)).toEqual(['revoked']);
    expect(lostOf(device).length).toBeGreaterThan(1);
    // What was revoked before the start is nothing that happens now.
    expect(newsOf(old)).toEqual([]);
    expect(lostOf(old)).toContain('revoked');

    await enableDevices(database.db, testActor, [device.id]);
    await revokeDevices(database.db, testActor, [device.id]);
    await until('told again', () => newsOf(device).length === 2);
    await database.sql('delete from devices where id = $1', [device.id]);
    await until('told of the deletion', () => newsOf(device).length === 3);
    expect(newsOf(device)).toEqual(['revoked', 'revoked', 'deleted']);
  });

  test('finds a deletion that nothing tells of', async () => {
    const device = await knownDevice();
    await database.sql('alter table devices disable trigger user');
    await database.sql('delete from devices where id = $1', [device.id]);
    await database.sql('alter table devices enable trigger user');
    await until('lost', () => lostOf(device).length > 0);
    expect(lostOf(device)).toEqual(['deleted']);
  });

  test('writes when a device was seen, without waking anyone', async () => {
    const device = await knownDevice();
    const read = () =>
      database.sql<{ last_seen_at: Date | null; updated_at: Date; created_at: Date }>(
        'select last_seen_at, updated_at, created_at from devices where id = $1',
        [device.id],
      );
    directory.seen(device.id);
    await until('written', async () => (await read())[0]?.last_seen_at !== null);
    const [row] = await read();
    expect(row?.updated_at).toEqual(row?.created_at);
    expect(lostOf(device)).toEqual([]);
  });
});
