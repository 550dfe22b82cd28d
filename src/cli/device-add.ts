import type { Config } from '../config.js';
import type { Metadata } from '../db/device-fields.js';
import { toNewDeviceJson } from '../db/device-json.js';
import { addDevices, type NewDevice } from '../db/devices.js';
import { readCliActor } from './actor.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { columnWidths, escapeControls, formatBlock, formatRow, formatTime, toJsonLine } from './text.js';
import { usageError } from './usage-error.js';

export interface DeviceAddOptions {
  readonly type?: string | undefined;
  readonly id?: string | undefined;
  readonly count?: number | undefined;
  readonly expires?: Date | undefined;
  readonly metadata?: Metadata | undefined;
  readonly json?: boolean | undefined;
}

/**
 * Adds devices and shows each secret, once. JSON lines have the fields that `POST /devices` answers with.
 *
 * @throws SvcMqttError USAGE without a type, INPUT_INVALID, DEVICE_EXISTS, DATABASE_*.
 */
export async function addDevice(config: Config, options: DeviceAddOptions, io: CommandIo): Promise<void> {
  const { type, id, count, expires: expiresAt, metadata } = options;
  if (type === undefined)
    throw usageError('device add needs --type <type>', 'Example: svc-mqtt device add --type sensor');
  const devices = await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    return addDevices(db, readCliActor(), { type, id, count, expiresAt, metadata });
  });
  if (options.json === true) {
    for (const device of devices) await write(io.stdout, toJsonLine(toNewDeviceJson(device)));
    return;
  }
  await writeReadable(devices, io);
  const [secret, it] = devices.length === 1 ? ['password', 'it'] : ['passwords', 'them'];
  await write(io.stderr, `Keep the ${secret}: nothing can show ${it} again.\n`);
}

async function writeReadable(devices: readonly NewDevice[], io: CommandIo): Promise<void> {
  const [only] = devices;
  if (only !== undefined && devices.length === 1) {
    const { id, type, mqtt_user, mqtt_password } = toNewDeviceJson(only);
    const fields = { id, type, mqtt_user, mqtt_password, created_at: formatTime(only.createdAt) };
    await write(io.stdout, formatBlock(Object.entries(fields)));
    return;
  }
  const header = ['ID', 'MQTT USER', 'MQTT PASSWORD', 'CREATED', 'TYPE'];
  const toCells = (device: NewDevice) => [
    device.id,
    device.mqttUser,
    device.mqttPassword,
    formatTime(device.createdAt),
    escapeControls(device.type),
  ];
  const widths = columnWidths([header, ...devices.slice(0, 1_000).map(toCells)]);
  await write(io.stdout, formatRow(header, widths));
  for (const device of devices) await write(io.stdout, formatRow(toCells(device), widths));
}
