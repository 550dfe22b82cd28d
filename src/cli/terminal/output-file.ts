import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { fileReasonOf, SvcMqttError } from '../../errors.js';
import { escapeControls } from './text.js';

/** A file being written that only its owner may read. */
export interface OutputFile {
  write(text: string): Promise<void>;
  /** Puts other text in the place of what was written last. */
  rewrite(text: string): Promise<void>;
  /** Waits until what was written is on the disk. */
  sync(): Promise<void>;
  /** Closes the file and leaves it in its place. */
  keep(): Promise<void>;
  /** Removes what was written, as if it had never been begun; after `keep` it does nothing. */
  discard(): Promise<void>;
}

/**
 * Begins a file with mode 0600. An existing one is refused, or with `force` replaced when the new one is kept.
 *
 * @throws SvcMqttError INPUT_INVALID when it is there, or cannot be written.
 */
export async function openOutputFile(path: string, options: { force: boolean }): Promise<OutputFile> {
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
  const put = async (text: string, at: number) => {
    const bytes = Buffer.from(text);
    [start, end] = [at, at + bytes.length];
    for (let done = 0; done < bytes.length; )
      done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  };
  return {
    write: (text) => put(text, end),
    async rewrite(text) {
      const endBefore = end;
      // What is cut off is written anew before, so that no moment is without it.
      await put(text, start);
      if (end < endBefore) await file.truncate(end);
    },
    async sync() {
      await file.sync();
    },
    async keep() {
      if (!unfinished) return;
      await file.sync();
      unfinished = false;
      await file.close();
      if (writtenPath !== path) await rename(writtenPath, path);
    },
    async discard() {
      if (!unfinished) return;
      unfinished = false;
      await file.close();
      await rm(writtenPath, { force: true });
    },
  };
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
