import { setTimeout as delay } from 'node:timers/promises';
import { askTogether } from '../stored/ask-together.js';

const askAgainMs = 100;
const lookEveryMs = 20;
/** What is not read by then may not be there any more. */
const missedAfterMs = 250;

/**
 * Tells a reader of a stream when it has read all that the stream had at a moment, as a follower of Raft does with its read index:
 * the leader is asked how far the stream is, and the reader comes as far.
 *
 * @param end asks the leader; throws when it does not say in time.
 */
export function createReadIndex(end: {
  /** The last sequence that was given, whether the message is still there or not. */
  lastSequence(): Promise<number>;
  /** The last message that is there; 0: none is. */
  lastMessage(): Promise<number>;
}) {
  let position = 0;
  const askLast = askTogether(() => end.lastSequence());

  async function readTo(last: number, endMs: number): Promise<void> {
    let lookAtMs = performance.now() + missedAfterMs;
    while (position < last && performance.now() < endMs) {
      await pause(lookEveryMs);
      if (position >= last || performance.now() < lookAtMs) continue;
      lookAtMs = performance.now() + missedAfterMs;
      if ((await end.lastMessage()) <= position) position = Math.max(position, last);
    }
  }

  return {
    /** The reader has come so far. */
    reach(sequence: number): void {
      position = Math.max(position, sequence);
    },
    /** It is another stream. */
    beginAnew(): void {
      position = 0;
    },
    /** Resolves when all that the stream has now was read; after `timeoutMs`, and the leader's time to answer, at the latest. Never rejects. */
    async upToDate(timeoutMs: number): Promise<void> {
      const endMs = performance.now() + timeoutMs;
      while (performance.now() < endMs) {
        try {
          await readTo(await askLast(), endMs);
          return;
        } catch {
          await pause(askAgainMs);
        }
      }
    },
  };
}

const pause = (ms: number): Promise<void> => delay(ms, undefined, { ref: false });
