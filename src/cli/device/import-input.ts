import { type FileHandle, open } from 'node:fs/promises';
import { messageOf, SvcMqttError } from '../../errors.js';
import type { CommandIo, InputStream } from '../terminal/io.js';
import { escapeControls } from '../terminal/text.js';

/**
 * Opens the file to import; `-` is stdin.
 *
 * @returns `total`: about how many rows there are, where that can be known before.
 * @throws SvcMqttError INPUT_INVALID when it cannot be read.
 */
export async function openImportInput(
  path: string,
  io: Pick<CommandIo, 'stdin'>,
): Promise<{ stream: InputStream; total: number | undefined }> {
  if (path === '-') return { stream: io.stdin, total: undefined };
  let file: FileHandle | undefined;
  try {
    file = await open(path);
    const stats = await file.stat();
    // What is read from a pipe, such as that of <(command), is not there a second time.
    if (stats.isFile()) {
      const total = await countRows(file);
      return { stream: file.createReadStream({ start: 0 }), total };
    }
    if (stats.isDirectory()) throw Object.assign(new Error('It is a directory'), { code: 'EISDIR' });
    return { stream: file.createReadStream(), total: undefined };
  } catch (error) {
    await file?.close();
    const { code } = error as NodeJS.ErrnoException;
    const detail = `The file ${escapeControls(path)} cannot be read (${code ?? messageOf(error)})`;
    throw new SvcMqttError('INPUT_INVALID', detail, { cause: error });
  }
}

/** The rows of a file, for the progress: a few more than there are, where lines are empty or cells have several. */
async function countRows(file: FileHandle): Promise<number> {
  let lines = 0;
  let first: number | undefined;
  let last = 10;
  for await (const chunk of file.createReadStream({ start: 0, autoClose: false }) as AsyncIterable<Buffer>) {
    first ??= chunk[0];
    last = chunk.at(-1) ?? last;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) lines += 1;
  }
  // The last line may lack its end; the first one of CSV is the header.
  if (last !== 10) lines += 1;
  return first === undefined || first === '{'.charCodeAt(0) ? lines : lines - 1;
}
