import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LiveSessions } from '../../src/server/live.js';
import { openIdleFleet } from '../support/idle-fleet.js';
import { call, startTestApi, type TestApi } from './support.js';

const asked: Parameters<LiveSessions['list']>[0][] = [];
let api: TestApi;
beforeAll(async () => {
  const idle = openIdleFleet();
  const list: LiveSessions['list'] = async (request) => {
    asked.push(request);
    return { sessions: [], next: request.after === undefined ? 'a.main' : undefined };
  };
  api = await startTestApi({ view: { ...idle, sessions: { ...idle.sessions, list } } });
});
afterAll(() => api.close());

describe('GET /sessions', () => {
  test.each([
    ['', { devices: [], devicePrefix: '' }],
    ['?device=a', { devices: ['a'], devicePrefix: '' }],
    ['?device=a&device=b', { devices: ['a', 'b'], devicePrefix: '' }],
    ['?device_prefix=roof-', { devices: [], devicePrefix: 'roof-' }],
    ['?device=roof-1&device_prefix=roof-&limit=7', { devices: ['roof-1'], devicePrefix: 'roof-', limit: 7 }],
  ])('asks for the sessions that are named: %s', async (query, request) => {
    const { status, json } = await call(api.port, 'GET', `/sessions${query}`);
    expect([status, json().sessions]).toEqual([200, []]);
    expect(asked.at(-1)).toMatchObject({ ...request, after: undefined });
  });

  test('goes on where a page has ended', async () => {
    const first = (await call(api.port, 'GET', '/sessions?device_prefix=a')).json<{ next_cursor: string }>();
    const path = `/sessions?device_prefix=a&cursor=${encodeURIComponent(first.next_cursor)}`;
    expect((await call(api.port, 'GET', path)).json()).toEqual({ sessions: [], next_cursor: null });
    expect(asked.at(-1)).toMatchObject({ devicePrefix: 'a', after: 'a.main' });
  });

  test.each([
    ['?device_prefix=', 'device_prefix'],
    ['?device_prefix=a&device_prefix=b', 'device_prefix'],
    ['?device=', 'device'],
    ['?limit=0', 'limit'],
    ['?limit=many', 'limit'],
    ['?cursor=%21', 'cursor'],
    ['?sort=id', 'sort'],
  ])('names what is wrong: %s', async (query, field) => {
    const answer = await call(api.port, 'GET', `/sessions${query}`);
    expect(answer.json()).toMatchObject({ status: 400, code: 'INPUT_INVALID', errors: [{ field }] });
  });
});
