import type { RotatedDevice } from './device-changes.js';
import type { Metadata } from './device-fields.js';
import type { Device, NewDevice } from './devices.js';

/** The one form in which machines get devices, from the HTTP API and from `--json` alike. Times are ISO 8601, UTC. */
export interface DeviceJson {
  readonly id: string;
  readonly type: string;
  readonly created_at: string;
  readonly updated_at: string;
  readonly revoked_at: string | null;
  readonly last_seen_at: string | null;
  readonly expires_at: string | null;
  readonly metadata: Metadata;
  readonly last_secret_used: 'current' | 'previous' | null;
  readonly previous_secret_until: string | null;
  readonly previous_secret_until_used: boolean;
}

/** A device just added, with its secret. */
export interface NewDeviceJson {
  readonly id: string;
  readonly type: string;
  readonly mqtt_user: string;
  readonly mqtt_password: string;
  readonly created_at: string;
  /** Only when it was asked for. */
  readonly expires_at?: string;
  /** Only when it was asked for. */
  readonly metadata?: Metadata;
}

/** A device's new secret. */
export interface RotatedDeviceJson {
  readonly id: string;
  readonly type: string;
  readonly mqtt_user: string;
  readonly mqtt_password: string;
  readonly previous_secret_until: string | null;
  readonly previous_secret_until_used: boolean;
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
    metadata: device.metadata,
    last_secret_used: device.lastSecretUsed,
    previous_secret_until: device.previousSecretUntil?.toISOString() ?? null,
    previous_secret_until_used: device.previousSecretUntilUsed,
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
