import { withFastGetters } from '../../fast-getters.js';

/** Messages under way while nothing is known of the stream; a round of so many tells something of it. */
const firstWindow = 16;
/** A round that is not over by then says enough: the stream is slow. */
const longestRoundMs = 1_000;
/** All of so many rounds count together: a server may hold answers back for a moment and then give many at once. */
const rounds = 8;
/** So much work of the stream is under way: enough that it never waits for more, too little to be late. */
const aheadMs = 100;

/**
 * How long a stream takes for a message, measured while messages go: in rounds, from the moment at which a message is sent to
 * its answer. A stream answers in order, so in a round it has stored all that was under way when the round began.
 *
 * A stream that is slow is given less at a time: what is sent to one that stores five a second would else be taken for lost
 * before it comes to it, and be sent again.
 */
export interface StorePace {
  /** Milliseconds that the stream takes for a message, without the way there and back; undefined while unknown. */
  readonly messageMs: number | undefined;
  /** Messages that may be under way. */
  readonly window: number;
  /** No round is under way. */
  readonly idle: boolean;
  /**
   * Begins a round, unless too little is under way to tell anything.
   *
   * @param underWay messages that are sent and not answered, with this one.
   */
  begin(token: number, underWay: number): void;
  /** A message was answered. Answers whether that ended a round. */
  noteAnswer(token: number): boolean;
  /** What is under way is lost, or something else was, so that its time says nothing. */
  abandon(): void;
  /** The stream answers nothing for long: one message at a time, until that tells how long it takes now. */
  slow(): void;
  /** How long the way to the server and back takes, milliseconds. */
  setWay(tookMs: number): void;
  /** Nothing is known of the stream any more. */
  restart(): void;
  /** @param timeoutMs a round that is not over by then tells how slow the stream is at least. */
  tick(nowMs: number, timeoutMs: number): void;
}

export function openStorePace(): StorePace {
  let token = -1;
  let messages = 0;
  let beganAtMs = 0;
  let recent: { tookMs: number; messages: number }[] = [];
  let messageMs: number | undefined;
  let wayMs = 0;
  let window = firstWindow;

  function learn(tookMs: number): void {
    token = -1;
    recent = [...recent.slice(1 - rounds), { tookMs, messages }];
    let busyMs = 0;
    let stored = 0;
    for (const round of recent) {
      busyMs += Math.max(round.tookMs - wayMs, 0.01);
      stored += round.messages;
    }
    messageMs = busyMs / stored;
    window = Math.max(1, Math.floor((aheadMs + wayMs) / messageMs));
  }

  return withFastGetters({
    get messageMs() {
      return messageMs;
    },
    get window() {
      return window;
    },
    get idle() {
      return token === -1;
    },
    begin(first, underWay) {
      if (underWay < Math.min(firstWindow, window)) return;
      token = first;
      messages = underWay;
      beganAtMs = performance.now();
    },
    noteAnswer(answered) {
      if (answered !== token) return false;
      learn(performance.now() - beganAtMs);
      return true;
    },
    abandon() {
      token = -1;
    },
    slow() {
      token = -1;
      recent = [];
      messageMs = undefined;
      window = 1;
    },
    setWay(tookMs) {
      wayMs = tookMs;
    },
    restart() {
      token = -1;
      messageMs = undefined;
      recent = [];
      window = firstWindow;
    },
    tick(nowMs, timeoutMs) {
      if (token !== -1 && nowMs - beganAtMs >= Math.min(timeoutMs, longestRoundMs)) learn(nowMs - beganAtMs);
    },
  });
}
