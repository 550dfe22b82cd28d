import type { OutputStream } from '../terminal/io.js';

/** Terminals that know it draw what is between the two at once (DEC private mode 2026); others take no notice. */
const begin = '\x1b[?2026h';
const end = '\x1b[?2026l';

export type FrameWriter = ReturnType<typeof openFrameWriter>;

/** Puts frames on the screen. */
export function openFrameWriter(stdout: Pick<OutputStream, 'write'>) {
  let before: readonly string[] = [];
  return {
    /** Writes the lines in which a frame differs from the one before, each at its place, so that nothing flickers. */
    write(frame: string): void {
      const lines = frame.split('\n');
      let text = '';
      for (let row = 0; row < Math.max(lines.length, before.length); row += 1) {
        const line = lines[row] ?? '';
        if (line !== before[row]) text += `\x1b[${row + 1};1H\x1b[2K${line}`;
      }
      before = lines;
      if (text !== '') stdout.write(`${begin}${text}${end}`);
    },
    /** What is on the screen is not what was written: the next frame is written whole. */
    forget(): void {
      before = [];
    },
  };
}
