import { toDeviceJson } from '../../api/device.js';
import { toStoredDeviceJson } from '../../api/stored-device.js';
import type { Config } from '../../config.js';
import { createApiKey, hasApiKeys, listApiKeys, revokeApiKey } from '../../db/api-keys.js';
import { listAudit } from '../../db/audit-log.js';
import { createClaim, listClaims, revokeClaim } from '../../db/claims.js';
import {
  enableDevices,
  removeDevices,
  revokeDevices,
  rotateSecret,
  setDevice,
} from '../../db/device-changes.js';
import { exportDevices, importDevices } from '../../db/device-import.js';
import { addDevices, findDevice, listDevices, listSortedDevices } from '../../db/devices.js';
import type { Database } from '../../db/open.js';
import { changePolicy, findPolicy, listPolicies, removePolicy } from '../../db/policies.js';
import { readCliActor } from './actor.js';
import type { Store } from './store.js';

/** The database as commands work on it, in the name of the user of this machine. */
export function openDatabaseStore(db: Database, config: Config): Store {
  const actor = readCliActor();
  return {
    devices: {
      add: (request, made) => addDevices(db, actor, request, made),
      list: (request) => listSortedDevices(db, request),
      import: (batches, options) => importDevices(db, actor, batches, options),
      async export({ hashed, after, ...request }) {
        const rows = await exportDevices(db, { ...request, state: 'all', after: after?.id });
        return hashed ? rows.map(toStoredDeviceJson) : rows.map(toDeviceJson);
      },
      find: (id) => findDevice(db, id),
      set: (id, changes) => setDevice(db, actor, id, changes),
      rotate: (id, request) => rotateSecret(db, actor, id, request),
      revoke: (ids) => revokeDevices(db, actor, ids),
      enable: (ids) => enableDevices(db, actor, ids),
      remove: (ids) => removeDevices(db, actor, ids),
    },
    policies: {
      list: ({ after, limit }) => listPolicies(db, { after: after?.type, limit }),
      find: (type) => findPolicy(db, type),
      async change(type, changes) {
        const change = await changePolicy(db, actor, type, changes);
        const devices = await listDevices(db, { type, state: 'all', limit: 1 });
        // The NATS client takes longer to load than the other commands run.
        const { readPolicyWarnings } = await import('../policy/warnings.js');
        const warnings = await readPolicyWarnings(config, change.after);
        return { change, warnings, hasDevices: devices.length > 0 };
      },
      remove: (type) => removePolicy(db, actor, type),
    },
    claims: {
      create: (request) => createClaim(db, actor, request),
      list: ({ state, after, limit }) => listClaims(db, { state, after: after?.id, limit }),
      revoke: (id) => revokeClaim(db, actor, id),
    },
    apiKeys: {
      async create(request) {
        const isFirst = !(await hasApiKeys(db));
        return { key: await createApiKey(db, actor, request), isFirst };
      },
      list: (request) => listApiKeys(db, request),
      revoke: (nameOrId) => revokeApiKey(db, actor, nameOrId),
    },
    listAudit: ({ after, ...request }) => listAudit(db, { ...request, before: after?.id }),
  };
}
