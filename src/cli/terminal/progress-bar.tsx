import { Box, render, Text } from 'ink';
import type { Progress } from '../../progress.js';
import type { OutputStream } from './io.js';
import { formatProgress, type ProgressReport, toPercent } from './progress.js';
import { escapeControls } from './text.js';

const widestBar = 30;
const blocks = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** Draws a progress bar on a terminal, with Ink. Signals stay with the process: Ink reads no keys. */
export function openProgressBar(stream: OutputStream, first: Progress): ProgressReport {
  let pace = { step: first.step, startedAt: Date.now() };
  const draw = (progress: Progress) => {
    if (progress.step !== pace.step) pace = { step: progress.step, startedAt: Date.now() };
    const elapsedMs = Date.now() - pace.startedAt;
    return <ProgressBar progress={progress} elapsedMs={elapsedMs} columns={stream.columns ?? 80} />;
  };
  const instance = render(draw(first), {
    stdout: stream as NodeJS.WriteStream,
    patchConsole: false,
    exitOnCtrlC: false,
  });
  return {
    update(progress) {
      instance.rerender(draw(progress));
    },
    async close() {
      instance.unmount();
      await instance.waitUntilExit();
    },
  };
}

/** One line: what is done, a bar, how far, and how long it still takes. */
export function ProgressBar(props: { progress: Progress; elapsedMs: number; columns: number }) {
  const { step, done, total } = props.progress;
  if (total === undefined) return <Text wrap="truncate">{formatProgress(props.progress)}</Text>;
  const share = total <= 0 ? 1 : Math.max(0, Math.min(1, done / total));
  const numbers = `${done.toLocaleString('en-US')} of ${total.toLocaleString('en-US')}`;
  const width = Math.max(0, Math.min(widestBar, props.columns - step.length - numbers.length - 24));
  const bar = drawBar(share, width);
  return (
    <Box>
      <Text wrap="truncate">
        {escapeControls(step)} <Text color="green">{bar}</Text>
        {`${' '.repeat(width - bar.length)} ${String(toPercent(done, total)).padStart(3)}%  ${numbers}`}
        <Text dimColor>{formatRemaining(share, props.elapsedMs)}</Text>
      </Text>
    </Box>
  );
}

/** Eighths of a cell make a bar that moves smoothly. */
export function drawBar(share: number, width: number): string {
  const eighths = Math.floor(share * width * 8);
  return '█'.repeat(Math.floor(eighths / 8)) + (blocks[eighths % 8] ?? '');
}

/** The time left at the pace so far, once there is a pace to speak of. */
export function formatRemaining(share: number, elapsedMs: number): string {
  if (share <= 0 || share >= 1 || elapsedMs < 1_000) return '';
  const seconds = Math.ceil((elapsedMs / share - elapsedMs) / 1_000);
  return seconds < 60 ? `  ${seconds} s left` : `  ${Math.ceil(seconds / 60)} min left`;
}
