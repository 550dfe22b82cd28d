import { describe, expect, test } from 'vitest';
import type { DeviceCredentials } from '../../src/db/devices/device-credentials.js';
import { openRowLoader } from '../../src/server/directory/row-loader.js';

type Loader = ReturnType<typeof openRowLoader<DeviceCredentials>>;

function device(id: string, type = 'sensor'): DeviceCredentials {
  return {
    id,
    type,
    secretHash: Buffer.alloc(32),
    secretSalt: Buffer.alloc(16),
    previousSecret: undefined,
    revokedAtMs: undefined,
    expiresAtMs: undefined,
  };
}

describe('the loader', () => {
  const start = (fetch: (ids: readonly string[]) => Promise<DeviceCredentials[]>, timeoutMs = 1_000) =>
    openRowLoader({ fetch, timeoutMs, onLoaded() {}, onFailed() {} });

  test('asks once for all that is wanted in one turn, and once for each id', async () => {
    const asked: (readonly string[])[] = [];
    const loader = start(async (ids) => {
      asked.push(ids);
      return ids.filter((id) => id !== 'none').map((id) => device(id));
    });
    const loaded = await Promise.all(['a', 'b', 'a', 'none'].map((id) => loader.load(id)));
    expect(asked).toEqual([['a', 'b', 'none']]);
    expect(loaded.map((each) => 'row' in each && each.row?.id)).toEqual(['a', 'b', 'a', undefined]);
  });

  test('asks a slow database less often, for more at once', async () => {
    const asked: { ids: readonly string[]; answer: () => void }[] = [];
    const loader = start((ids) => {
      return new Promise((resolve) => {
        asked.push({ ids, answer: () => resolve(ids.map((id) => device(id))) });
      });
    }, 60_000);
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    const loads: Promise<unknown>[] = [];
    for (let at = 0; at < 100; at += 1) {
      loads.push(loader.load(String(at)));
      await turn();
    }
    expect(asked.map(({ ids }) => ids.length)).toEqual([1]);
    asked[0]?.answer();
    await loads[0];
    await turn();
    expect(asked.map(({ ids }) => ids.length)).toEqual([1, 99]);
    for (const { answer } of asked) answer();
    expect(await Promise.all(loads)).toHaveLength(100);
  });

  test('does not ask for those who have waited too long behind a query without an answer', async () => {
    let queries = 0;
    const loader = start(() => {
      queries += 1;
      return new Promise(() => {});
    }, 50);
    const loads = Array.from({ length: 4_500 }, (_, index) => loader.load(String(index)));
    for (const loaded of await Promise.all(loads)) expect(loaded).toMatchObject({ error: expect.any(Error) });
    expect(queries).toBe(1);
  });

  test('asks in batches of bounded size', async () => {
    const sizes: number[] = [];
    const loader = start(async (ids) => {
      sizes.push(ids.length);
      return [];
    });
    await Promise.all(Array.from({ length: 2_500 }, (_, index) => loader.load(String(index))));
    expect(sizes).toEqual([1_000, 1_000, 500]);
  });

  test.each([
    ['of a row', (loader: Loader) => loader.changed('a')],
    ['of any', (loader: Loader) => loader.allChanged()],
  ])('answers nobody with what was read before a change %s', async (_, change) => {
    let type = 'old';
    let reads = 0;
    const loader = start(async () => {
      reads += 1;
      const read = type;
      if (reads === 1) {
        // The change happens after the read and is told before its answer arrives.
        type = 'new';
        change(loader);
      }
      return [device('a', read)];
    });
    expect(await loader.load('a')).toMatchObject({ row: { type: 'new' } });
    expect(reads).toBe(2);
  });

  test('says why when the database fails or does not answer, and recovers', async () => {
    const answers = [
      () => Promise.reject(new Error('broken')),
      () => new Promise<DeviceCredentials[]>(() => {}),
      () => Promise.resolve([device('a')]),
    ];
    const loader = start(() => (answers.shift() ?? (() => Promise.resolve([])))(), 50);
    expect(await loader.load('a')).toMatchObject({ error: { message: 'broken' } });
    expect(await loader.load('a')).toMatchObject({ error: expect.any(Error) });
    expect(await loader.load('a')).toMatchObject({ row: { id: 'a' } });
  });
});
