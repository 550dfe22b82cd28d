import { coversLevels } from '../protocol/topics.js';
import { bytesOf, isExpired, type Message } from './message.js';

export interface RetainedLimits {
  readonly maxMessages: number;
  readonly maxBytes: number;
}

/** The retained messages of this replica, one for each topic, bounded. */
export interface RetainedMessages {
  /**
   * Keeps a message in place of the one before; without payload, only removes that [MQTT-3.3.1-10].
   *
   * @returns false when a bound is reached and it is not kept.
   */
  store(message: Message): boolean;
  /** The messages that any of the filters matches, each with the filters that do; none that has expired. */
  find(filters: readonly string[]): { message: Message; filters: string[] }[];
}

interface Entry {
  readonly message: Message;
  readonly levels: readonly string[];
}

/** All of them are looked at once in this time at most, so that many that expire one after the other cost little. */
const lookEveryMs = 1_000;

export function createRetainedMessages(limits: RetainedLimits): RetainedMessages {
  const entries = new Map<string, Entry>();
  let bytes = 0;

  /** None of them expires earlier. */
  let earliestExpiryMs = Number.POSITIVE_INFINITY;
  let lookedAtMs = 0;

  function forget(message: Message): void {
    entries.delete(message.topic);
    bytes -= bytesOf(message);
  }

  function forgetExpired(): void {
    const nowMs = Date.now();
    if (nowMs < earliestExpiryMs || Math.abs(nowMs - lookedAtMs) < lookEveryMs) return;
    lookedAtMs = nowMs;
    earliestExpiryMs = Number.POSITIVE_INFINITY;
    for (const { message } of entries.values()) {
      if (isExpired(message)) forget(message);
      else noteExpiry(message);
    }
  }

  function noteExpiry({ expiresAtMs = Number.POSITIVE_INFINITY }: Message): void {
    earliestExpiryMs = Math.min(earliestExpiryMs, expiresAtMs);
  }

  return {
    store(message) {
      forgetExpired();
      const before = entries.get(message.topic);
      if (before !== undefined) forget(before.message);
      if (message.payload.length === 0) return true;
      if (entries.size >= limits.maxMessages || bytes + bytesOf(message) > limits.maxBytes) return false;
      entries.set(message.topic, { message, levels: message.topic.split('/') });
      bytes += bytesOf(message);
      noteExpiry(message);
      return true;
    },

    find(filters) {
      forgetExpired();
      const wild = filters
        .filter((filter) => /[+#]/.test(filter))
        .map((filter) => ({ filter, levels: filter.split('/') }));
      const found = new Map<Message, string[]>();
      for (const filter of filters) {
        const exact = entries.get(filter);
        if (exact !== undefined && !isExpired(exact.message)) found.set(exact.message, [filter]);
      }
      if (wild.length > 0) {
        for (const { message, levels } of entries.values()) {
          if (isExpired(message)) continue;
          const matching = wild
            .filter((pattern) => coversLevels(pattern.levels, levels))
            .map(({ filter }) => filter);
          if (matching.length > 0) found.set(message, [...(found.get(message) ?? []), ...matching]);
        }
      }
      return [...found].map(([message, by]) => ({ message, filters: by }));
    },
  };
}
