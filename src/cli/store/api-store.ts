import type { ApiKeyJson, NewApiKeyJson } from '../../api/api-key.js';
import type { AuditJson } from '../../api/audit-entry.js';
import type { ClaimJson, NewClaimJson } from '../../api/claim.js';
import type { PolicyJson } from '../../api/policy.js';
import type { ApiKey, ApiKeyState } from '../../db/api-keys.js';
import type { AuditRecord } from '../../db/audit-log.js';
import type { Claim } from '../../db/claims.js';
import type { DevicePolicy } from '../../db/policies.js';
import { type ApiCall, openApiCall, orUndefined } from './api-call.js';
import { openApiDevices } from './api-devices.js';
import type { ApiKeyStore, ClaimStore, PolicyStore, Store } from './store.js';
import type { Remote } from './target.js';

/** The HTTP API as commands work on it, in the name of the key. */
export function openApiStore(remote: Remote, signal: AbortSignal): Store {
  const api = openApiCall(remote, signal);
  return {
    devices: openApiDevices(api),
    policies: openApiPolicies(api),
    claims: openApiClaims(api),
    apiKeys: openApiKeys(api),
    listAudit: ({ device, since, after, limit }) =>
      api.page('GET', '/audit', { device, since: since?.toISOString() }, after, limit, toAuditRecords),
  };
}

function openApiPolicies(api: ApiCall): PolicyStore {
  const pathOf = (type: string) => `/policies/${encodeURIComponent(type)}`;
  const find = async (type: string) => {
    const found = await api.getUnless<PolicyJson>('POLICY_NOT_FOUND', pathOf(type));
    return found && toPolicy(found);
  };
  return {
    list: ({ after, limit }) =>
      api.page('GET', '/policies', {}, after, limit, ({ policies }: { policies: PolicyJson[] }) =>
        policies.map(toPolicy),
      ),
    find,
    async change(type, changes) {
      const before = await find(type);
      const { warnings, ...after } = await api.send<PolicyJson & { warnings: string[] }>(
        'PATCH',
        pathOf(type),
        {
          publish: changes.publish,
          subscribe: changes.subscribe,
          publish_rate: changes.publishRate,
          max_packet_bytes: changes.maxPacketBytes,
          nats_subject: changes.natsSubject,
        },
      );
      const query = { type, state: 'all', limit: 1 };
      const { devices } = await api.get<{ devices: unknown[] }>('/devices', query);
      return { change: { before, after: toPolicy(after) }, warnings, hasDevices: devices.length > 0 };
    },
    async remove(type) {
      const removed = api.send('DELETE', pathOf(type)).then(() => true);
      return (await orUndefined('POLICY_NOT_FOUND', removed)) ?? false;
    },
  };
}

function openApiClaims(api: ApiCall): ClaimStore {
  const list: ClaimStore['list'] = ({ state, after, limit }) =>
    api.page('GET', '/claims', { state }, after, limit, ({ claims }: { claims: ClaimJson[] }) =>
      claims.map(toClaim),
    );
  return {
    async create({ type, uses, expiresAt }) {
      const request = { type, uses, expires_at: expiresAt.toISOString() };
      const made = await api.send<NewClaimJson>('POST', '/claims', request);
      return { ...toClaim(made), claim: made.claim };
    },
    list,
    async revoke(id) {
      const found = await findRow<Claim>(
        (after, limit) => list({ state: 'all', after, limit }),
        (each) => each.id === id,
      );
      if (found === undefined) return 'unknown';
      if (found.revokedAt !== null) return 'already revoked';
      await api.send('DELETE', `/claims/${encodeURIComponent(id)}`);
      return 'revoked';
    },
  };
}

function openApiKeys(api: ApiCall): ApiKeyStore {
  const list: ApiKeyStore['list'] = ({ state, after, limit }) =>
    api.page('GET', '/api-keys', { state }, after, limit, ({ api_keys: keys }: { api_keys: ApiKeyJson[] }) =>
      keys.map(toApiKey),
    );
  return {
    async create({ name, role, expiresAt }) {
      const isFirst = (await list({ state: 'all', after: undefined, limit: 1 })).length === 0;
      const made = await api.send<NewApiKeyJson>('POST', '/api-keys', {
        name,
        role,
        expires_at: expiresAt?.toISOString(),
      });
      const key = toApiKey({ ...made, revoked_at: null, last_used_at: null });
      return { key: { ...key, key: made.key }, isFirst };
    },
    list,
    async revoke(nameOrId) {
      // As the database does: an id goes before a name, and of several with a name the one in use.
      const look = (state: ApiKeyState, isWanted: (key: ApiKey) => boolean) =>
        findRow<ApiKey>((after, limit) => list({ state, after, limit }), isWanted);
      const key =
        (await look('all', ({ id }) => id === nameOrId)) ??
        (await look('active', ({ name }) => name === nameOrId)) ??
        (await look('revoked', ({ name }) => name === nameOrId));
      if (key === undefined) return undefined;
      if (key.revokedAt !== null) return { key, outcome: 'already revoked' };
      await api.send('DELETE', `/api-keys/${encodeURIComponent(key.id)}`);
      return { key, outcome: 'revoked' };
    },
  };
}

const rowsPerLook = 1_000;

/** The first row of a list that is wanted. */
async function findRow<Row>(
  read: (after: Row | undefined, limit: number) => Promise<readonly Row[]>,
  isWanted: (row: Row) => boolean,
): Promise<Row | undefined> {
  let after: Row | undefined;
  for (;;) {
    const rows = await read(after, rowsPerLook);
    const found = rows.find(isWanted);
    if (found !== undefined || rows.length < rowsPerLook) return found;
    after = rows.at(-1);
  }
}

const dateOrNull = (text: string | null) => (text === null ? null : new Date(text));

function toAuditRecords({ entries }: { entries: AuditJson[] }): AuditRecord[] {
  return entries.map(({ at, actor_kind: actorKind, ...entry }) => ({
    ...entry,
    at: new Date(at),
    actorKind,
  }));
}

function toPolicy(policy: PolicyJson): DevicePolicy {
  return {
    type: policy.type,
    publish: policy.publish,
    subscribe: policy.subscribe,
    publishRate: policy.publish_rate,
    maxPacketBytes: policy.max_packet_bytes,
    natsSubject: policy.nats_subject,
    createdAt: new Date(policy.created_at),
    updatedAt: new Date(policy.updated_at),
  };
}

function toClaim(claim: ClaimJson): Claim {
  return {
    id: claim.id,
    type: claim.type,
    state: claim.state,
    uses: claim.uses,
    usesLeft: claim.uses_left,
    createdAt: new Date(claim.created_at),
    expiresAt: new Date(claim.expires_at),
    revokedAt: dateOrNull(claim.revoked_at),
  };
}

function toApiKey(key: ApiKeyJson): ApiKey {
  return {
    id: key.id,
    name: key.name,
    role: key.role,
    createdAt: new Date(key.created_at),
    expiresAt: dateOrNull(key.expires_at),
    revokedAt: dateOrNull(key.revoked_at),
    lastUsedAt: dateOrNull(key.last_used_at),
  };
}
