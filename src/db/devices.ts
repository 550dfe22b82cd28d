import type { Database } from './open.js';

/** A device as it may be shown: never its secret, hash or salt. */
export interface Device {
  readonly id: string;
  readonly type: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly revokedAt: Date | null;
  readonly lastSeenAt: Date | null;
}

/** A device just added, with its secret in clear: the only time that it exists outside the device. */
export interface NewDevice {
  readonly id: string;
  readonly type: string;
  readonly mqttUser: string;
  readonly mqttPassword: string;
  readonly createdAt: Date;
}

/** What the server needs to authenticate a device. */
export interface DeviceCredentials {
  readonly id: string;
  readonly type: string;
  readonly secretHash: Buffer;
  readonly secretSalt: Buffer;
  readonly revoked: boolean;
}

export type DeviceState = 'active' | 'revoked' | 'all';

export const maxDeviceTypeLength = 128;
/** Most devices that one `addDevices` call makes. */
export const maxDevicesPerAdd = 100_000;

/**
 * Checks a device type: 1 to 128 characters, no control characters, well-formed Unicode.
 *
 * @returns what is wrong, in words that follow "type", or undefined when nothing is.
 */
export function checkDeviceType(_type: string): string | undefined {
  throw new Error('not built');
}

/**
 * Checks a device id chosen by a person: 1 to 64 characters of A–Z a–z 0–9 _ -, which are safe in an MQTT topic
 * level, a NATS subject token and a URL path alike.
 *
 * @returns what is wrong, in words that follow "id", or undefined when nothing is.
 */
export function checkDeviceId(_id: string): string | undefined {
  throw new Error('not built');
}

/**
 * Adds devices with generated secrets, all or none. `id` only with one device; otherwise ids are generated:
 * 16 characters of base32.
 *
 * @throws SvcMqttError INPUT_INVALID, DEVICE_EXISTS, DATABASE_UNREACHABLE.
 */
export async function addDevices(
  _db: Database,
  _request: { type: string; id?: string | undefined; count?: number | undefined },
): Promise<NewDevice[]> {
  throw new Error('not built');
}

/**
 * Lists devices in order of id, `limit` at a time.
 *
 * @param request.after the last id of the page before.
 */
export async function listDevices(
  _db: Database,
  _request: { type?: string | undefined; state?: DeviceState; after?: string | undefined; limit: number },
): Promise<Device[]> {
  throw new Error('not built');
}

/** One device, revoked or not, or undefined. */
export async function findDevice(_db: Database, _id: string): Promise<Device | undefined> {
  throw new Error('not built');
}

/**
 * Revokes devices. Revoking a revoked device changes nothing and is not an error.
 *
 * @returns the ids by outcome, each in the order given.
 */
export async function revokeDevices(
  _db: Database,
  _ids: readonly string[],
): Promise<{ revoked: string[]; alreadyRevoked: string[]; unknown: string[] }> {
  throw new Error('not built');
}

/** Credentials of the devices that exist among `ids`. */
export async function loadCredentials(_db: Database, _ids: readonly string[]): Promise<DeviceCredentials[]> {
  throw new Error('not built');
}

/** Writes `last_seen_at` for devices not written within the last minute. */
export async function markSeen(_db: Database, _ids: readonly string[]): Promise<void> {
  throw new Error('not built');
}

/** Compares a password with a device's salted hash, in constant time. */
export function matchesSecret(_credentials: DeviceCredentials, _password: Uint8Array): boolean {
  throw new Error('not built');
}
