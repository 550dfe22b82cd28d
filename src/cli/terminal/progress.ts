import type { Progress } from '../../progress.js';
import { escapeControls } from './text.js';

/** Shows how far long work has come. */
export interface ProgressReport {
  update(progress: Progress): void;
  /** Leaves the last state on the screen and gives the terminal back. */
  close(): Promise<void>;
}

/** `converting devices: 45% (45,000 of 100,000)`. */
export function formatProgress({ step, done, total }: Progress): string {
  if (total === undefined) return `${escapeControls(step)}: ${done.toLocaleString('en-US')}`;
  const numbers = `${done.toLocaleString('en-US')} of ${total.toLocaleString('en-US')}`;
  return `${escapeControls(step)}: ${toPercent(done, total)}% (${numbers})`;
}

/** How much is done, rounded down, so that 100 means all; work without parts is done. */
export function toPercent(done: number, total: number): number {
  return total <= 0 ? 100 : Math.max(0, Math.min(100, Math.floor((done / total) * 100)));
}
