import type { Call } from '../command/command.js';
import { usageError } from '../command/usage-error.js';
import { withStore } from '../store/open.js';
import { type DeviceStore, FateUnknown, type Store } from '../store/store.js';
import {
  type CommandIo,
  type InputStream,
  Interrupted,
  interruptedBy,
  prefaced,
  write,
} from '../terminal/io.js';
import { type OutputFile, openOutputFile, requireDistinctFiles } from '../terminal/output-file.js';
import { startProgress } from '../terminal/progress-report.js';
import { escapeControls, formatCount, toJsonLine } from '../terminal/text.js';
import { type Credentials, type CredentialsFile, openCredentialsFile } from './credentials-file.js';
import { formatCsv } from './csv.js';
import { collectCauses } from './import-causes.js';
import { openImportInput } from './import-input.js';
import { type ImportRecord, readRecords } from './import-records.js';
import { checkColumn, type ImportRow, isRefused, type RefusedRow, readRow } from './import-row.js';

interface ImportOptions {
  readonly hashed?: boolean;
  /** Refused rows do not keep the others from being imported. */
  readonly continue?: boolean;
  /** The file for refused rows. */
  readonly report?: string;
  /** The file for ids and secrets that are generated. */
  readonly output?: string;
  readonly force?: boolean;
}

/** What has become of the rows so far. */
interface Tally {
  imported: number;
  /** Those of the imported ones that are there whatever comes. */
  stored: number;
  generated: number;
  refused: number;
  /** Rows that are sent, until it is known what came of them. */
  sent: readonly ImportRow[];
  /** The rows that were sent last are in the file, without the time of their making. */
  isUndated: boolean;
  /** Something may be stored of which nobody knows yet. */
  isOpen: boolean;
}

/** The files that are written. */
interface Files {
  credentials?: CredentialsFile;
  report?: OutputFile;
}

const rowsPerBatch = 2_000;
/** A file is not read on when so many rows are refused. */
const enoughRefused = 10;

/**
 * Imports devices from CSV or JSON lines. All or none, unless `continue` is given; then refused rows go to the report
 * and the exit status is 1.
 *
 * @throws SvcMqttError USAGE, INPUT_INVALID naming rows by line and column, DATABASE_*.
 */
export async function importDevices(call: Call<ImportOptions>): Promise<number> {
  const { config, options, io } = call;
  const [path = ''] = call.args;
  if ((options.continue === true) !== (options.report !== undefined)) {
    throw usageError('--continue and --report <file> go together: the file takes the refused rows');
  }
  for (const option of ['output', 'report'] as const) {
    if (options[option] !== '-') continue;
    throw usageError(`--${option} cannot be "-": stdout is for the result`, 'Name a file');
  }
  const { output, report } = options;
  const file = path === '-' ? undefined : path;
  await requireDistinctFiles({ 'the input': file, '--output': output, '--report': report });
  const { stream: input, total } = await openImportInput(path, io);
  const force = options.force === true;
  const files: Files = {};
  const tally: Tally = {
    ...{ imported: 0, stored: 0, generated: 0, refused: 0 },
    ...{ sent: [], isUndated: false, isOpen: false },
  };
  let ended: Promise<unknown> | undefined;
  const end = (error: unknown) => {
    ended ??= endPartly(error, tally, files, output);
    return ended;
  };
  // Nobody may be reading yet when a signal comes.
  input.on('error', () => {});
  const abort = () => input.destroy(interruptedBy(io.signal));
  io.signal.addEventListener('abort', abort, { once: true });
  const release = io.onEndAtOnce(async () => {
    const interrupted = interruptedBy(io.signal);
    throw await end(tally.isOpen ? new FateUnknown(interrupted) : interrupted);
  });
  try {
    const work = async ({ devices }: Store) => {
      if (output !== undefined) files.credentials = await openCredentialsFile(output, { force });
      if (report !== undefined) {
        files.report = await openOutputFile(report, { force });
        await files.report.write(formatCsv([['line', 'column', 'id', 'problem']]));
      }
      await importRows({ devices, input, options, files, tally, total, io });
    };
    await withStore(config, io, work, { creates: true });
    await files.credentials?.keep();
    await files.report?.keep();
  } catch (error) {
    throw await end(error);
  } finally {
    io.signal.removeEventListener('abort', abort);
    input.destroy();
    release();
  }
  await writeResult(tally, options, io);
  return tally.refused > 0 ? 1 : 0;
}

/** Keeps the files of devices that are stored, or may be, when something ends the import; answers it with what is known. */
async function endPartly(
  error: unknown,
  { stored, refused, generated, sent, isUndated }: Tally,
  files: Files,
  output: string | undefined,
): Promise<unknown> {
  const unsure = error instanceof FateUnknown;
  const end = (file: OutputFile | CredentialsFile | undefined, keeps: boolean) =>
    keeps && (stored > 0 || unsure) ? file?.keep() : file?.discard();
  const isInFile = isUndated && (unsure || sent.length === 0);
  // Should it fail, they are the ones without a time.
  if (isUndated && !isInFile) await files.credentials?.replaceLast([]).catch(() => {});
  const hasSecrets = generated > 0 || (unsure && sent.some(({ secret }) => secret !== undefined));
  const [credentials, report] = await Promise.allSettled([
    end(files.credentials, hasSecrets),
    end(files.report, refused > 0),
  ]);
  const failed = [credentials, report].find((each) => each.status === 'rejected');
  const cause = failed?.reason ?? (unsure ? error.cause : error);
  if (stored === 0 && !unsure)
    return cause instanceof Interrupted ? prefaced(cause, 'Nothing was imported') : cause;
  const how = isInFile ? ', with an empty created_at' : '';
  const where =
    hasSecrets && output !== undefined && credentials.status === 'fulfilled'
      ? ` (their secrets are in ${escapeControls(output)}${how})`
      : '';
  const done = `Imported ${formatCount(stored, 'device')}`;
  if (!unsure) return prefaced(cause, `${done}${where}, and then`);
  const [first] = sent;
  if (stored === 0 || first === undefined)
    return prefaced(cause, `Whether the devices were imported is not known${where}`);
  const open = `whether those from line ${first.line} on were imported too is not known`;
  return prefaced(cause, `${done}; ${open}${where}`);
}

