import type { Static } from 'typebox';
import type { RotatedDevice } from '../db/devices/device-changes.js';
import type { Metadata } from '../db/devices/device-fields.js';
import type { Ledger } from '../db/devices/device-ledger.js';
import type { Device, NewDevice } from '../db/devices/devices.js';
import type * as schema from './device-schema.js';

export type DeviceJson = Static<typeof schema.DeviceResponse>;
export type DevicePageJson = Static<typeof schema.DevicePage>;
export type DeviceDetailsJson = Static<typeof schema.DeviceDetailsResponse>;
export type LedgerJson = Static<typeof schema.LedgerResponse>;
/** A device just added, with its secret. */
export type NewDeviceJson = Static<typeof schema.NewDeviceResponse>;
/** A device's new secret. */
export type RotatedDeviceJson = Static<typeof schema.RotatedDeviceResponse>;

/** SQL may have written values that are no texts: they are shown as JSON. */
export function toMetadataJson(metadata: Metadata): Record<string, string> {
  const texts = Object.entries(metadata).map(([key, value]: [string, unknown]) => [
    key,
    typeof value === 'string' ? value : JSON.stringify(value),
  ]);
  return Object.fromEntries(texts);
}

export function toDeviceJson(device: Device): DeviceJson {
  return {
    id: device.id,
    type: device.type,
    created_at: device.createdAt.toISOString(),
    updated_at: device.updatedAt.toISOString(),
    revoked_at: device.revokedAt?.toISOString() ?? null,
    last_seen_at: device.lastSeenAt?.toISOString() ?? null,
    expires_at: device.expiresAt?.toISOString() ?? null,
    metadata: toMetadataJson(device.metadata),
    last_secret_used: device.lastSecretUsed,
    previous_secret_until: device.previousSecretUntil?.toISOString() ?? null,
    previous_secret_until_used: device.previousSecretUntilUsed,
  };
}

export function toDeviceDetailsJson(device: Device, ledger: Ledger | undefined): DeviceDetailsJson {
  return {
    ...toDeviceJson(device),
    ledger: ledger === undefined ? null : toLedgerJson(ledger),
  };
}

export function toLedgerJson(ledger: Ledger): LedgerJson {
  return {
    received: ledger.received,
    stored: ledger.stored,
    refused: ledger.refused,
    last_refused_at: ledger.lastRefusedAt?.toISOString() ?? null,
    last_refused_reason: ledger.lastRefusedReason,
    delivered: ledger.delivered,
    last_stream: ledger.lastStream,
    last_sequence: ledger.lastSequence,
    first_seen_at: ledger.firstSeenAt.toISOString(),
    last_address: ledger.lastAddress,
  };
}

export function readLedgerJson(json: LedgerJson): Ledger {
  return {
    received: json.received,
    stored: json.stored,
    refused: json.refused,
    lastRefusedAt: json.last_refused_at === null ? null : new Date(json.last_refused_at),
    lastRefusedReason: json.last_refused_reason,
    delivered: json.delivered,
    lastStream: json.last_stream,
    lastSequence: json.last_sequence,
    firstSeenAt: new Date(json.first_seen_at),
    lastAddress: json.last_address,
  };
}

export function toNewDeviceJson(device: NewDevice): NewDeviceJson {
  return {
    id: device.id,
    type: device.type,
    mqtt_user: device.mqttUser,
    mqtt_password: device.mqttPassword,
    created_at: device.createdAt.toISOString(),
    ...(device.expiresAt === undefined ? {} : { expires_at: device.expiresAt.toISOString() }),
    ...(device.metadata === undefined ? {} : { metadata: device.metadata }),
  };
}

export function toRotatedDeviceJson(device: RotatedDevice): RotatedDeviceJson {
  return {
    id: device.id,
    type: device.type,
    mqtt_user: device.mqttUser,
    mqtt_password: device.mqttPassword,
    previous_secret_until: device.previousSecretUntil?.toISOString() ?? null,
    previous_secret_until_used: device.previousSecretUntilUsed,
  };
}
