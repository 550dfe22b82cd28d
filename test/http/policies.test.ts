import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { describeRisks } from '../../src/policy.js';
import { type RunningHttp, startHttp } from '../../src/server/http/start.js';
import { openTestDatabase, type TestDatabase } from '../db/databases.js';
import { openIdleFleet } from '../support/idle-fleet.js';
import { allReady, call, openConfig, openTestLog } from './support.js';

const { log, lines } = openTestLog();
const token = 'a-token-of-at-least-16-characters';
let database: TestDatabase;
let api: RunningHttp;

beforeAll(async () => {
  database = await openTestDatabase('postgres');
  api = await startHttp({
    db: database.db,
    feed: await database.feed(),
    config: { ...openConfig, apiToken: token },
    log,
    readiness: () => allReady,
    readMetrics: async () => ({ contentType: 'text/plain', text: '' }),
    version: '1.2.3',
    policyRisks: async (rules) => describeRisks(rules, 1_048_576),
    view: openIdleFleet(),
  });
});
afterEach(async () => {
  await database.sql('delete from policies');
});
afterAll(async () => {
  await api?.close();
  await database?.close();
});

const headers = { authorization: `Bearer ${token}` };
const put = (type: string, body: object) =>
  call(api.port, 'PUT', `/policies/${encodeURIComponent(type)}`, { headers, body: JSON.stringify(body) });
const get = (path: string) => call(api.port, 'GET', path, { headers });

describe('PUT /policies/{type}', () => {
  it('sets a policy, whole, and what is left out is the default', async () => {
    const first = await put('sensor', { publish: ['up/{id}'], publish_rate: 5, nats_subject: 'raw.x.{id}' });
    expect(first.status).toBe(200);
    expect(first.json()).toMatchObject({
      type: 'sensor',
      publish: ['up/{id}'],
      subscribe: ['cmd/{id}/#'],
      publish_rate: 5,
      max_packet_bytes: null,
      nats_subject: 'raw.x.{id}',
      warnings: [],
    });
    const second = (await put('sensor', { subscribe: [], max_packet_bytes: 4_096 })).json();
    expect(second).toMatchObject({
      publish: ['raw.{id}', 'raw/{id}', 'raw/{id}/#'],
      subscribe: [],
      publish_rate: null,
      max_packet_bytes: 4_096,
      nats_subject: null,
    });
    const { warnings: _, ...policy } = second;
    expect((await get('/policies/sensor')).json()).toEqual(policy);
    expect((await get('/policies')).json()).toEqual({ policies: [policy], next_cursor: null });
    const audit = await database.sql<{ action: string; target: string; actor: string; details: object }>(
      `select action, target, actor, details from audit_log where target = 'sensor' order by id`,
    );
    expect(audit).toMatchObject([
      { action: 'policy.set', actor: 'API_TOKEN', details: { publish: ['up/{id}'], publish_rate: 5 } },
      { action: 'policy.set', actor: 'API_TOKEN', details: { max_packet_bytes: 4_096 } },
    ]);
  });

  it('takes a type of any characters', async () => {
    const type = 'Wärme/Zähler #1';
    expect((await put(type, {})).status).toBe(200);
    expect((await get(`/policies/${encodeURIComponent(type)}`)).json()).toMatchObject({ type });
  });

  it('warns of what is shared', async () => {
    const { warnings } = (await put('hub', { publish: ['raw/#'], subscribe: ['all/+'] })).json<{
      warnings: string[];
    }>();
    expect(warnings).toHaveLength(2);
    expect(warnings[0]).toContain('publish "raw/#" has no {id}');
  });

  it.each([
    [{ publish: 'raw' }, [{ field: 'publish', problem: 'must be a list' }]],
    [{ publish: ['a', 5] }, [{ field: 'publish.1', problem: 'must be a string' }]],
    [{ publish: Array(17).fill('a/{id}') }, [{ field: 'publish', problem: 'must have at most 16 entries' }]],
    [{ rate: 5 }, [{ field: 'rate', problem: 'is not a known field' }]],
    [{ publish_rate: 0 }, [{ field: 'publish_rate', problem: 'must be at least 1' }]],
    [{ publish_rate: 1.5 }, [{ field: 'publish_rate', problem: 'must be a whole number' }]],
    [{ max_packet_bytes: 5 }, [{ field: 'max_packet_bytes', problem: 'must be at least 128' }]],
    [
      { publish: ['a/#/b', '$SYS/x'], nats_subject: 'cmd.{id}' },
      [
        { field: 'publish', problem: expect.stringContaining('misplaced wildcard') },
        { field: 'publish', problem: expect.stringContaining('starts with $') },
        { field: 'nats_subject', problem: expect.stringContaining('as commands') },
      ],
    ],
  ])('refuses %j, naming each fault', async (body, errors) => {
    const answer = await put('sensor', body);
    expect(answer.status).toBe(400);
    expect(answer.json()).toMatchObject({ code: 'INPUT_INVALID', errors });
    expect((await get('/policies/sensor')).status).toBe(404);
  });
});

it('lists a page at a time', async () => {
  for (const type of ['a', 'b', 'c']) await put(type, {});
  const first = (await get('/policies?limit=2')).json<{
    policies: { type: string }[];
    next_cursor: string;
  }>();
  expect(first.policies.map(({ type }) => type)).toEqual(['a', 'b']);
  const second = (await get(`/policies?limit=2&cursor=${first.next_cursor}`)).json();
  expect(second).toMatchObject({ policies: [{ type: 'c' }], next_cursor: null });
  expect((await get('/policies?cursor=!')).status).toBe(400);
});

it('removes a policy', async () => {
  await put('sensor', {});
  expect((await call(api.port, 'DELETE', '/policies/sensor', { headers })).status).toBe(204);
  const again = await call(api.port, 'DELETE', '/policies/sensor', { headers });
  expect([again.status, again.json().code]).toEqual([404, 'POLICY_NOT_FOUND']);
  expect(lines.filter(({ event }) => event === 'policy_removed')).toHaveLength(1);
});

it('needs the token', async () => {
  for (const method of ['GET', 'PUT', 'DELETE']) {
    const answer = await call(api.port, method, '/policies/sensor', { body: '{}' });
    expect(answer.status, method).toBe(401);
  }
});
