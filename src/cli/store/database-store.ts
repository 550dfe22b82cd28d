import { toApiKeyJson, toNewApiKeyJson } from '../../api/api-key.js';
import { toAuditJson } from '../../api/audit-entry.js';
import { toClaimJson, toNewClaimJson } from '../../api/claim.js';
import {
  type DeviceJson,
  toDeviceDetailsJson,
  toDeviceJson,
  toNewDeviceJson,
  toRotatedDeviceJson,
} from '../../api/device.js';
import { toPolicyJson } from '../../api/policy.js';
import { type StoredDeviceJson, toStoredDeviceJson } from '../../api/stored-device.js';
import type { Config } from '../../config.js';
import { createApiKey, hasApiKeys, listApiKeys, revokeApiKey } from '../../db/api-keys.js';
import { listAudit } from '../../db/audit-log.js';
import type { Database } from '../../db/connection/open.js';
import { batchesOf } from '../../db/connection/query.js';
import { createClaim, listClaims, revokeClaim } from '../../db/devices/claims.js';
import { rotateSecret, setDevice } from '../../db/devices/device-changes.js';
import { type ExportedDevice, exportDevices, importDevices } from '../../db/devices/device-import.js';
import { findLedger } from '../../db/devices/device-ledger.js';
import {
  enableDevices,
  type Outcomes,
  removeDevices,
  revokeDevices,
} from '../../db/devices/device-revocation.js';
import {
  addDevices,
  findDevice,
  listDevices,
  listSortedDevices,
  type NewDevice,
  type SortedDevice,
} from '../../db/devices/devices.js';
import { changePolicy, findPolicy, listPolicies, removePolicy } from '../../db/policies.js';
import { SvcMqttError } from '../../errors.js';
import { prefaced, requireGoing } from '../terminal/io.js';
import { readCliActor } from './actor.js';
import { FateUnknown, type Store } from './store.js';

/** Each page of another order than that of ids looks through all devices. */
const sortedPageSize = 10_000;
const pageSize = 1_000;

/**
 * The database as commands work on it, in the name of the user of this machine.
 *
 * @param signal what adds devices looks at it before it commits.
 */
export function openDatabaseStore(db: Database, config: Config, signal: AbortSignal): Store {
  const actor = readCliActor();
  async function* changeSome(
    ids: readonly string[],
    change: (some: readonly string[]) => Promise<Outcomes>,
  ): AsyncGenerator<Outcomes> {
    for (const some of batchesOf(ids, pageSize)) {
      requireGoing(signal);
      yield await change(some);
    }
  }
  return {
    devices: {
      add: async (request, made) => {
        let commits = false;
        const keep = async (added: readonly NewDevice[]) => {
          requireGoing(signal);
          await made(added.map(toNewDeviceJson));
          commits = true;
        };
        try {
          return (await addDevices(db, actor, request, keep)).map(toNewDeviceJson);
        } catch (error) {
          throw commits ? prefaced(error, 'Whether the devices were added is not known') : error;
        }
      },
      list: ({ limit, ...request }) =>
        readPages<SortedDevice, DeviceJson>(
          (after, most) => listSortedDevices(db, { ...request, after, limit: most }),
          toDeviceJson,
          limit,
          request.sort === 'id' ? pageSize : sortedPageSize,
        ),
      async import(batches, { allOrNone, onSending, onStored }) {
        /** Only the COMMIT is left. */
        let commits = false;
        const read = async function* () {
          for await (const batch of batches) {
            requireGoing(signal);
            yield batch;
          }
          requireGoing(signal);
          commits = allOrNone;
        };
        try {
          if (allOrNone)
            return await importDevices(db, actor, read(), (batch, made) => onStored(batch, made, false));
          for await (const batch of read()) {
            await onSending(batch);
            let stored: ReadonlyMap<string, Date> = new Map();
            await importDevices(db, actor, [batch], (_, made) => {
              stored = made;
              commits = true;
            });
            commits = false;
            await onStored(batch, stored, true);
          }
        } catch (error) {
          const isLost = error instanceof SvcMqttError && error.code === 'DATABASE_UNREACHABLE';
          throw commits && isLost ? new FateUnknown(error) : error;
        }
      },
      export: ({ hashed, ...filter }) =>
        readPages<ExportedDevice, DeviceJson | StoredDeviceJson>(
          (after, limit) => exportDevices(db, { ...filter, state: 'all', after: after?.id, limit }),
          hashed ? toStoredDeviceJson : toDeviceJson,
        ),
      async find(id) {
        const device = await findDevice(db, id);
        return device && toDeviceDetailsJson(device, await findLedger(db, id));
      },
      async set(id, changes) {
        const device = await setDevice(db, actor, id, changes);
        return device && toDeviceJson(device);
      },
      async rotate(id, request) {
        const device = await rotateSecret(db, actor, id, request);
        return device && toRotatedDeviceJson(device);
      },
      revoke: (ids, reason) => changeSome(ids, (some) => revokeDevices(db, actor, some, reason)),
      enable: (ids) => changeSome(ids, (some) => enableDevices(db, actor, some)),
      remove: (ids) => changeSome(ids, (some) => removeDevices(db, actor, some)),
    },
    policies: {
      list: ({ limit }) =>
        readPages(
          (after, most) => listPolicies(db, { after: after?.type, limit: most }),
          toPolicyJson,
          limit,
        ),
      async find(type) {
        const policy = await findPolicy(db, type);
        return policy && toPolicyJson(policy);
      },
      async change(type, changes) {
        const { before, after } = await changePolicy(db, actor, type, changes);
        const devices = await listDevices(db, { type, state: 'all', limit: 1 });
        // The NATS client takes longer to load than the other commands run.
        const { readPolicyWarnings } = await import('./policy-warnings.js');
        const warnings = await readPolicyWarnings(config, after);
        return {
          before: before && toPolicyJson(before),
          after: toPolicyJson(after),
          warnings,
          hasDevices: devices.length > 0,
        };
      },
      remove: (type) => removePolicy(db, actor, type),
    },
    claims: {
      create: async (request) => toNewClaimJson(await createClaim(db, actor, request)),
      list: ({ state, limit }) =>
        readPages(
          (after, most) => listClaims(db, { state, after: after?.id, limit: most }),
          toClaimJson,
          limit,
        ),
      revoke: (id) => revokeClaim(db, actor, id),
    },
    apiKeys: {
      async create(request) {
        const isFirst = !(await hasApiKeys(db));
        return { key: toNewApiKeyJson(await createApiKey(db, actor, request)), isFirst };
      },
      list: ({ state, limit }) =>
        readPages((after, most) => listApiKeys(db, { state, after, limit: most }), toApiKeyJson, limit),
      revoke: (nameOrId) => revokeApiKey(db, actor, nameOrId),
    },
    listAudit: (request) =>
      readPages((after, limit) => listAudit(db, { ...request, before: after?.id, limit }), toAuditJson),
  };
}

/**
 * The pages of a list, in the form of the API.
 *
 * @param read reads the rows behind one, the first ones behind none.
 * @param limit most rows in all.
 */
async function* readPages<Row, Json>(
  read: (after: Row | undefined, limit: number) => Promise<readonly Row[]>,
  toJson: (row: Row) => Json,
  limit = Number.POSITIVE_INFINITY,
  size = pageSize,
): AsyncGenerator<Json[]> {
  let after: Row | undefined;
  for (let left = limit; left > 0; ) {
    const asked = Math.min(size, left);
    const rows = await read(after, asked);
    yield rows.map(toJson);
    if (rows.length < asked) return;
    left -= rows.length;
    after = rows.at(-1);
  }
}
