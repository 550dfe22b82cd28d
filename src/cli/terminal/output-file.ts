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
  const writtenPath = options.force ? `${path}.${randomBytes(6).toString('hex')}.part` : path;
  let file: FileHandle;
  try {
    file = await open(writtenPath, 'wx', 0o600);
  } catch (error) {
    throw toOutputError(path, error);
  }
  let unfinished = true;
  /** Of what was written last. */
  let [start, end] = [0, 0];
  const put = async (bytes: Uint8Array, at: number) => {
    for (let done = 0; done < bytes.length; )
      done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  };
  return {
    async write(text: string) {
      const bytes = Buffer.from(text);
      [start, end] = [end, end + bytes.length];
      await put(bytes, start);
    },
    /** Puts other text in the place of what was written last. */
    async rewrite(text: string) {
      const bytes = Buffer.from(text);
      const room = end - start;
      // Only what is behind it can find the disk full: it goes first, while what was written is still there.
      await put(bytes.subarray(room), end).catch(async (error: unknown) => {
        await file.truncate(end);
        throw error;
      });
      await put(bytes.subarray(0, room), start);
      end = start + bytes.length;
      if (bytes.length < room) await file.truncate(end);
    },
    /** Waits until what was written is on the disk. */
    async sync() {
      await file.sync();
    },
    /** Closes the file and leaves it in its place. */
    async keep() {
      if (!unfinished) return;
      await file.sync();
      unfinished = false;
      await file.close();
      if (writtenPath !== path) await rename(writtenPath, path);
    },
    /** Removes what was written, as if it had never been begun; after `keep` it does nothing. */
    async discard() {
      if (!unfinished) return;
      unfinished = false;
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

function toOutputError(path: string, error: unknown): SvcMqttError {
  const name = escapeControls(path);
  return (error as NodeJS.ErrnoException).code === 'EEXIST'
    ? new SvcMqttError('INPUT_INVALID', `The file ${name} is there already`, {
        suggestion: 'Choose another name, or add --force to replace it',
      })
    : new SvcMqttError('INPUT_INVALID', `The file ${name} cannot be written: ${fileReasonOf(error)}`, {
        cause: error,
      });
}
