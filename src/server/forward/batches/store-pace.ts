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
export function openStorePace() {
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
    /** Milliseconds that the stream takes for a message, without the way there and back; undefined while unknown. */
    get messageMs() {
      return messageMs;
    },
    /** Messages that may be under way. */
    get window() {
      return window;
    },
    /** No round is under way. */
    get idle() {
      return token === -1;
    },
    /**
     * Begins a round, unless too little is under way to tell anything.
     *
     * @param underWay messages that are sent and not answered, with this one.
     */
    begin(first: number, underWay: number): void {
      if (underWay < Math.min(firstWindow, window)) return;
      token = first;
      messages = underWay;
      beganAtMs = performance.now();
    },
    /** A message was answered. Answers whether that ended a round. */
    noteAnswer(answered: number): boolean {
      if (answered !== token) return false;
      learn(performance.now() - beganAtMs);
      return true;
    },
    /** What is under way is lost, or something else was, so that its time says nothing. */
    abandon(): void {
      token = -1;
    },
    /** The stream answers nothing for long: one message at a time, until that tells how long it takes now. */
    slow(): void {
      token = -1;
      recent = [];
      messageMs = undefined;
      window = 1;
    },
    /** How long the way to the server and back takes, milliseconds. */
    setWay(tookMs: number): void {
      wayMs = tookMs;
    },
    /** Nothing is known of the stream any more. */
    restart(): void {
      token = -1;
      messageMs = undefined;
      recent = [];
      window = firstWindow;
    },
    /** @param timeoutMs a round that is not over by then tells how slow the stream is at least. */
    tick(nowMs: number, timeoutMs: number): void {
      if (token !== -1 && nowMs - beganAtMs >= Math.min(timeoutMs, longestRoundMs)) learn(nowMs - beganAtMs);
    },
  });
}
