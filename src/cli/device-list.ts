import type { Config } from '../config.js';
import type { Metadata } from '../db/device-fields.js';
import { toDeviceJson } from '../db/device-json.js';
import { type Device, type DeviceState, listDevices } from '../db/devices.js';
import { requireSchema, withDatabase } from './database.js';
import { formatMetadata } from './device-show.js';
import { type CommandIo, write } from './io.js';
import { writeListing } from './listing.js';
import { escapeControls, formatTime } from './text.js';

export interface DeviceListOptions {
  readonly type?: string | undefined;
  readonly state?: DeviceState | undefined;
  /** Entries that the devices have among their metadata. */
  readonly metadata?: Metadata | undefined;
  readonly json?: boolean | undefined;
}

const pageSize = 1_000;
const header = ['ID', 'CREATED', 'LAST SEEN', 'REVOKED', 'EXPIRES', 'TYPE', 'METADATA'];

/**
 * Lists devices in order of id, page by page, so that memory does not grow with their number.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function listAllDevices(
  config: Config,
  options: DeviceListOptions,
  io: CommandIo,
): Promise<void> {
  const { type, metadata, state = 'active' } = options;
  const filter = { type, metadata, state };
  await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    const found = await writeListing<Device>(io, {
      json: options.json,
      header,
      pageSize,
      read: (after) => listDevices(db, { ...filter, after: after?.id, limit: pageSize }),
      toJson: toDeviceJson,
      toCells,
    });
    if (!found) await writeEmptyNote(type, state, io);
  });
}

function toCells(device: Device): string[] {
  return [
    escapeControls(device.id),
    formatTime(device.createdAt),
    device.lastSeenAt === null ? 'never' : formatTime(device.lastSeenAt),
    device.revokedAt === null ? '-' : formatTime(device.revokedAt),
    device.expiresAt === null ? '-' : formatTime(device.expiresAt),
    escapeControls(device.type),
    escapeControls(formatMetadata(device)),
  ];
}

async function writeEmptyNote(type: string | undefined, state: DeviceState, io: CommandIo): Promise<void> {
  const kind = state === 'all' ? '' : `${state} `;
  const ofType = type === undefined ? '' : ` of type "${escapeControls(type)}"`;
  await write(io.stderr, `There are no ${kind}devices${ofType}.\n`);
}
