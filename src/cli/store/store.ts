import type { DeviceJson } from '../../api/device.js';
import type { StoredDeviceJson } from '../../api/stored-device.js';
import type { ApiKey, ApiKeyState, NewApiKey, Role } from '../../db/api-keys.js';
import type { AuditRecord } from '../../db/audit-log.js';
import type { Claim, NewClaim } from '../../db/claims.js';
import type { DeviceChanges, Outcomes, RotatedDevice, Rotation } from '../../db/device-changes.js';
import type { DeviceRow } from '../../db/device-insert.js';
import type {
  AddRequest,
  Device,
  DeviceFilter,
  DeviceSort,
  NewDevice,
  SortedDevice,
} from '../../db/devices.js';
import type { DevicePolicy, PolicyChange } from '../../db/policies.js';
import { SvcMqttError } from '../../errors.js';
import type { PolicyRules } from '../../policy.js';

/**
 * What commands work on: the database, or the HTTP API of a server. Errors are those of the queries in `src/db`, and of
 * the API UNAUTHENTICATED, FORBIDDEN and API_UNREACHABLE. A list answers the page after a row, the first one after none.
 */
export interface Store {
  readonly devices: DeviceStore;
  readonly policies: PolicyStore;
  readonly claims: ClaimStore;
  readonly apiKeys: ApiKeyStore;
  /** Newest first. */
  listAudit(request: {
    device?: string | undefined;
    since?: Date | undefined;
    after: AuditRecord | undefined;
    limit: number;
  }): Promise<readonly AuditRecord[]>;
}

/** A failure after which some devices are there; `made` was called with all of them. */
export class PartlyAdded extends SvcMqttError {
  constructor(cause: SvcMqttError, added: number, count: number) {
    const detail = `${added} of ${count} devices were added, and then: ${cause.message}`;
    super(cause.code, detail, { cause, ...(cause.suggestion && { suggestion: cause.suggestion }) });
  }
}

export type ExportedRow = DeviceJson | StoredDeviceJson;

export type ImportArguments<Row extends DeviceRow> = [
  batches: AsyncIterable<readonly Row[]>,
  options: {
    readonly allOrNone: boolean;
    onStored(batch: readonly Row[], stored: ReadonlyMap<string, Date>): Promise<void>;
  },
];

export interface DeviceStore {
  /**
   * Adds devices: in the database all or none, over the API one by one.
   *
   * @param made called with devices whose secrets are to be kept safe: in the database before they exist for anyone
   *   else, over the API as each is there. When it fails, nothing more is added.
   * @throws PartlyAdded over the API.
   */
  add(request: AddRequest, made: (added: readonly NewDevice[]) => Promise<void>): Promise<NewDevice[]>;
  list(
    request: DeviceFilter & {
      readonly sort: DeviceSort;
      readonly descending: boolean;
      readonly after: SortedDevice | undefined;
      readonly limit: number;
    },
  ): Promise<readonly SortedDevice[]>;
  /**
   * Stores devices that come from elsewhere; the interface is that of `importDevices` in `src/db`. Over the API all or none
   * goes as far as one request does, and `onStored` is called when the devices are there.
   */
  import<Row extends DeviceRow>(...request: ImportArguments<Row>): Promise<void>;
  /** Devices in order of id, revoked ones too; hashed: with what is stored of their secrets. */
  export(
    request: Pick<DeviceFilter, 'type' | 'metadata'> & {
      readonly hashed: boolean;
      readonly after: ExportedRow | undefined;
      readonly limit: number;
    },
  ): Promise<readonly ExportedRow[]>;
  find(id: string): Promise<Device | undefined>;
  set(id: string, changes: DeviceChanges): Promise<Device | undefined>;
  rotate(id: string, request: Rotation): Promise<RotatedDevice | undefined>;
  revoke(ids: readonly string[]): Promise<Outcomes>;
  enable(ids: readonly string[]): Promise<Outcomes>;
  remove(ids: readonly string[]): Promise<Outcomes>;
}

export interface PolicyStore {
  list(request: { after: DevicePolicy | undefined; limit: number }): Promise<readonly DevicePolicy[]>;
  find(type: string): Promise<DevicePolicy | undefined>;
  /** `warnings`: what the policy allows that should be intended. `hasDevices`: whether there are any of the type. */
  change(
    type: string,
    changes: Partial<PolicyRules>,
  ): Promise<{ change: PolicyChange; warnings: readonly string[]; hasDevices: boolean }>;
  remove(type: string): Promise<boolean>;
}

export interface ClaimStore {
  create(request: { type: string; uses: number; expiresAt: Date }): Promise<NewClaim>;
  list(request: {
    state: 'active' | 'all';
    after: Claim | undefined;
    limit: number;
  }): Promise<readonly Claim[]>;
  revoke(id: string): Promise<'revoked' | 'already revoked' | 'unknown'>;
}

export interface ApiKeyStore {
  /** `isFirst`: there was none before. */
  create(request: {
    name: string;
    role: Role;
    expiresAt: Date | undefined;
  }): Promise<{ key: NewApiKey; isFirst: boolean }>;
  list(request: { state: ApiKeyState; after: ApiKey | undefined; limit: number }): Promise<readonly ApiKey[]>;
  revoke(
    nameOrId: string,
  ): Promise<{ key: Pick<ApiKey, 'id' | 'name'>; outcome: 'revoked' | 'already revoked' } | undefined>;
}
