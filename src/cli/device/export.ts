import type { Metadata } from '../../db/devices/device-fields.js';
import type { Call } from '../command/command.js';
import { withStore } from '../store/open.js';
import type { Store } from '../store/store.js';
import { requireGoing, write } from '../terminal/io.js';
import { openOutputFile } from '../terminal/output-file.js';
import { formatCount, toJsonLine } from '../terminal/text.js';
import { holdsJsonLines } from './credentials-file.js';
import { formatCsv } from './csv.js';
import { columnsOf, commonColumns } from './import-row.js';

interface ExportOptions {
  readonly type?: string;
  readonly metadata?: Metadata;
  /** Salts and hashes too, from which `device import --hashed` restores. */
  readonly hashed?: boolean;
  /** `--json` is the same as `jsonl`. */
  readonly format?: 'csv' | 'jsonl';
  /** A file, mode 0600; otherwise, and with `-`, stdout. */
  readonly output?: string;
  readonly force?: boolean;
}

/**
 * Writes every device, revoked ones too, in the form that `device import` reads, page by page: memory does not grow
 * with their number, and what changes meanwhile may be in the result or not.
 *
 * @throws SvcMqttError INPUT_INVALID, DATABASE_*.
 */
export async function exportDevices({ config, options, io }: Call<ExportOptions>): Promise<void> {
  const { type, metadata, hashed = false } = options;
  const output = options.output === '-' ? undefined : options.output;
  const format = options.json === true ? 'jsonl' : options.format;
  const isJson = format === undefined ? holdsJsonLines(output ?? '') : format === 'jsonl';
  const columns = hashed ? columnsOf(true) : commonColumns;
  const work = async ({ devices }: Store) => {
    const file =
      output === undefined ? undefined : await openOutputFile(output, { force: options.force === true });
    const release = io.onEndAtOnce(async () => file?.discard());
    const put = (text: string) => (file === undefined ? write(io.stdout, text) : file.write(text));
    try {
      let count = 0;
      if (!isJson) await put(formatCsv([columns]));
      for await (const page of devices.export({ type, metadata, hashed })) {
        const rows = page.map((device: Record<string, unknown>) => columns.map((name) => device[name]));
        if (isJson) await put(rows.map((row) => toJsonLine(toObject(columns, row))).join(''));
        else await put(formatCsv(rows.map((row) => row.map(toCell))));
        count += page.length;
        requireGoing(io.signal);
        if (io.outputClosed.aborted) break;
      }
      await file?.keep();
      if (output !== undefined) await write(io.stderr, `exported ${formatCount(count, 'device')}\n`);
    } finally {
      await file?.discard().finally(release);
    }
  };
  // A file that is begun has to be removed.
  await withStore(config, io, work, { endsAtOnce: output === undefined });
}

function toObject(names: readonly string[], values: readonly unknown[]): Record<string, unknown> {
  return Object.fromEntries(names.map((name, at) => [name, values[at]]));
}

function toCell(value: unknown): string {
  if (value === null || value === undefined) return '';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
