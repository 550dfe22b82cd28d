import type { Device, NewDevice } from './devices.js';

/** The one form in which machines get devices, from the HTTP API and from `--json` alike. Times are ISO 8601, UTC. */
export interface DeviceJson {
  readonly id: string;
  readonly type: string;
  readonly created_at: string;
  readonly updated_at: string;
  readonly revoked_at: string | null;
  readonly last_seen_at: string | null;
}

/** A device just added, with its secret. */
export interface NewDeviceJson {
  readonly id: string;
  readonly type: string;
  readonly mqtt_user: string;
  readonly mqtt_password: string;
  readonly created_at: string;
}

export function toDeviceJson(device: Device): DeviceJson {
  return {
    id: device.id,
    type: device.type,
    created_at: device.createdAt.toISOString(),
    updated_at: device.updatedAt.toISOString(),
    revoked_at: device.revokedAt?.toISOString() ?? null,
    last_seen_at: device.lastSeenAt?.toISOString() ?? null,
  };
}

export function toNewDeviceJson(device: NewDevice): NewDeviceJson {
  return {
    id: device.id,
    type: device.type,
    mqtt_user: device.mqttUser,
    mqtt_password: device.mqttPassword,
    created_at: device.createdAt.toISOString(),
  };
}
