/**
 * Opens a queue between a sender that cannot wait and one reader that takes its time. It holds at most so many items and
 * bytes; a first item always fits.
 */
export function openBoundedQueue<T>(limits: { maxItems: number; maxBytes: number }) {
  const items: { item: T; bytes: number }[] = [];
  // Taking from the front moves `head`; the array is cut when half of it has been taken.
  let head = 0;
  let queuedBytes = 0;
  let ended: { readonly error: unknown } | undefined;
  let wake = () => {};
  return {
    /** Adds an item of so many bytes; answers false, and forgets the item, when the queue is full. */
    push(item: T, bytes: number): boolean {
      if (ended !== undefined) return true;
      const queued = items.length - head;
      const full = queued >= limits.maxItems || queuedBytes + bytes > limits.maxBytes;
      if (full && queued > 0) return false;
      items.push({ item, bytes });
      queuedBytes += bytes;
      wake();
      return true;
    },
    /** Ends the iteration at once and forgets what is queued; with an error, the iteration throws it. Idempotent. */
    end(error?: unknown): void {
      ended ??= { error };
      items.length = 0;
      wake();
    },
    async *[Symbol.asyncIterator](): AsyncGenerator<T> {
      for (;;) {
        if (ended?.error !== undefined) throw ended.error;
        if (ended !== undefined) return;
        const next = items[head];
        if (next === undefined) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
          continue;
        }
        head += 1;
        queuedBytes -= next.bytes;
        if (head * 2 >= items.length) {
          items.splice(0, head);
          head = 0;
        }
        yield next.item;
      }
    },
  };
}
