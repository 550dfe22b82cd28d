import type { OutputStream } from '../terminal/io.js';

const enter = '\x1b[?1049h\x1b[?25l\x1b[2J\x1b[H';
const leave = '\x1b[?25h\x1b[?1049l';
export const clearScreen = '\x1b[2J\x1b[H';

/**
 * Takes the terminal's other screen, so that what was there before comes back afterwards. Whatever ends the process,
 * short of SIGKILL, gives it back.
 *
 * @returns a function that gives the terminal back. Idempotent.
 */
export function takeScreen(stdout: OutputStream): () => void {
  let taken = true;
  const giveBack = (): void => {
    if (!taken) return;
    taken = false;
    process.off('exit', giveBack);
    stdout.write(leave);
  };
  process.on('exit', giveBack);
  stdout.write(enter);
  return giveBack;
}

/** What makes a terminal put a text into the clipboard, where it allows that (OSC 52 of xterm's control sequences). */
export function clipboardSequence(text: string): string {
  return `\x1b]52;c;${Buffer.from(text).toString('base64')}\x07`;
}
