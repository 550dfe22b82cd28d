import { coversLevels } from '../protocol/topics.js';
import type { Message } from './message.js';

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
  /** The messages that any of the filters matches, each with the filters that do. */
  find(filters: readonly string[]): { message: Message; filters: string[] }[];
}

interface Entry {
  readonly message: Message;
  readonly levels: readonly string[];
}

export function createRetainedMessages(limits: RetainedLimits): RetainedMessages {
  const entries = new Map<string, Entry>();
  let bytes = 0;

  return {
    store(message) {
      const before = entries.get(message.topic);
      if (before !== undefined) {
        entries.delete(message.topic);
        bytes -= sizeOf(before.message);
      }
      if (message.payload.length === 0) return true;
      if (entries.size >= limits.maxMessages || bytes + sizeOf(message) > limits.maxBytes) return false;
      entries.set(message.topic, { message, levels: message.topic.split('/') });
      bytes += sizeOf(message);
      return true;
    },

    find(filters) {
      const wild = filters
        .filter((filter) => /[+#]/.test(filter))
        .map((filter) => ({ filter, levels: filter.split('/') }));
      const found = new Map<Message, string[]>();
      for (const filter of filters) {
        const exact = entries.get(filter);
        if (exact !== undefined) found.set(exact.message, [filter]);
      }
      if (wild.length > 0) {
        for (const { message, levels } of entries.values()) {
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

function sizeOf(message: Message): number {
  return message.topic.length + message.payload.length;
}
