import { writeSync } from 'node:fs';
import { Writable } from 'node:stream';

/** How long a line waits, before it is tried again, for a reader that is slower than the log. */
const retryMs = 20;
const never = new Int32Array(new SharedArrayBuffer(4));

/**
 * Opens a file descriptor for a log. A line that cannot be written, as with a full disk or nobody who reads, is dropped: a log must
 * not end the server.
 */
export function openLogOutput(fd: number) {
  /** Of the line before only a part was written. */
  let torn = false;
  return {
    write(line: string): void {
      let rest = Buffer.from(torn ? `\n${line}` : line);
      try {
        while (rest.length > 0) {
          const written = writeSome(fd, rest);
          torn = written < rest.length;
          rest = rest.subarray(written);
        }
      } catch {
        // The next line is tried again.
      }
    },
  };
}

/** The same as a stream, which writes each line at once. */
export function openLogStream(fd: number): Writable {
  const output = openLogOutput(fd);
  return new Writable({
    highWaterMark: 1_048_576,
    decodeStrings: false,
    write(line, _encoding, done) {
      output.write(String(line));
      done();
    },
  });
}

function writeSome(fd: number, bytes: Uint8Array): number {
  for (;;) {
    try {
      return writeSync(fd, bytes);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(never, 0, 0, retryMs);
    }
  }
}
