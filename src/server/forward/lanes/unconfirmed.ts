import { withFastGetters } from '../../fast-getters.js';
import type { ForwarderCounters, UplinkMessage } from '../forwarder.js';
import type { PlainOutlet } from '../outlet.js';

/**
 * What may lie between the sender and the stream. A stream of nats-server 2.11 and later takes in at most 10,000
 * messages at a time and silently drops what comes beyond, so PINGs, which the server answers before that
 * queue, would not do to pace them.
 */
const windowMessages = 1_024;
const windowBytes = 4 * 1024 * 1024;
/** So often in a window an answer is asked for. */
const groupsPerWindow = 4;
/** Waited for so long, then senders are let go and their messages dropped. */
const stuckAfterMs = 1_000;
/** A mark beyond this begins again at 1; tokens of confirmed messages are larger. */
const lastMark = 1_000_000;

export type Unconfirmed = ReturnType<typeof openUnconfirmed>;

interface Group {
  readonly mark: number;
  readonly messages: number;
  readonly bytes: number;
}

/** Messages that are sent once, in groups of which the last is marked and answered. */
export function openUnconfirmed(options: {
  outlet: PlainOutlet;
  counters: ForwarderCounters;
  maxBytes: number;
  /** Groups not answered for so long are given up, and sending is tried anew. */
  answerTimeoutMs: number;
  onRoom(): void;
}) {
  const { outlet, counters } = options;
  const maxBytes = Math.min(windowBytes, options.maxBytes);
  let groups: Group[] = [];
  let mark = 0;
  let messages = 0;
  let bytes = 0;
  let windowUsed = 0;
  let windowUsedBytes = 0;
  let nowMs = performance.now();
  let progressAtMs = nowMs;
  let stuck = false;

  function send(message: UplinkMessage): void {
    if (!outlet.open || stuck) {
      counters.dropped += 1;
      return;
    }
    const size = message.payload.length + message.headers.length + message.subject.length;
    const ends =
      messages + 1 >= windowMessages / groupsPerWindow || bytes + size >= maxBytes / groupsPerWindow;
    try {
      outlet.sendPlain(message, ends ? nextMark() : 0);
    } catch {
      // The connection ended in this turn, or the message is larger than this server takes.
      counters.dropped += 1;
      return;
    }
    counters.sent += 1;
    messages += 1;
    bytes += size;
    windowUsed += 1;
    windowUsedBytes += size;
    if (ends) endGroup();
  }

  function nextMark(): number {
    mark = mark >= lastMark ? 1 : mark + 1;
    return mark;
  }

  function endGroup(): void {
    if (groups.length === 0) progressAtMs = nowMs;
    groups.push({ mark, messages, bytes });
    messages = 0;
    bytes = 0;
  }

  /** @param taken false when NATS refused the marked message, and so, as far as can be told, its group. */
  function settleMark(settled: number, taken: boolean): void {
    const index = groups.findIndex((group) => group.mark === settled);
    if (index < 0) return;
    for (const group of groups.splice(0, index + 1)) {
      windowUsed -= group.messages;
      windowUsedBytes -= group.bytes;
      if (taken) continue;
      counters.sent -= group.messages;
      counters.dropped += group.messages;
    }
    progressAtMs = nowMs;
    stuck = false;
    options.onRoom();
  }

  /** The connection is gone. */
  function reset(): void {
    groups = [];
    messages = 0;
    bytes = 0;
    windowUsed = 0;
    windowUsedBytes = 0;
    stuck = false;
    options.onRoom();
  }

  return withFastGetters({
    /** The window is used up while NATS makes progress: slow the senders down. */
    get full() {
      return outlet.open && !stuck && (windowUsed >= windowMessages || windowUsedBytes >= maxBytes);
    },
    send,
    settleMark,
    reset,
    tick(now: number): void {
      nowMs = now;
      const last = groups.at(-1);
      if (last === undefined) return;
      const waitedMs = nowMs - progressAtMs;
      if (waitedMs >= options.answerTimeoutMs) {
        settleMark(last.mark, false);
      } else if (waitedMs >= stuckAfterMs && !stuck) {
        stuck = true;
        options.onRoom();
      }
    },
  });
}
