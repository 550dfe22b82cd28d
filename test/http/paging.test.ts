import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { call, memoryDevice, startTestApi, type TestApi } from './support.js';

interface Page {
  devices: { id: string; revoked_at: string | null }[];
  next_cursor: string | null;
}

describe('the devices', () => {
  let api: TestApi;
  beforeAll(async () => {
    api = await startTestApi();
    const now = new Date();
    for (let index = 0; index < 1_205; index += 1) {
      const id = `device${String(index).padStart(4, '0')}`;
      const revokedAt = index % 5 === 0 ? now : null;
      const type = index % 2 === 0 ? 'sensor' : 'a b&c/ä';
      api.rows.set(id, { ...memoryDevice(id, type, now), revokedAt });
    }
  });
  afterAll(() => api.close());

  const read = async (query: string) => (await call(api.port, 'GET', `/devices${query}`)).json<Page>();

  it('are listed a page at a time, each once, with null for the cursor at the end', async () => {
    for (const [query, expected] of [
      ['state=all&limit=241', 1_205],
      ['state=all&limit=1000', 1_205],
      ['state=revoked&limit=100', 241],
      [`limit=7&type=${encodeURIComponent('a b&c/ä')}`, 482],
    ] as const) {
      const seen: string[] = [];
      let cursor: string | null = '';
      while (cursor !== null) {
        const page: Page = await read(`?${query}${cursor === '' ? '' : `&cursor=${cursor}`}`);
        expect(page.devices.length).toBeGreaterThan(0);
        seen.push(...page.devices.map(({ id }) => id));
        cursor = page.next_cursor;
      }
      expect(seen.length).toBe(expected);
      expect(new Set(seen).size).toBe(expected);
    }
  });

  it('are a hundred active ones when nothing is asked for', async () => {
    const page = await read('');
    expect(page.devices.length).toBe(100);
    expect(page.devices.every((device) => device.revoked_at === null)).toBe(true);
  });

  it('show exactly their fields', async () => {
    const device = (await call(api.port, 'GET', '/devices/device0005')).json();
    expect(Object.keys(device).sort()).toEqual([
      'created_at',
      'expires_at',
      'id',
      'last_secret_used',
      'last_seen_at',
      'ledger',
      'metadata',
      'previous_secret_until',
      'previous_secret_until_used',
      'revoked_at',
      'type',
      'updated_at',
    ]);
    expect(device).toMatchObject({ id: 'device0005', last_seen_at: null, revoked_at: expect.any(String) });
  });

  it.each([
    ['limit=0', 'limit', 'must be at least 1'],
    ['limit=1001', 'limit', 'must be at most 1000'],
    ['limit=-1', 'limit', 'must be at least 1'],
    ['limit=ten', 'limit', 'must be a whole number'],
    ['limit=1.5', 'limit', 'must be a whole number'],
    ['limit=0x10', 'limit', 'must be a whole number'],
    ['limit=', 'limit', 'must be a whole number'],
    ['limit=5&limit=6', 'limit', 'must be a whole number'],
    ['state=dead', 'state', 'must be one of active, expired, revoked, all'],
    ['metadata=site', 'metadata', 'must have the form key=value'],
    ['metadata=', 'metadata', 'must have the form key=value'],
    ['metadata=a=b&metadata=c%20d=e', 'metadata.c d', /key/],
    ['metadata=a=1&metadata=b=1&metadata=a=2', 'metadata.a', 'is asked for with two values'],
    ['id_prefix=%00', 'id_prefix', 'must not contain control characters'],
    ['id_prefix=a%00b&sort=type', 'id_prefix', 'must not contain control characters'],
    ['type=', 'type', 'must not be empty'],
    [`type=${'x'.repeat(129)}`, 'type', 'must have at most 128 characters'],
    ['type=a%00', 'type', /control/],
    ['colour=red', 'colour', 'is not a known parameter'],
    ['cursor=', 'cursor', 'must not be empty'],
    ['cursor=%00', 'cursor', /next_cursor/],
    ['cursor=not+a+cursor', 'cursor', /next_cursor/],
    ['cursor=AA', 'cursor', /next_cursor/],
    ['cursor=_w', 'cursor', /next_cursor/],
  ])('refuse ?%s', async (query, field, text) => {
    const answer = await call(api.port, 'GET', `/devices?${query}`);
    expect(answer.status).toBe(400);
    const problem = typeof text === 'string' ? text : expect.stringMatching(text);
    expect(answer.json()).toMatchObject({ code: 'INPUT_INVALID', errors: [{ field, problem }] });
  });

  it('are revoked once and for all: 204 each time, 404 for one that is not there', async () => {
    const revocations = () => api.lines.filter(({ event }) => event === 'device_revoked').length;
    for (const headers of [{}, { 'content-type': 'application/json' }]) {
      const answer = await call(api.port, 'DELETE', '/devices/device0001', { headers });
      expect(answer.status).toBe(204);
      expect(answer.text).toBe('');
      expect(revocations()).toBe(1);
    }
    expect(api.rows.get('device0001')?.revokedAt).not.toBeNull();
    for (const method of ['GET', 'DELETE']) {
      for (const id of ['nobody', '%00', 'a%2Fb', '..%2f..', 'x'.repeat(2_000), '%F0%9F%98%80']) {
        const answer = await call(api.port, method, `/devices/${id}`);
        expect(answer.status).toBe(404);
        expect(answer.json()).toMatchObject({ code: 'DEVICE_NOT_FOUND' });
      }
    }
  });

  it('are logged when they change, with id and address and without the password', async () => {
    const { id } = (await call(api.port, 'POST', '/devices', { body: '{"type":"t"}' })).json();
    const added = api.lines.find(({ event, device }) => event === 'device_added' && device === id);
    expect(added).toMatchObject({ level: 30, remoteAddress: '127.0.0.1' });
    expect(JSON.stringify(api.lines)).not.toContain('shown-once-only');
  });
});
