import type { Progress } from '../../progress.js';
import { type CommandIo, canDraw } from './io.js';
import { formatProgress, type ProgressReport } from './progress.js';

/** Time between two lines where there is no terminal. */
const lineIntervalMs = 5_000;

/** Starts to show progress on stderr: a bar on a terminal, else a line every few seconds and at the end of a step. */
export function startProgress(io: Pick<CommandIo, 'stderr' | 'env'>): ProgressReport {
  return canDraw(io.stderr, io.env) ? startBar(io) : startLines(io);
}

function startLines(io: Pick<CommandIo, 'stderr'>): ProgressReport {
  let lastStep = '';
  let lastLine = '';
  let lastAt = 0;
  return {
    update(progress) {
      const ended = progress.total !== undefined && progress.done >= progress.total;
      const now = Date.now();
      if (progress.step === lastStep && !ended && now - lastAt < lineIntervalMs) return;
      const line = formatProgress(progress);
      if (line === lastLine) return;
      [lastStep, lastLine, lastAt] = [progress.step, line, now];
      io.stderr.write(`${line}\n`);
    },
    async close() {},
  };
}

/** Ink is loaded at the first update only: most migrations have nothing long to show. */
function startBar(io: Pick<CommandIo, 'stderr'>): ProgressReport {
  let last: Progress | undefined;
  let loading: Promise<ProgressReport> | undefined;
  let view: ProgressReport | undefined;
  return {
    update(progress) {
      last = progress;
      view?.update(progress);
      loading ??= import('./progress-bar.js').then(({ openProgressBar }) => {
        view = openProgressBar(io.stderr, last ?? progress);
        return view;
      });
    },
    async close() {
      await (await loading)?.close();
    },
  };
}
