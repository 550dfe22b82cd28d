import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/** A file that a log goes to. */
export type LogFile = ReturnType<typeof openLogFile>;

const keptLines = 500;

/**
 * Opens a file for a log, readable by its owner only. At `maxBytes` it becomes `<file>.1`, whose place it takes, and a
 * new one begins.
 *
 * @throws Error of the file system.
 */
export function openLogFile(file: string, maxBytes = 16_777_216) {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const open = () => openSync(file, 'a', 0o600);
  const lines: string[] = [];
  let fd = open();
  let bytes = fstatSync(fd).size;

  /** The old file is closed last: the number of a closed one soon stands for another file or socket of the process. */
  function beginAnew(): void {
    bytes = 0;
    renameSync(file, `${file}.1`);
    const old = fd;
    fd = open();
    closeSync(old);
  }

  return {
    write(line: string): void {
      lines.push(line.trimEnd());
      if (lines.length > keptLines) lines.shift();
      try {
        if (bytes >= maxBytes) beginAnew();
      } catch {
        // As long as there can be no new file, the log goes on in the old one.
      }
      try {
        bytes += writeSync(fd, line);
      } catch {
        // A full disk must not end the server; the latest lines are still in memory.
      }
    },
    /** The latest lines, oldest first. */
    recent: (): readonly string[] => lines,
    close: (): void => closeSync(fd),
  };
}
