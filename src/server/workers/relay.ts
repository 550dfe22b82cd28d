import type { FromWorker, ToWorker } from './messages.js';

/** Longest that the others wait for a worker's answer; one that is later is left out. */
const answerTimeoutMs = 2_000;

interface Asked {
  readonly texts: string[];
  /** Workers whose answers are awaited. */
  readonly from: Set<number>;
  finish(): void;
}

/**
 * Opens what passes on, in the primary, the metrics that workers ask each other for.
 *
 * @param options.others the workers that can be asked, without the one given.
 */
export function openRelay(options: {
  others(asker: number): number[];
  send(worker: number, message: ToWorker): void;
}) {
  const underWay = new Map<number, Asked>();
  let lastId = 0;

  function settle(asked: Asked, worker: number): void {
    if (asked.from.delete(worker) && asked.from.size === 0) asked.finish();
  }

  return {
    /** Asks all other workers and sends who asks what comes in time. */
    ask(asker: number, askerId: number): void {
      lastId += 1;
      const id = lastId;
      const texts: string[] = [];
      const finish = () => {
        clearTimeout(timer);
        underWay.delete(id);
        options.send(asker, { type: 'all-metrics', id: askerId, texts });
      };
      const timer = setTimeout(finish, answerTimeoutMs);
      const from = new Set(options.others(asker));
      if (from.size === 0) {
        finish();
        return;
      }
      underWay.set(id, { texts, from, finish });
      for (const worker of from) options.send(worker, { type: 'ask-metrics', id });
    },
    take(from: number, { id, text }: FromWorker & { type: 'metrics' }): void {
      const asked = underWay.get(id);
      if (asked?.from.has(from) !== true) return;
      asked.texts.push(text);
      settle(asked, from);
    },
    /** A worker has ended, and answers nothing more. */
    leave(worker: number): void {
      for (const asked of [...underWay.values()]) settle(asked, worker);
    },
  };
}
