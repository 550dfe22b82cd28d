import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import type { ApiKeyCredentials } from '../../src/db/api-keys.js';
import {
  defaultKeyTimes,
  type KeyQueries,
  type KeyTimes,
  openKeyDirectory,
} from '../../src/server/http/key-directory.js';

const silent = pino({ level: 'silent' });
const away = () => Promise.reject(new Error('away'));

function makeKey(id: string, revoked = false): ApiKeyCredentials {
  const secret = { secretHash: Buffer.alloc(32), secretSalt: Buffer.alloc(16) };
  return { id, name: `name of ${id}`, role: 'viewer', expiresAt: null, revoked, ...secret };
}

/** A directory on a stand-in for the database that counts what it is asked. */
function open(times: Partial<KeyTimes> = {}) {
  const asked = { load: 0, exist: 0, markUsed: 0 };
  const database: KeyQueries = {
    load: async (id) => makeKey(id),
    exist: async () => false,
    markUsed: async () => {},
  };
  const counted: KeyQueries = {
    load: (id) => {
      asked.load += 1;
      return database.load(id);
    },
    exist: () => {
      asked.exist += 1;
      return database.exist();
    },
    markUsed: (id) => {
      asked.markUsed += 1;
      return database.markUsed(id);
    },
  };
  return { database, asked, keys: openKeyDirectory(counted, silent, { ...defaultKeyTimes, ...times }) };
}

describe('the directory of keys', () => {
  it('asks once for a second, and for many at a time', async () => {
    const { keys, asked } = open({ freshMs: 60_000 });
    const found = await Promise.all(Array.from({ length: 100 }, () => keys.find('a')));
    expect(found.every((one) => one.found === 'yes')).toBe(true);
    expect(await keys.find('a')).toMatchObject({ found: 'yes', key: { name: 'name of a' } });
    expect(asked.load).toBe(1);
    keys.forget('a');
    await keys.find('a');
    expect(asked.load).toBe(2);
  });

  it('sees a revocation and a deletion once what it knows is no longer fresh', async () => {
    const { keys, database } = open({ freshMs: 1 });
    await keys.find('a');
    database.load = async (id) => makeKey(id, true);
    await expect.poll(() => keys.find('a')).toMatchObject({ found: 'yes', key: { revoked: true } });
    database.load = async () => undefined;
    await expect.poll(() => keys.find('a')).toEqual({ found: 'no' });
    expect(keys.peek('a')).toBeUndefined();
    database.load = away;
    expect(await keys.find('a')).toEqual({ found: 'away' });
  });

  it('knows a key for a while when the database is away, and then does not', async () => {
    const { keys, database, asked } = open({ freshMs: 1, keepMs: 3_000, pauseMs: 60_000 });
    await keys.find('a');
    await expect.poll(() => asked.load).toBe(1);
    database.load = away;
    expect(await keys.find('unknown')).toEqual({ found: 'away' });
    // The database is not asked at every request while it is away.
    expect(await keys.find('a')).toMatchObject({ found: 'yes' });
    expect(await keys.find('unknown')).toEqual({ found: 'away' });
    expect(asked.load).toBe(2);
    await expect.poll(() => keys.find('a')).toEqual({ found: 'away' });
  });

  it('does not wait long for a database that is frozen when it knows the key, and takes its late answer', async () => {
    const { keys, database, asked } = open({ freshMs: 1, keepMs: 60_000, patienceMs: 20, pauseMs: 60_000 });
    await keys.find('a');
    await expect.poll(() => asked.load).toBe(1);
    let answer = (_key: ApiKeyCredentials) => {};
    database.load = () =>
      new Promise((resolve) => {
        answer = resolve;
      });
    await expect.poll(() => keys.find('a').then(() => asked.load)).toBe(2);
    expect(await keys.find('a')).toMatchObject({ found: 'yes', key: { revoked: false } });
    expect(asked.load).toBe(2);
    answer(makeKey('a', true));
    await expect.poll(() => keys.peek('a')).toMatchObject({ revoked: true });
  });

  it('waits for a slow database when it does not know the key', async () => {
    const { keys, database } = open({ patienceMs: 1 });
    database.load = async (id) => {
      await new Promise((resolve) => setTimeout(resolve, 100));
      return makeKey(id);
    };
    database.exist = async () => {
      await new Promise((resolve) => setTimeout(resolve, 100));
      return true;
    };
    expect(await keys.exist()).toBe(true);
    expect(await keys.find('a')).toMatchObject({ found: 'yes' });
  });

  it('bounds what it asks of the database at a time', async () => {
    const { keys, database, asked } = open({ pauseMs: 0 });
    database.load = async () => {
      await new Promise((resolve) => setTimeout(resolve, 200));
      throw new Error('away');
    };
    const found = await Promise.all(Array.from({ length: 500 }, (_, index) => keys.find(`key ${index}`)));
    expect(found.every((one) => one.found === 'away')).toBe(true);
    expect(asked.load).toBeLessThanOrEqual(32);
  });

  it('writes the use of a key once for a minute, and again after a failure', async () => {
    const { keys, database, asked } = open({ freshMs: 60_000, pauseMs: 0 });
    keys.used('nobody');
    await keys.find('a');
    for (let use = 0; use < 50; use += 1) keys.used('a');
    expect(asked.markUsed).toBe(1);
    database.markUsed = away;
    await keys.find('b');
    keys.used('b');
    await expect
      .poll(() => {
        keys.used('b');
        return asked.markUsed;
      })
      .toBeGreaterThan(2);
  });

  it('knows whether there are keys, as of a second ago or of when the database last answered', async () => {
    const { keys, database, asked } = open({ freshMs: 60_000 });
    expect(await keys.exist()).toBe(false);
    database.exist = async () => true;
    expect(await keys.exist()).toBe(false);
    expect(asked.exist).toBe(1);

    const eager = open({ freshMs: 0, pauseMs: 0 });
    eager.database.exist = away;
    await expect(eager.keys.exist()).rejects.toThrow('away');
    eager.database.exist = async () => true;
    expect(await eager.keys.exist()).toBe(true);
    eager.database.exist = away;
    expect(await eager.keys.exist()).toBe(true);
    eager.database.exist = async () => false;
    expect(await eager.keys.exist()).toBe(false);
  });
});
