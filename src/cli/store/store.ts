import type { ApiKeyJson, NewApiKeyJson } from '../../api/api-key.js';
import type { AuditJson } from '../../api/audit-entry.js';
import type { ClaimJson, NewClaimJson } from '../../api/claim.js';
import type { DeviceDetailsJson, DeviceJson, NewDeviceJson, RotatedDeviceJson } from '../../api/device.js';
import type { PolicyJson } from '../../api/policy.js';
import type { StoredDeviceJson } from '../../api/stored-device.js';
import type { ApiKeyState, Role } from '../../db/api-keys.js';
import type { DeviceChanges, Rotation } from '../../db/devices/device-changes.js';
import type { DeviceRow } from '../../db/devices/device-insert.js';
import type { Outcomes } from '../../db/devices/device-revocation.js';
import type { AddRequest, DeviceFilter, DeviceSort } from '../../db/devices/devices.js';
import type { PolicyRules } from '../../policy.js';

/** The pages of a list, read as they are asked for. */
export type Pages<Row> = AsyncIterable<readonly Row[]>;

/**
 * What commands work on: the database, or the HTTP API of a server. Answers have the form of the API. Errors are those of
 * the queries in `src/db`, and of the API UNAUTHENTICATED, FORBIDDEN and API_UNREACHABLE.
 */
export interface Store {
  readonly devices: DeviceStore;
  readonly policies: PolicyStore;
  readonly claims: ClaimStore;
  readonly apiKeys: ApiKeyStore;
  /** Newest first. */
  listAudit(request: { device: string | undefined; since: Date | undefined }): Pages<AuditJson>;
}

/** A failure after which nobody knows whether the last devices are stored; the cause is what is to be told. */
export class FateUnknown extends Error {
  override readonly name = 'FateUnknown';

  constructor(cause: unknown) {
    super('It is not known whether the devices are stored', { cause });
  }
}

export type ImportArguments<Row extends DeviceRow> = [
  batches: AsyncIterable<readonly Row[]>,
  options: {
    readonly allOrNone: boolean;
    /**
     * Called before devices are stored for themselves, and before any are sent to the API: their secrets must be safe first.
     * `onStored` or a failure follows.
     */
    onSending(batch: readonly Row[]): Promise<void>;
    /**
     * The ids of others are taken.
     *
     * @param isForGood `stored` is there whatever comes; otherwise only once all are, and when this fails none is.
     */
    onStored(batch: readonly Row[], stored: ReadonlyMap<string, Date>, isForGood: boolean): Promise<void>;
  },
];

export interface DeviceStore {
  /**
   * Adds devices: in the database all or none, over the API one by one.
   *
   * @param made called with devices whose secrets are to be kept safe: in the database before they exist for anyone
   *   else, over the API as each is there. When it fails, nothing more is added. When something else fails behind it, the
   *   devices are there, or may be.
   * @throws Interrupted when a signal came: in the database nothing is added then, over the API no more.
   */
  add(
    request: AddRequest,
    made: (added: readonly NewDeviceJson[]) => Promise<void>,
  ): Promise<NewDeviceJson[]>;
  list(
    request: DeviceFilter & {
      readonly sort: DeviceSort;
      readonly descending: boolean;
      /** Most devices in all. */
      readonly limit: number;
    },
  ): Pages<DeviceJson>;
  /**
   * Stores devices that come from elsewhere, all or none, or each batch for itself. Over the API all or none goes as far as
   * one request does. A signal begins no further batch; of all or none nothing is stored then.
   *
   * @throws FateUnknown; Interrupted; and as `importDevices`.
   */
  import<Row extends DeviceRow>(...request: ImportArguments<Row>): Promise<void>;
  /** Devices in order of id, revoked ones too; hashed: with what is stored of their secrets. */
  export(
    request: Pick<DeviceFilter, 'type' | 'metadata'> & { readonly hashed: boolean },
  ): Pages<DeviceJson | StoredDeviceJson>;
  find(id: string): Promise<DeviceDetailsJson | undefined>;
  set(id: string, changes: DeviceChanges): Promise<DeviceJson | undefined>;
  rotate(id: string, request: Rotation): Promise<RotatedDeviceJson | undefined>;
  /** The outcomes of some ids after the other, as they come, until a signal does. @throws Interrupted. */
  revoke(ids: readonly string[], reason?: string): AsyncIterable<Outcomes>;
  enable(ids: readonly string[]): AsyncIterable<Outcomes>;
  remove(ids: readonly string[]): AsyncIterable<Outcomes>;
}

export interface PolicyStore {
  list(request: { limit: number }): Pages<PolicyJson>;
  find(type: string): Promise<PolicyJson | undefined>;
  /**
   * `before` is undefined where the type had the default. `warnings`: what the policy allows that should be intended.
   * `hasDevices`: whether there are any of the type.
   */
  change(
    type: string,
    changes: Partial<PolicyRules>,
  ): Promise<{
    before: PolicyJson | undefined;
    after: PolicyJson;
    warnings: readonly string[];
    hasDevices: boolean;
  }>;
  remove(type: string): Promise<boolean>;
}

export interface ClaimStore {
  create(request: { type: string; uses: number; expiresAt: Date }): Promise<NewClaimJson>;
  list(request: { state: 'active' | 'all'; limit: number }): Pages<ClaimJson>;
  revoke(id: string): Promise<'revoked' | 'already revoked' | 'unknown'>;
}

export interface ApiKeyStore {
  /** `isFirst`: there was none before. */
  create(request: {
    name: string;
    role: Role;
    expiresAt: Date | undefined;
  }): Promise<{ key: NewApiKeyJson; isFirst: boolean }>;
  list(request: { state: ApiKeyState; limit: number }): Pages<ApiKeyJson>;
  revoke(
    nameOrId: string,
  ): Promise<{ key: Pick<ApiKeyJson, 'id' | 'name'>; outcome: 'revoked' | 'already revoked' } | undefined>;
}
