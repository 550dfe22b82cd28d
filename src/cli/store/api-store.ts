import type { ApiKeyJson, ApiKeyPageJson, NewApiKeyJson } from '../../api/api-key.js';
import type { AuditPageJson } from '../../api/audit-entry.js';
import type { ClaimPageJson, NewClaimJson } from '../../api/claim.js';
import type { PolicyJson, PolicyPageJson, SetPolicyJson } from '../../api/policy.js';
import type { ApiKeyState } from '../../db/api-keys.js';
import { ruleName } from '../../policy.js';
import { type ApiCall, openApiCall, orUndefined, orUnsure } from './api-call.js';
import { openApiDevices } from './api-devices.js';
import type { ApiKeyStore, ClaimStore, Pages, PolicyStore, Store } from './store.js';
import type { Remote } from './target.js';

/** The HTTP API as commands work on it, in the name of the key. */
export function openApiStore(remote: Remote, signal: AbortSignal): Store {
  const api = openApiCall(remote, signal);
  return {
    devices: openApiDevices(api, signal),
    policies: openApiPolicies(api),
    claims: openApiClaims(api),
    apiKeys: openApiKeys(api),
    listAudit: ({ device, since }) =>
      api.pages(
        'GET',
        '/audit',
        { device, since: since?.toISOString() },
        (page: AuditPageJson) => page.entries,
      ),
  };
}

function openApiPolicies(api: ApiCall): PolicyStore {
  const pathOf = (type: string) => `/policies/${encodeURIComponent(type)}`;
  const find = (type: string) => api.getUnless<PolicyJson>('POLICY_NOT_FOUND', pathOf(type));
  return {
    list: ({ limit }) => api.pages('GET', '/policies', {}, (page: PolicyPageJson) => page.policies, limit),
    find,
    async change(type, changes) {
      const before = await find(type);
      const body = Object.fromEntries(
        Object.entries(changes).map(([field, value]) => [ruleName(field), value]),
      );
      const { warnings, ...after } = await api.send<SetPolicyJson>('PATCH', pathOf(type), body);
      const query = { type, state: 'all', limit: 1 };
      const { devices } = await api.get<{ devices: unknown[] }>('/devices', query);
      return { before, after, warnings, hasDevices: devices.length > 0 };
    },
    async remove(type) {
      const removed = api.send('DELETE', pathOf(type)).then(() => true);
      return (await orUndefined('POLICY_NOT_FOUND', removed)) ?? false;
    },
  };
}

function openApiClaims(api: ApiCall): ClaimStore {
  const list = (state: 'active' | 'all', limit?: number) =>
    api.pages('GET', '/claims', { state }, (page: ClaimPageJson) => page.claims, limit);
  return {
    create: ({ type, uses, expiresAt }) =>
      orUnsure(
        'the claim was made',
        api.send<NewClaimJson>('POST', '/claims', { type, uses, expires_at: expiresAt.toISOString() }),
      ),
    list: ({ state, limit }) => list(state, limit),
    async revoke(id) {
      const found = await findRow(list('all'), (each) => each.id === id);
      if (found === undefined) return 'unknown';
      if (found.revoked_at !== null) return 'already revoked';
      await api.send('DELETE', `/claims/${encodeURIComponent(id)}`);
      return 'revoked';
    },
  };
}

function openApiKeys(api: ApiCall): ApiKeyStore {
  const list = (state: ApiKeyState, limit?: number) =>
    api.pages('GET', '/api-keys', { state }, (page: ApiKeyPageJson) => page.api_keys, limit);
  return {
    async create({ name, role, expiresAt }) {
      const isFirst = (await findRow(list('all', 1), () => true)) === undefined;
      const request = { name, role, expires_at: expiresAt?.toISOString() };
      const made = api.send<NewApiKeyJson>('POST', '/api-keys', request);
      return { key: await orUnsure('the key was made', made), isFirst };
    },
    list: ({ state, limit }) => list(state, limit),
    async revoke(nameOrId) {
      // As the database does: an id goes before a name, and of several with a name the one in use.
      const look = (state: ApiKeyState, isWanted: (key: ApiKeyJson) => boolean) =>
        findRow(list(state), isWanted);
      const key =
        (await look('all', ({ id }) => id === nameOrId)) ??
        (await look('active', ({ name }) => name === nameOrId)) ??
        (await look('revoked', ({ name }) => name === nameOrId));
      if (key === undefined) return undefined;
      if (key.revoked_at !== null) return { key, outcome: 'already revoked' };
      await api.send('DELETE', `/api-keys/${encodeURIComponent(key.id)}`);
      return { key, outcome: 'revoked' };
    },
  };
}

/** The first row of a list that is wanted. */
async function findRow<Row>(pages: Pages<Row>, isWanted: (row: Row) => boolean): Promise<Row | undefined> {
  for await (const page of pages) {
    const found = page.find(isWanted);
    if (found !== undefined) return found;
  }
  return undefined;
}
