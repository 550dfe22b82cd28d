import { Box, render, Text, useInput } from 'ink';
import { useSyncExternalStore } from 'react';
import type { Line } from '../terminal/cells.js';
import type { InputStream, OutputStream } from '../terminal/io.js';
import { type FrameWriter, openFrameWriter } from './frame-writer.js';
import { type SpecialKeys, takenAlone, toAction } from './keys.js';
import { drawScreen } from './screen.js';
import type { TopSession } from './session.js';
import { clearScreen } from './terminal.js';

/** The lines of a screen. */
export function Screen({ lines, color }: { lines: readonly Line[]; color: boolean }) {
  return (
    <Box flexDirection="column">
      {lines.map((line, row) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a line is its place on the screen.
        <Text key={row} wrap="truncate">
          {line.map(({ text, color: tint, bold, dim, inverse }, at) => (
            <Text
              // biome-ignore lint/suspicious/noArrayIndexKey: a span is its place in the line.
              key={at}
              bold={bold === true}
              dimColor={dim === true}
              inverse={inverse === true}
              {...(color && tint !== undefined ? { color: tint } : {})}
            >
              {text}
            </Text>
          ))}
        </Text>
      ))}
    </Box>
  );
}

/** The screen of a session, with the keys. */
export function TopApp({ session, where, color }: { session: TopSession; where: string; color: boolean }) {
  const state = useSyncExternalStore(session.subscribe, () => session.state);
  useInput((input, key) => press(session, input, key));
  return <Screen lines={drawScreen(state, where)} color={color} />;
}

/** The keys that are one character in a text of several. */
const keysInText: Readonly<Record<string, SpecialKeys>> = {
  '\r': { return: true },
  '\t': { tab: true },
  '\b': { backspace: true },
  '\x7f': { backspace: true },
};

/** Keys that come close together arrive as one text, and so does what is pasted: that must do no harm. */
function press(session: TopSession, input: string, key: SpecialKeys): void {
  const isText = input.length > 1;
  if (isText && session.state.question !== undefined) return;
  for (const each of isText ? input : [input]) {
    const action = toAction(each, keysInText[each] ?? key, session.state);
    if (action !== undefined && !(isText && takenAlone.has(action.type))) session.dispatch(action);
  }
}

/** Shows a session on a terminal. */
export function openTopView(options: {
  session: TopSession;
  where: string;
  color: boolean;
  stdin: InputStream;
  stdout: OutputStream;
}): { readonly ended: Promise<unknown>; close(): Promise<void> } {
  const { session, where, color, stdin, stdout } = options;
  const writer = openFrameWriter(stdout);
  const instance = render(<TopApp session={session} where={where} color={color} />, {
    stdin: stdin as NodeJS.ReadStream,
    stdout: openFrameStream(stdout, writer),
    // Ink gives out whole frames then, and leaves the cursor alone.
    debug: true,
    patchConsole: false,
    exitOnCtrlC: false,
  });
  const onResize = (): void => {
    // The terminal may have wrapped or moved what is on it: it is drawn anew.
    stdout.write(clearScreen);
    writer.forget();
    session.dispatch({ type: 'resized', ...sizeOf(stdout) });
  };
  stdout.on('resize', onResize);
  const ended = instance.waitUntilExit();
  // Who does not wait for it must not be ended by it.
  ended.catch(() => {});
  return {
    /** Rejects when drawing fails. */
    ended,
    async close() {
      stdout.off('resize', onResize);
      instance.unmount();
      await ended.catch(() => {});
    },
  };
}

/** The size of a terminal. One that does not tell is taken for the smallest common one. */
export function sizeOf(stdout: OutputStream): { columns: number; rows: number } {
  const { columns, rows } = stdout as Partial<NodeJS.WriteStream>;
  return { columns: columns ?? 80, rows: rows ?? 24 };
}

/** What Ink takes for the terminal. */
function openFrameStream(stdout: OutputStream, writer: FrameWriter): NodeJS.WriteStream {
  const frames = {
    isTTY: true,
    get columns() {
      return sizeOf(stdout).columns;
    },
    get rows() {
      return sizeOf(stdout).rows;
    },
    write(frame: string) {
      writer.write(frame);
      return true;
    },
    // The session is told of a new size, and draws for it.
    on: () => frames,
    off: () => frames,
  };
  return frames as unknown as NodeJS.WriteStream;
}
