import { openOutputFile } from '../terminal/output-file.js';
import { toJsonLine } from '../terminal/text.js';
import { formatCsv } from './csv.js';

/** A device with its secret, as files hold it. */
export interface Credentials {
  readonly id: string;
  readonly type: string;
  readonly mqtt_user: string;
  readonly mqtt_password: string;
  /** Empty while nobody knows whether the device is stored. */
  readonly created_at: string;
}

const columns = ['id', 'type', 'mqtt_user', 'mqtt_password', 'created_at'] as const;

/** A file of credentials being written. */
export type CredentialsFile = Awaited<ReturnType<typeof openCredentialsFile>>;

/** Credentials as CSV, as a file of them is. */
export function formatCredentials(credentials: readonly Credentials[]): string {
  return formatCsv([columns]) + formatRows(credentials);
}

function formatRows(credentials: readonly Credentials[]): string {
  return formatCsv(credentials.map((each) => columns.map((column) => each[column])));
}

/** Whether a file is to hold JSON lines, by its name, and not CSV. */
export function holdsJsonLines(path: string): boolean {
  return /\.(jsonl|ndjson|json)$/i.test(path);
}

/**
 * Begins a file of credentials, with mode 0600: CSV, or JSON lines when its name ends in `.jsonl`, `.ndjson` or `.json`.
 *
 * @throws SvcMqttError INPUT_INVALID when it is there and `force` is not given, or cannot be written.
 */
export async function openCredentialsFile(path: string, options: { force: boolean }) {
  const file = await openOutputFile(path, options);
  const jsonLines = holdsJsonLines(path);
  if (!jsonLines) {
    await file.write(formatCsv([columns])).catch(async (error: unknown) => {
      await file.discard();
      throw error;
    });
  }
  const format = (credentials: readonly Credentials[]) =>
    jsonLines ? credentials.map(toJsonLine).join('') : formatRows(credentials);
  return {
    sync: file.sync,
    keep: file.keep,
    discard: file.discard,
    add: (credentials: readonly Credentials[]) => file.write(format(credentials)),
    /** Puts others in the place of those that were added last. */
    replaceLast: (credentials: readonly Credentials[]) => file.rewrite(format(credentials)),
  };
}
