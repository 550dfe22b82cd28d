import { withFastGetters } from '../../fast-getters.js';
import { openBatchTrial, type TrialStep } from './batch-trial.js';
import { openStorePace } from './store-pace.js';

/** What a batch is taken to cost before one was sent. */
const assumedCommitMs = 20;
/** Batches are used where fewer messages than this cost as much as one. */
const mostWorth = 500;
/** Where batches do not pay, they are tried again after so long. */
const leftForMs = 300_000;
/** With so many waiting or under way, the stream is loaded. */
const loadedFrom = 16;
/** How often `tick` is called. */
const tickMs = 100;
const firstPauseMs = 100;
const lastPauseMs = 10_000;

/**
 * Whether a batch is cheaper for the stream than its messages by themselves, and how many of these may be under way: measured while
 * messages go.
 *
 * @param always whatever waits goes in batches: nothing is compared.
 */
export function openBatchWorth(always: boolean) {
  const pace = openStorePace();
  const trial = openBatchTrial();
  let allowed = false;
  let gathering = false;
  let window = pace.window;
  /** What a batch costs the stream, milliseconds, as far as it is known. */
  let commitMs: number | undefined;
  let committedAtMs = 0;
  let step: TrialStep = 'batches';
  let leftUntilMs = 0;
  /** Messages answered since the last tick. */
  let answered = 0;
  let pauseMs = 0;
  let pausedUntilMs = 0;
  let lateNow = false;
  let late = false;

  /** So many messages cost as much as a batch. */
  function worth(): number {
    if (always) return 1;
    if (pace.messageMs === undefined) return Number.POSITIVE_INFINITY;
    return Math.max(1, (commitMs ?? assumedCommitMs) / pace.messageMs);
  }

  function weigh(): void {
    const least = worth();
    const nowMs = performance.now();
    gathering =
      !late &&
      allowed &&
      step === 'batches' &&
      least < mostWorth &&
      nowMs >= pausedUntilMs &&
      nowMs >= leftUntilMs;
    window = gathering ? Math.min(Math.ceil(least), pace.window) : pace.window;
  }

  /** Whether batches still pay, once they are used. */
  function judge(nowMs: number, present: number, underWay: boolean): void {
    const stored = answered;
    answered = 0;
    if (commitMs === undefined || always) return;
    step = trial.tick(stored, present >= loadedFrom, Math.ceil(commitMs / tickMs), underWay);
    if (step !== 'leave') return;
    step = 'batches';
    commitMs = undefined;
    trial.restart();
    leftUntilMs = nowMs + leftForMs;
  }

  return withFastGetters({
    /** The stream takes batches. */
    get allowed() {
      return allowed;
    },
    /** What waits goes in batches now. */
    get gathering() {
      return gathering;
    },
    /** Messages were not answered in time since the tick before. */
    get late() {
      return late;
    },
    /** Messages that may be under way by themselves. */
    get window() {
      return window;
    },
    /** Whether a batch of so many is cheaper. */
    pays: (messages: number) => gathering && messages > 1 && messages > worth(),
    /** A message was sent by itself. @param underWay messages by themselves that are sent and not answered, with this one. */
    noteSingle(token: number, underWay: number): void {
      if (pace.idle) pace.begin(token, underWay);
    },
    /** A message that went by itself was answered. */
    noteAnswer(token: number): void {
      answered += 1;
      if (pace.noteAnswer(token)) weigh();
    },
    /** Messages are not answered in time. */
    noteLate(): void {
      lateNow = true;
    },
    /** A batch is sent, or everything under way is lost: what is being measured says nothing. */
    abandon: pace.abandon,
    noteStored(messages: number, sentAtMs: number): void {
      const nowMs = performance.now();
      const tookMs = nowMs - Math.max(sentAtMs, committedAtMs);
      commitMs = commitMs === undefined ? tookMs : commitMs + 0.2 * (tookMs - commitMs);
      committedAtMs = nowMs;
      pauseMs = 0;
      answered += messages;
      weigh();
    },
    /** @param forGood the stream takes no batches. */
    noteRefused(forGood: boolean): void {
      pauseMs = Math.min(Math.max(2 * pauseMs, firstPauseMs), lastPauseMs);
      pausedUntilMs = performance.now() + pauseMs;
      if (forGood) allowed = false;
      weigh();
    },
    /** How long the way to the server and back takes, milliseconds. */
    setWay: pace.setWay,
    /** Nothing is known of the stream. */
    restart(takesBatches: boolean): void {
      allowed = takesBatches;
      pace.restart();
      commitMs = undefined;
      trial.restart();
      step = 'batches';
      leftUntilMs = 0;
      pausedUntilMs = 0;
      weigh();
    },
    /**
     * @param timeoutMs what is not answered by then tells how slow the stream is at least.
     * @param present messages that wait or are under way.
     * @param underWay batches are under way.
     */
    tick(nowMs: number, timeoutMs: number, present: number, underWay: boolean): void {
      judge(nowMs, present, underWay);
      pace.tick(nowMs, timeoutMs);
      if (lateNow && !late) pace.slow();
      late = lateNow;
      lateNow = false;
      weigh();
    },
  });
}
