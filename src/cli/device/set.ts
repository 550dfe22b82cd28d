import type { Metadata } from '../../db/devices/device-fields.js';
import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { withStore } from '../store/open.js';
import { deviceNotFound, writeDevice } from './show.js';

interface SetOptions {
  readonly expires?: Date | 'never';
  readonly metadata?: Metadata;
  /** Keys of metadata to remove. */
  readonly unset?: readonly string[];
}

/**
 * Changes a device's expiry and metadata, and shows it as it is then.
 *
 * @throws SvcMqttError USAGE, INPUT_INVALID, DEVICE_NOT_FOUND, DATABASE_*.
 */
export async function setDevice(call: Call<SetOptions>): Promise<void> {
  const { config, options, io } = call;
  const [id = ''] = call.args;
  const { expires, metadata = {}, unset = [] } = options;
  if (expires === undefined && Object.keys(metadata).length + unset.length === 0) {
    throw usageError(
      'device set needs something to change: --expires, --metadata or --unset',
      'Example: svc-mqtt device set ID --expires 30d --metadata site=lyon',
    );
  }
  const both = unset.find((key) => Object.hasOwn(metadata, key));
  if (both !== undefined) throw usageError(`"${both}" is in --metadata and in --unset`);
  const device = await withStore(config, io, ({ devices }) => {
    const removed = Object.fromEntries(unset.map((key) => [key, null]));
    const expiresAt = expires === 'never' ? null : expires;
    return devices.set(id, { expiresAt, metadata: { ...metadata, ...removed } });
  });
  if (device === undefined) throw deviceNotFound([id]);
  await writeDevice(device, options.json === true, io);
}
