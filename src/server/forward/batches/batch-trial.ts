/** Ticks under load that are compared, and those that let what is under way pass before. */
const measuredTicks = 4;
const passingTicks = 1;
/** Ticks under load from one comparison to the next. */
const firstPauseTicks = 4;
const pauseTicks = 300;
/** Batches are more work for the stream's server; where they are not clearly quicker they are left. */
const leastGain = 1.2;

/** What to do until the next tick: batches, messages by themselves to compare, or no batches since they do not pay. */
export type TrialStep = 'batches' | 'singly' | 'leave';

/**
 * Finds out whether batches pay: now and then, under load, messages go by themselves for a moment, and what is stored in it is
 * compared with what was stored in batches before. A store that syncs for each message shows a tenth; another one,
 * taken for slow since the machine was busy, shows as much or more.
 */
export function openBatchTrial() {
  let singly = false;
  let ticks = 0;
  let pause = firstPauseTicks;
  /** Messages of the latest ticks with batches. */
  let inBatches: number[] = [];
  let alone = 0;
  return {
    /**
     * @param stored messages stored since the tick before.
     * @param loaded messages have been waiting all the time.
     * @param batchTicks how long a batch takes: fewer than four of them say nothing.
     * @param underWay batches are, whose messages would count for those that go by themselves.
     */
    tick(stored: number, loaded: boolean, batchTicks: number, underWay: boolean): TrialStep {
      if (!loaded || (singly && underWay)) return singly ? 'singly' : 'batches';
      const needed = Math.max(measuredTicks, 4 * batchTicks);
      ticks += 1;
      if (!singly) {
        if (ticks > passingTicks) inBatches = [...inBatches.slice(1 - needed), stored];
        singly = ticks >= Math.max(pause, needed) + passingTicks;
        if (singly) ticks = 0;
        return singly ? 'singly' : 'batches';
      }
      if (ticks > passingTicks) alone += stored;
      if (ticks < passingTicks + measuredTicks) return 'singly';
      const batched = inBatches.reduce((sum, each) => sum + each, 0);
      const pays = batched * measuredTicks > leastGain * alone * inBatches.length;
      singly = false;
      ticks = 0;
      alone = 0;
      pause = pauseTicks;
      return pays ? 'batches' : 'leave';
    },
    /** Begins anew, with batches. */
    restart(): void {
      singly = false;
      ticks = 0;
      pause = firstPauseTicks;
      inBatches = [];
      alone = 0;
    },
  };
}
