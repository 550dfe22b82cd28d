import type { NewDeviceJson } from '../../api/device.js';
import type { Metadata } from '../../db/devices/device-fields.js';
import { type AddRequest, requireAddable } from '../../db/devices/devices.js';
import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { withStore } from '../store/open.js';
import type { Store } from '../store/store.js';
import { type CommandIo, prefaced, requireWritten, write } from '../terminal/io.js';
import { openTable, type TableColumn, tableTime, timeWidth, uncut } from '../terminal/table.js';
import { escapeControls, formatBlock, formatCount, formatTime, toJsonLine } from '../terminal/text.js';
import { formatCredentials, openCredentialsFile } from './credentials-file.js';
import { formatMetadata } from './show.js';

interface AddOptions {
  readonly type?: string;
  readonly id?: string;
  readonly count?: number;
  readonly expires?: Date;
  readonly metadata?: Metadata;
  /** A file for the secrets; `-`: what it would hold goes to stdout. */
  readonly output?: string;
  readonly force?: boolean;
}

const rowsPerWrite = 1_000;

/**
 * Adds devices and shows each secret, once. JSON lines have the fields that `POST /devices` answers with.
 *
 * @throws SvcMqttError USAGE without a type, INPUT_INVALID, DEVICE_EXISTS, DATABASE_*.
 */
export async function addDevice(call: Call<AddOptions>): Promise<void> {
  const { config, options, io } = call;
  const { type, id, count, expires: expiresAt, metadata, output } = options;
  if (type === undefined)
    throw usageError('device add needs --type <type>', 'Example: svc-mqtt device add --type sensor');
  const request = { type, id, count, expiresAt, metadata };
  requireAddable(request);
  if (output !== undefined && output !== '-') return addToFile(call, request, output);
  const made: NewDeviceJson[] = [];
  let isAdding = true;
  let shown: Promise<void> | undefined;
  const showMade = async () => {
    // They are there, or may be.
    if (made.length > 0) shown ??= writeSecrets(made, options, io);
    await shown;
  };
  const release = io.onEndAtOnce(async () => {
    if (made.length > 0 && isAdding) await write(io.stderr, endedAtOnce);
    await showMade();
  });
  const add = async ({ devices }: Store) => {
    await devices.add(request, async (batch) => void made.push(...batch));
    isAdding = false;
  };
  try {
    await withStore(config, io, add, { creates: true });
  } finally {
    isAdding = false;
    await showMade().finally(release);
  }
}

const endedAtOnce = 'Ended at once: some of these devices may not be there, and others may be.\n';

/** Shows devices with their secrets. */
async function writeSecrets(
  devices: readonly NewDeviceJson[],
  options: Call<AddOptions>['options'],
  io: CommandIo,
): Promise<void> {
  if (options.json === true) for (const device of devices) await write(io.stdout, toJsonLine(device));
  else if (options.output === '-') await write(io.stdout, formatCredentials(devices));
  else await writeReadable(devices, io);
  const made =
    devices.length === 1 ? `Device ${devices[0]?.id} is added` : `${devices.length} devices are added`;
  await requireWritten(io, made, '`svc-mqtt device rotate` gives a new secret');
  if (options.json === true) return;
  const [secret, it] = devices.length === 1 ? ['password', 'it'] : ['passwords', 'them'];
  await write(io.stderr, `Keep the ${secret}: nothing can show ${it} again.\n`);
}

/** Adds devices whose secrets go to a file: they are safe on the disk before the devices exist. */
async function addToFile(
  { config, options, io }: Call<AddOptions>,
  request: AddRequest,
  output: string,
): Promise<void> {
  const addInto = async ({ devices: store }: Store) => {
    const file = await openCredentialsFile(output, { force: options.force === true });
    let kept = 0;
    let ended: Promise<void> | undefined;
    const end = async () => {
      if (kept === 0) return await file.discard();
      // Whatever came after it, they are there, or may be.
      const passwords = formatCount(kept, 'password');
      await file.keep().catch((error: unknown) => {
        throw prefaced(error, `The only copy of ${passwords} is not where it should be`);
      });
      await write(io.stderr, `Keep ${escapeControls(output)}: it has the only copy of ${passwords}.\n`);
    };
    const release = io.onEndAtOnce(async () => {
      if (kept > 0 && ended === undefined) await write(io.stderr, endedAtOnce);
      ended ??= end();
      await ended;
    });
    try {
      const devices = await store.add(request, async (made) => {
        // A signal must not remove what is half written: over the API they are there.
        kept += made.length;
        try {
          await file.add(made);
          await file.sync();
        } catch (error) {
          kept -= made.length;
          throw error;
        }
      });
      return devices.length;
    } finally {
      ended ??= end();
      await ended.finally(release);
    }
  };
  const added = await withStore(config, io, addInto, { creates: true });
  if (options.json === true) await write(io.stdout, toJsonLine({ added }));
  else await write(io.stdout, `added ${formatCount(added, 'device')}\n`);
}

async function writeReadable(devices: readonly NewDeviceJson[], io: CommandIo): Promise<void> {
  const [first] = devices;
  // All of them have the expiry and the metadata that were given, or none.
  const { expires_at: expiresAt, metadata } = first ?? {};
  if (first !== undefined && devices.length === 1) {
    await write(
      io.stdout,
      formatBlock([
        ['id', first.id],
        ['type', first.type],
        ['mqtt_user', first.mqtt_user],
        ['mqtt_password', first.mqtt_password],
        ['created_at', formatTime(first.created_at)],
        ...(expiresAt === undefined ? [] : [['expires_at', formatTime(expiresAt)] as const]),
        ...(metadata === undefined ? [] : [['metadata', formatMetadata({ metadata })] as const]),
      ]),
    );
    return;
  }
  const columns: TableColumn[] = [
    { title: 'ID', keep: uncut },
    { title: 'MQTT USER', keep: uncut },
    { title: 'MQTT PASSWORD', keep: uncut },
    { title: 'CREATED', keep: timeWidth },
    { title: 'TYPE' },
  ];
  if (expiresAt !== undefined) columns.push({ title: 'EXPIRES', keep: timeWidth });
  if (metadata !== undefined) columns.push({ title: 'METADATA' });
  const [table, time] = [openTable(io, columns), tableTime(io)];
  for (let at = 0; at < devices.length; at += rowsPerWrite) {
    await table(
      devices
        .slice(at, at + rowsPerWrite)
        .map((device) => [
          device.id,
          device.mqtt_user,
          device.mqtt_password,
          time(device.created_at),
          device.type,
          ...(expiresAt === undefined ? [] : [time(expiresAt)]),
          ...(metadata === undefined ? [] : [formatMetadata({ metadata })]),
        ]),
    );
  }
}