/** What a file has of rows whose secrets were generated here. */
function toCredentials(
  rows: readonly ImportRow[],
  createdAtOf: (id: string) => string | undefined,
): Credentials[] {
  return rows.flatMap(({ id, type, secret }) => {
    const createdAt = createdAtOf(id);
    if (createdAt === undefined || secret === undefined) return [];
    return [{ id, type, mqtt_user: id, mqtt_password: secret, created_at: createdAt }];
  });
}

async function importRows(work: {
  devices: DeviceStore;
  input: InputStream;
  options: ImportOptions;
  files: Files;
  tally: Tally;
  total: number | undefined;
  io: CommandIo;
}): Promise<void> {
  const { devices, input, options, files, tally, total, io } = work;
  const hashed = options.hashed === true;
  const allOrNone = options.continue !== true;
  const causes = collectCauses();
  const refuse = async (rows: readonly RefusedRow[]) => {
    tally.refused += rows.length;
    for (const row of rows) causes.add(row);
    const records = rows.map((row) => [String(row.line), row.column, row.id, row.problem]);
    if (rows.length > 0) await files.report?.write(formatCsv(records));
  };
  const rules = { hashed, generates: files.credentials !== undefined };
  const progress = startProgress(io);
  const batches = async function* (): AsyncGenerator<ImportRow[]> {
    const records = readRecords(input, (name) => checkColumn(name, hashed));
    for await (const { rows, refused } of readBatches(records, rules)) {
      await refuse(refused);
      if (!allOrNone || tally.refused === 0) yield rows;
      else if (tally.refused >= enoughRefused) break;
    }
    if (allOrNone && tally.refused > 0) throw causes.toError();
    await files.credentials?.sync();
    tally.isOpen = allOrNone;
  };
  try {
    await devices.import(batches(), {
      allOrNone,
      async onSending(batch) {
        await files.credentials?.add(toCredentials(batch, () => ''));
        tally.sent = batch;
        tally.isUndated = files.credentials !== undefined;
        await files.credentials?.sync();
        tally.isOpen = true;
      },
      async onStored(batch, stored, isForGood) {
        const generated = toCredentials(batch, (id) => stored.get(id)?.toISOString());
        // Before the files: should one of them fail, what is there for good is there all the same.
        tally.sent = [];
        tally.isOpen = false;
        tally.imported += stored.size;
        if (isForGood) tally.stored = tally.imported;
        tally.generated += generated.length;
        if (tally.isUndated) await files.credentials?.replaceLast(generated);
        else await files.credentials?.add(generated);
        tally.isUndated = false;
        if (!allOrNone) await files.credentials?.sync();
        await refuse(batch.filter(({ id }) => !stored.has(id)).map(takenId));
        const done = tally.imported + tally.refused;
        const most = total === undefined ? undefined : Math.max(total, done);
        progress.update({ step: 'importing devices', done, total: most });
      },
    });
    tally.isOpen = false;
    if (allOrNone && tally.refused > 0) throw causes.toError();
    tally.stored = tally.imported;
    const done = tally.imported + tally.refused;
    progress.update({ step: 'importing devices', done, total: done });
  } finally {
    await progress.close();
  }
}

/** Rows in batches without two of one id: of these the first counts, as for ids that the database has. */
async function* readBatches(
  records: AsyncIterable<ImportRecord>,
  rules: Parameters<typeof readRow>[1],
): AsyncGenerator<{ rows: ImportRow[]; refused: RefusedRow[] }> {
  let rows = new Map<string, ImportRow>();
  let refused: RefusedRow[] = [];
  for await (const record of records) {
    const row = readRow(record, rules);
    if (isRefused(row)) refused.push(row);
    else if (rows.has(row.id)) refused.push(takenId(row));
    else rows.set(row.id, row);
    if (rows.size < rowsPerBatch && refused.length < rowsPerBatch) continue;
    yield { rows: [...rows.values()], refused };
    rows = new Map();
    refused = [];
  }
  yield { rows: [...rows.values()], refused };
}

function takenId({ line, id }: ImportRow): RefusedRow {
  return { line, column: 'id', id, problem: 'exists already, in the database or on a line before' };
}

async function writeResult(
  tally: Tally,
  options: Call<ImportOptions>['options'],
  io: CommandIo,
): Promise<void> {
  const { imported, refused, generated } = tally;
  if (options.json === true) {
    await write(io.stdout, toJsonLine({ imported, refused, generated }));
    return;
  }
  await write(io.stdout, `imported ${formatCount(imported, 'device')}\n`);
  if (options.continue === true && refused > 0) {
    const where = escapeControls(options.report ?? '');
    await write(io.stdout, `refused ${formatCount(refused, 'row')}, listed in ${where}\n`);
  }
  if (generated > 0) {
    const where = escapeControls(options.output ?? '');
    await write(io.stderr, `Keep ${where}: it has the only copy of ${formatCount(generated, 'secret')}.\n`);
  }
}
