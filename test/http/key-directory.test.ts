import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import type { ApiKeyCredentials } from '../../src/db/api-keys.js';
import { openKeyDirectory } from '../../src/server/http/key-directory.js';
import type { Queries } from '../../src/server/http/queries.js';
import { openControlledFeed } from '../support/controlled-feed.js';

const silent = pino({ level: 'silent' });
const away = () => Promise.reject(new Error('away'));
const minuteMs = 60_000;

function makeKey(id: string, revoked = false): ApiKeyCredentials {
  const secret = { secretHash: Buffer.alloc(32), secretSalt: Buffer.alloc(16) };
  return { id, name: `name of ${id}`, role: 'viewer', expiresAt: null, revoked, ...secret };
}

/** A directory on a stand-in for the database that counts what it is asked. */
function open(timeoutMs?: number) {
  const asked = { load: 0, exist: 0, markUsed: 0 };
  const database: Pick<Queries['keys'], 'load' | 'exist' | 'markUsed'> = {
    load: async (ids) => ids.map((id) => makeKey(id)),
    exist: async () => false,
    markUsed: async () => {},
  };
  const counted: Pick<Queries['keys'], 'load' | 'exist' | 'markUsed'> = {
    load: (ids) => {
      asked.load += 1;
      return database.load(ids);
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
  const feed = openControlledFeed(timeoutMs);
  return { database, asked, feed, keys: openKeyDirectory(counted, feed, silent) };
}

describe('the directory of keys', () => {
  it('asks once, and for many at a time', async () => {
    const { keys, asked } = open();
    const found = await Promise.all(Array.from({ length: 100 }, (_, index) => keys.find(`k${index % 50}`)));
    expect(found.every((one) => one.found === 'yes')).toBe(true);
    expect(await keys.find('k1')).toMatchObject({ found: 'yes', key: { name: 'name of k1' } });
    expect(asked.load).toBe(1);
    keys.forget('k1');
    await keys.find('k1');
    expect(asked.load).toBe(2);
  });

  it('sees a revocation and a deletion when they are told, though nobody asks for the key', async () => {
    const { keys, database, feed } = open();
    let ended = 0;
    keys.onEnded(() => {
      ended += 1;
    });
    await keys.find('a');
    database.load = async (ids) => ids.map((id) => makeKey(id, true));
    feed.tell('api_keys');
    await expect.poll(() => keys.peek('a')).toMatchObject({ revoked: true });
    expect(ended).toBe(1);
    await keys.find('b');
    database.load = async () => [];
    feed.tell('api_keys');
    await expect.poll(() => keys.peek('a')).toBeUndefined();
    expect(await keys.find('b')).toEqual({ found: 'no' });
    // What was revoked has ended before.
    expect(ended).toBe(1);
  });

  it('answers nobody with what it knew before a change', async () => {
    const { keys, database, feed } = open();
    await keys.find('a');
    database.load = async (ids) => ids.map((id) => makeKey(id, true));
    feed.tell('api_keys');
    expect(await keys.find('a')).toMatchObject({ found: 'yes', key: { revoked: true } });
  });

  it('knows a key for a minute when the database is away, and then does not', async () => {
    const { keys, database, feed, asked } = open();
    await keys.find('a');
    database.load = away;
    expect(await keys.find('unknown')).toEqual({ found: 'away' });
    feed.leave();
    expect(await keys.find('a')).toMatchObject({ found: 'yes' });
    expect(await keys.find('unknown')).toEqual({ found: 'away' });
    expect(keys.peek('a')).toMatchObject({ name: 'name of a' });
    feed.leave(minuteMs);
    expect(await keys.find('a')).toEqual({ found: 'away' });
    expect(keys.peek('a')).toBeUndefined();
    // The database is not asked while it is away.
    expect(asked.load).toBe(2);
  });

  it('asks again when the database is back', async () => {
    const { keys, database, feed } = open();
    await keys.find('a');
    feed.leave(minuteMs);
    database.load = async (ids) => ids.map((id) => makeKey(id, true));
    feed.comeBack();
    expect(await keys.find('a')).toMatchObject({ found: 'yes', key: { revoked: true } });
  });

  it('answers what it knew when the database fails or is frozen, and goes on asking', async () => {
    const { keys, database, feed } = open(100);
    await keys.find('a');
    database.load = () => new Promise(() => {});
    feed.tell('api_keys');
    expect(await keys.find('a')).toMatchObject({ found: 'yes', key: { revoked: false } });
    expect(await keys.find('unknown')).toEqual({ found: 'away' });
    database.load = async (ids) => ids.map((id) => makeKey(id, true));
    await expect.poll(() => keys.peek('a')).toMatchObject({ revoked: true });
  });

  it('waits for a slow database when it does not know the key', async () => {
    const { keys, database } = open();
    let answer = () => {};
    const answered = new Promise<void>((resolve) => {
      answer = resolve;
    });
    database.load = async (ids) => {
      await answered;
      return ids.map((id) => makeKey(id));
    };
    database.exist = async () => {
      await answered;
      return true;
    };
    const both = Promise.all([keys.exist(), keys.find('a')]);
    answer();
    expect(await both).toMatchObject([true, { found: 'yes' }]);
  });

  it('asks one question at a time of a database that fails', async () => {
    const { keys, database, asked } = open();
    database.load = away;
    const found = await Promise.all(Array.from({ length: 500 }, (_, index) => keys.find(`key ${index}`)));
    expect(found.every((one) => one.found === 'away')).toBe(true);
    expect(asked.load).toBe(1);
  });

  it('writes the use of a key once for a minute, some at a time, and again after a failure', async () => {
    const { keys, database, asked } = open();
    keys.used('nobody');
    const ids = Array.from({ length: 100 }, (_, index) => `key ${index}`);
    await Promise.all(ids.map((id) => keys.find(id)));
    for (let use = 0; use < 50; use += 1) keys.used('key 0');
    expect(asked.markUsed).toBe(1);
    for (const id of ids) keys.used(id);
    expect(asked.markUsed).toBe(32);
    database.markUsed = away;
    await expect
      .poll(() => {
        keys.used('key 99');
        return asked.markUsed;
      })
      .toBeGreaterThan(34);
  });

  it('knows whether there are keys, and as of when the database last answered', async () => {
    const { keys, database, feed, asked } = open();
    let ended = 0;
    keys.onEnded(() => {
      ended += 1;
    });
    database.exist = away;
    await expect(keys.exist()).rejects.toThrow('away');
    database.exist = async () => false;
    expect(await keys.exist()).toBe(false);
    expect(await keys.exist()).toBe(false);
    expect(asked.exist).toBe(2);
    database.exist = async () => true;
    feed.tell('api_keys');
    expect(await keys.exist()).toBe(true);
    expect(ended).toBe(1);
    database.exist = away;
    feed.tell('api_keys');
    expect(await keys.exist()).toBe(true);
    feed.leave(minuteMs);
    expect(await keys.exist()).toBe(true);
  });

  it('follows nothing once it is closed', () => {
    const { keys, feed } = open();
    expect(feed.followers).toBeGreaterThan(0);
    keys.close();
    expect(feed.followers).toBe(0);
  });
});
