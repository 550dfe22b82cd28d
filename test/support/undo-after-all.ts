import { afterAll } from 'vitest';

/**
 * Takes what is to be undone when all tests of the file are over, or of the `describe` that it is called in; undone in reverse
 * order.
 */
export function undoAfterAll(): (undo: () => unknown) => void {
  const steps: (() => unknown)[] = [];
  afterAll(async () => {
    for (const undo of steps.reverse()) await undo();
  });
  return (undo) => void steps.push(undo);
}
