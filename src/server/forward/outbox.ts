import type { UplinkMessage } from './forwarder.js';

/** Messages collected before they are sent without waiting for the end of the turn. */
const maxCollected = 1_024;

/**
 * What is to be sent in this turn of the event loop, by all lanes. Each socket that is read gives its messages in a
 * callback of its own, and the library would write after each; collected until all were read they leave in one write,
 * which is a third of the cost when many clients send a message each.
 */
export interface Outbox {
  /** @param number token or mark; `confirm` of the message tells which. */
  add(message: UplinkMessage, number: number): void;
  /** Sends what there is. */
  flush(): void;
  /** Forgets what there is: the connection is gone. */
  clear(): void;
}

/** @param send may throw when the connection has ended. */
export function openOutbox(send: (message: UplinkMessage, number: number) => void): Outbox {
  let messages: UplinkMessage[] = [];
  let numbers: number[] = [];
  let scheduled = false;

  function clear(): void {
    messages = [];
    numbers = [];
  }

  function flush(): void {
    const batch = messages;
    const batchNumbers = numbers;
    clear();
    let index = 0;
    for (const message of batch) {
      try {
        send(message, batchNumbers[index] ?? 0);
      } catch {
        // The connection has just ended. The link will say so, and then everything unconfirmed is sent again.
      }
      index += 1;
    }
  }

  return {
    add(message, number) {
      messages.push(message);
      numbers.push(number);
      if (messages.length >= maxCollected) {
        flush();
      } else if (!scheduled) {
        scheduled = true;
        setImmediate(() => {
          scheduled = false;
          flush();
        });
      }
    },
    flush,
    clear,
  };
}
