import type { Config } from '../config.js';
import { toDeviceJson } from '../db/device-json.js';
import { type Device, findDevice } from '../db/devices.js';
import { SvcMqttError } from '../errors.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { escapeControls, formatBlock, formatTime, toJsonLine } from './text.js';

/**
 * Shows one device, revoked or not.
 *
 * @throws SvcMqttError DEVICE_NOT_FOUND, DATABASE_*.
 */
export async function showDevice(
  config: Config,
  options: { readonly id: string; readonly json?: boolean | undefined },
  io: CommandIo,
): Promise<void> {
  const device = await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    return findDevice(db, options.id);
  });
  if (device === undefined) throw deviceNotFound([options.id]);
  await writeDevice(device, options.json === true, io);
}

/** Writes all that may be shown of a device. */
export async function writeDevice(device: Device, json: boolean, io: CommandIo): Promise<void> {
  if (json) {
    await write(io.stdout, toJsonLine(toDeviceJson(device)));
    return;
  }
  await write(
    io.stdout,
    formatBlock([
      ['id', device.id],
      ['type', device.type],
      ['created', formatTime(device.createdAt)],
      ['updated', formatTime(device.updatedAt)],
      ['revoked', device.revokedAt === null ? 'no' : formatTime(device.revokedAt)],
      ['expires', describeExpiry(device)],
      ['last seen', device.lastSeenAt === null ? 'never' : formatTime(device.lastSeenAt)],
      ['last login by', device.lastSecretUsed === null ? '-' : `the ${device.lastSecretUsed} secret`],
      ['previous secret', describePrevious(device)],
      ['metadata', formatMetadata(device)],
    ]),
  );
}

function describeExpiry({ expiresAt }: Device): string {
  if (expiresAt === null) return 'never';
  return `${formatTime(expiresAt)}${expiresAt.getTime() <= Date.now() ? ' (expired)' : ''}`;
}

function describePrevious({ previousSecretUntil, previousSecretUntilUsed }: Device): string {
  if (previousSecretUntil === null) return 'none';
  const until = `valid until ${formatTime(previousSecretUntil)}`;
  return previousSecretUntilUsed ? `${until}, or until the current one is used` : until;
}

/** `key=value` for each entry, `-` for none. */
export function formatMetadata({ metadata }: Pick<Device, 'metadata'>): string {
  const entries = Object.entries(metadata).map(([key, value]) => `${key}=${value}`);
  return entries.length === 0 ? '-' : entries.join(', ');
}

/** The error that names the ids no device has. */
export function deviceNotFound(ids: readonly string[]): SvcMqttError {
  const shown = ids.slice(0, 20).map(escapeControls).join(', ');
  const more = ids.length > 20 ? ` and ${ids.length - 20} more` : '';
  return new SvcMqttError(
    'DEVICE_NOT_FOUND',
    ids.length === 1 ? `There is no device ${shown}` : `There are no devices ${shown}${more}`,
    { suggestion: '`svc-mqtt device list --all` shows every id' },
  );
}
