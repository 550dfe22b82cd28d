import { randomBytes } from 'node:crypto';
import { type FileHandle, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fileReasonOf, SvcMqttError } from '../../errors.js';
import { usageError } from '../command/usage-error.js';
import { escapeControls } from './text.js';

/** A file being written that only its owner may read. */
export type OutputFile = Awaited<ReturnType<typeof openOutputFile>>;

/**
 * Begins a file with mode 0600. An existing one is refused, or with `force` replaced when the new one is kept.
 *
 * @throws SvcMqttError INPUT_INVALID when it is there, or cannot be written.
 */
export async function openOutputFile(path: string, options: { force: boolean }) {
  const there = options.force ? await stat(path).catch(() => undefined) : undefined;
  if (there?.isFile() === false)
    throw new SvcMqttError('INPUT_INVALID', `${escapeControls(path)} is there, and is no file`, {
      suggestion: 'Choose another name',
    });
  const writtenPath = options.force ? `${path}.${randomBytes(6).toString('hex')}.part` : path;
  let file: FileHandle;
  try {
    file = await open(writtenPath, 'wx', 0o600);
  } catch (error) {
    throw toOpenError(path, error);
  }
  /** Of what was written last. */
  let [start, end] = [0, 0];
  let kept: Promise<void> | undefined;
  let last: Promise<unknown> = Promise.resolve();
  /** One write after the other: what one that fails leaves behind is cut off before the next. */
  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const done = last.then(work).catch((error: unknown) => {
      throw toWriteError('INTERNAL', path, error);
    });
    last = done.catch(() => {});
    return done;
  };
  const put = async (bytes: Uint8Array, at: number) => {
    for (let done = 0; done < bytes.length; )
      done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  };
  const append = async (bytes: Uint8Array) => {
    await put(bytes, end).catch(async (error: unknown) => {
      await file.truncate(end);
      throw error;
    });
  };
  const finish = async () => {
    try {
      await file.sync();
      await file.close();
      if (writtenPath !== path) await rename(writtenPath, path);
    } catch (error) {
      throw toWriteError('INTERNAL', path, error, writtenPath);
    }
  };
  return {
    write: (text: string) =>
      inTurn(async () => {
        const bytes = Buffer.from(text);
        await append(bytes);
        [start, end] = [end, end + bytes.length];
      }),
    /** Puts other text in the place of what was written last. */
    rewrite: (text: string) =>
      inTurn(async () => {
        const bytes = Buffer.from(text);
        const room = end - start;
        // Only what is behind it can find the disk full: it goes first, while what was written is still there.
        await append(bytes.subarray(room));
        await put(bytes.subarray(0, room), start);
        end = start + bytes.length;
        if (bytes.length < room) await file.truncate(end);
      }),
    /** Waits until what was written is on the disk. */
    sync: () => inTurn(() => file.sync()),
    /** Closes the file and leaves it in its place; a failure says where it is instead. */
    keep: () => {
      kept ??= last.then(finish);
      return kept;
    },
    /** Removes what was written, as if it had never been begun; after `keep` it does nothing. */
    async discard() {
      if (kept !== undefined) return;
      await file.close();
      await rm(writtenPath, { force: true });
    },
  };
}

/**
 * Refuses two names of one file: what is written under one of them would be lost.
 *
 * @param paths by what gives them, such as `--output`.
 * @throws SvcMqttError USAGE.
 */
export async function requireDistinctFiles(
  paths: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  const seen = new Map<string, string>();
  for (const [name, path] of Object.entries(paths)) {
    if (path === undefined) continue;
    const file = await identify(path);
    const other = seen.get(file);
    if (other !== undefined)
      throw usageError(`${other} and ${name} are the same file, ${path}`, 'Name another file');
    seen.set(file, name);
  }
}

/** The same text for every name of a file, be it there or not. */
async function identify(path: string): Promise<string> {
  try {
    const { dev, ino } = await stat(path);
    return `${dev}:${ino}`;
  } catch {
    const directory = dirname(path);
    return join(await realpath(directory).catch(() => resolve(directory)), basename(path));
  }
}

function toOpenError(path: string, error: unknown): SvcMqttError {
  return (error as NodeJS.ErrnoException).code === 'EEXIST'
    ? new SvcMqttError('INPUT_INVALID', `The file ${escapeControls(path)} is there already`, {
        suggestion: 'Choose another name, or add --force to replace it',
      })
    : toWriteError('INPUT_INVALID', path, error);
}

/** @param left where what was written is left. */
function toWriteError(code: 'INPUT_INVALID' | 'INTERNAL', path: string, error: unknown, left?: string) {
  const detail = `The file ${escapeControls(path)} cannot be written: ${fileReasonOf(error)}`;
  const suggestion =
    left === undefined ? {} : { suggestion: `What was written is in ${escapeControls(left)}` };
  return new SvcMqttError(code, detail, { cause: error, ...suggestion });
}
