import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openBatchTrial } from '../../src/server/forward/batches/batch-trial.js';
import { openStorePace } from '../../src/server/forward/batches/store-pace.js';

describe('the pace of a stream', () => {
  let nowMs = 0;
  beforeEach(() => {
    nowMs = 1_000;
    vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  /** A round of so many messages to a stream that takes `eachMs` for one, over a way of `wayMs` there and back. */
  function round(
    pace: ReturnType<typeof openStorePace>,
    messages: number,
    eachMs: number,
    wayMs: number,
  ): void {
    pace.begin(7, messages);
    nowMs += wayMs + messages * eachMs;
    expect(pace.noteAnswer(8)).toBe(false);
    expect(pace.noteAnswer(7)).toBe(true);
  }

  it('lets little go until it knows more, and then what a stream stores in a moment', () => {
    const slow = openStorePace();
    expect(slow.window).toBe(16);
    round(slow, 16, 10, 1);
    expect(slow.messageMs).toBeCloseTo(10, 0);
    expect(slow.window).toBeLessThan(16);
    const quick = openStorePace();
    for (let count = 0; count < 8; count += 1) round(quick, 16, 0.01, 0.1);
    expect(quick.window).toBeGreaterThan(2_000);
  });

  it('leaves one message under way to a stream that takes longer than the moment for it, and opens again', () => {
    const pace = openStorePace();
    round(pace, 16, 200, 1);
    expect(pace.window).toBe(1);
    for (let count = 0; count < 60; count += 1) round(pace, pace.window, 0.02, 0.2);
    expect(pace.window).toBeGreaterThan(500);
  });

  it('does not take a long way for a slow stream', () => {
    const pace = openStorePace();
    pace.setWay(100);
    for (let count = 0; count < 8; count += 1) round(pace, pace.window, 0.05, 100);
    expect(pace.messageMs).toBeCloseTo(0.05, 2);
    expect(pace.window).toBeGreaterThan(2_000);
  });

  it('begins a round only with enough under way to tell something', () => {
    const pace = openStorePace();
    pace.begin(2, 15);
    expect(pace.idle).toBe(true);
    pace.begin(3, 16);
    expect(pace.idle).toBe(false);
    expect(pace.noteAnswer(2)).toBe(false);
    expect(pace.noteAnswer(3)).toBe(true);
  });

  it('learns from silence', () => {
    const pace = openStorePace();
    round(pace, 16, 0.01, 0.1);
    const { window } = pace;
    pace.begin(9, 16);
    nowMs += 5_000;
    pace.tick(nowMs, 5_000);
    expect(pace.idle).toBe(true);
    expect(pace.window).toBeLessThan(window / 10);
  });
});

describe('the trial of batches', () => {
  /** Ticks under load, at the rates that batches and single messages reach; answers what was done in each. */
  function run(ticks: number, batched: number, alone: number): string[] {
    const trial = openBatchTrial();
    let step: string = 'batches';
    return Array.from({ length: ticks }, () => {
      step = trial.tick(step === 'singly' ? alone : batched, true, 1, false);
      return step;
    });
  }

  it('keeps to batches that store more, and compares seldom', () => {
    const steps = run(400, 3_000, 220);
    expect(steps).not.toContain('leave');
    expect(steps.filter((step) => step === 'singly').length).toBeLessThan(20);
    expect(steps.slice(0, 10)).toContain('singly');
  });

  it('leaves batches that store as much as messages by themselves, or less', () => {
    expect(run(20, 3_000, 3_000)).toContain('leave');
    expect(run(20, 3_000, 9_000)).toContain('leave');
  });

  it('compares nothing while there is no load', () => {
    const trial = openBatchTrial();
    for (let tick = 0; tick < 1_000; tick += 1) expect(trial.tick(1, false, 1, false)).toBe('batches');
  });

  it('keeps to batches that take longer than it looks at a time, and counts none of theirs for single ones', () => {
    const trial = openBatchTrial();
    let step: string = 'batches';
    const steps: string[] = [];
    // Two batches of 300 are under way, each stored 600 ms after the other; messages by themselves make one a tick.
    let passing = 0;
    for (let tick = 1; tick <= 400; tick += 1) {
      passing = step === 'singly' ? passing + 1 : 0;
      const underWay = step !== 'singly' || passing <= 12;
      const stored = underWay ? (tick % 6 === 0 ? 300 : 0) : 1;
      step = trial.tick(stored, true, 6, underWay);
      steps.push(step);
    }
    expect(steps).toContain('singly');
    expect(steps).not.toContain('leave');
  });
});
