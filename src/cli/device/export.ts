import type { Config } from '../../config.js';
import type { Metadata } from '../../db/device-fields.js';
import type { ExportedDevice } from '../../db/device-import.js';
import type { Device } from '../../db/devices.js';
import { withStore } from '../store/open.js';
import { requireDatabase } from '../store/target.js';
import { type CommandIo, write } from '../terminal/io.js';
import { openOutputFile } from '../terminal/output-file.js';
import { formatCount, toJsonLine } from '../terminal/text.js';
import { holdsJsonLines } from './credentials-file.js';
import { formatCsv } from './csv.js';

export interface DeviceExportOptions {
  readonly type?: string | undefined;
  readonly metadata?: Metadata | undefined;
  /** Salts and hashes too, from which `device import --hashed` restores. */
  readonly hashed?: boolean | undefined;
  readonly format?: 'csv' | 'jsonl' | undefined;
  /** The same as the format `jsonl`. */
  readonly json?: boolean | undefined;
  /** A file, mode 0600; otherwise, and with `-`, stdout. */
  readonly output?: string | undefined;
  readonly force?: boolean | undefined;
}

const pageSize = 1_000;

/**
 * Writes every device, revoked ones too, in the form that `device import` reads, page by page: memory does not grow
 * with their number, and what changes meanwhile may be in the result or not.
 *
 * @throws SvcMqttError INPUT_INVALID, DATABASE_*.
 */
export async function exportAllDevices(
  config: Config,
  options: DeviceExportOptions,
  io: CommandIo,
): Promise<void> {
  const { type, metadata, hashed = false } = options;
  const output = options.output === '-' ? undefined : options.output;
  const format = options.json === true ? 'jsonl' : options.format;
  const isJson = format === undefined ? holdsJsonLines(output ?? '') : format === 'jsonl';
  if (hashed) requireDatabase('device export --hashed', 'the API gives no salts and hashes', config, io);
  await withStore(config, io, async (store) => {
    const file =
      output === undefined ? undefined : await openOutputFile(output, { force: options.force === true });
    const put = (text: string) => (file === undefined ? write(io.stdout, text) : file.write(text));
    try {
      let count = 0;
      let after: Device | undefined;
      for (;;) {
        const page = await store.devices.export({ type, metadata, state: 'all', after, limit: pageSize });
        const rows = page.map((device) => toRow(device, hashed));
        if (isJson) await put(rows.map((row) => toJsonLine(row)).join(''));
        else {
          const header = after === undefined ? [Object.keys(toRow(undefined, hashed))] : [];
          await put(formatCsv([...header, ...rows.map((row) => Object.values(row).map(toCell))]));
        }
        count += page.length;
        after = page.at(-1) ?? after;
        if (page.length < pageSize || io.outputClosed.aborted) break;
      }
      await file?.keep();
      if (output !== undefined) await write(io.stderr, `exported ${formatCount(count, 'device')}\n`);
    } finally {
      await file?.discard();
    }
  });
}

/** The columns of a device in their order; without a device, for their names. */
function toRow(
  device: (Device & Partial<ExportedDevice>) | undefined,
  hashed: boolean,
): Record<string, unknown> {
  const time = (value: Date | null | undefined) => value?.toISOString() ?? null;
  const hasPrevious = device !== undefined && device.previousSecretUntil !== null;
  const previous = hasPrevious ? device : undefined;
  return {
    id: device?.id,
    type: device?.type,
    metadata: device?.metadata,
    created_at: time(device?.createdAt),
    expires_at: time(device?.expiresAt),
    revoked_at: time(device?.revokedAt),
    last_seen_at: time(device?.lastSeenAt),
    ...(hashed
      ? {
          secret_salt: device?.secretSalt?.toString('hex'),
          secret_hash: device?.secretHash?.toString('hex'),
          previous_secret_salt: previous?.previousSecretSalt?.toString('hex') ?? null,
          previous_secret_hash: previous?.previousSecretHash?.toString('hex') ?? null,
          previous_secret_until: time(previous?.previousSecretUntil),
          previous_secret_until_used: previous?.previousSecretUntilUsed ?? false,
        }
      : {}),
  };
}

function toCell(value: unknown): string {
  if (value === null || value === undefined) return '';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
