import type { FromWorker, ToWorker } from './messages.js';

/** Longest that the others wait for a worker's answer; one that is later is left out. */
const answerTimeoutMs = 2_000;

interface Asked {
  readonly answers: unknown[];
  /** Workers whose answers are awaited. */
  readonly from: Set<number>;
  finish(): void;
}

/** Passes on, in the primary, what workers ask each other. */
export interface Relay {
  /** Asks all other workers and sends who asks the answers that come in time. */
  ask(asker: number, question: FromWorker & { type: 'question' }): void;
  take(from: number, answer: FromWorker & { type: 'answer' }): void;
  /** A worker has ended, and answers nothing more. */
  leave(worker: number): void;
}

/**
 * Opens the relay.
 *
 * @param options.others the workers that can be asked, without the one given.
 */
export function openRelay(options: {
  others(asker: number): number[];
  send(worker: number, message: ToWorker): void;
}): Relay {
  const underWay = new Map<number, Asked>();
  let lastId = 0;

  function settle(asked: Asked, worker: number): void {
    if (asked.from.delete(worker) && asked.from.size === 0) asked.finish();
  }

  return {
    ask(asker, { id: askerId, name, asked }) {
      lastId += 1;
      const id = lastId;
      const answers: unknown[] = [];
      const finish = () => {
        clearTimeout(timer);
        underWay.delete(id);
        options.send(asker, { type: 'answers', id: askerId, answers });
      };
      const timer = setTimeout(finish, answerTimeoutMs);
      const from = new Set(options.others(asker));
      if (from.size === 0) return finish();
      underWay.set(id, { answers, from, finish });
      for (const worker of from) options.send(worker, { type: 'question', id, name, asked });
    },
    take(from, { id, answer }) {
      const asked = underWay.get(id);
      if (asked?.from.has(from) !== true) return;
      asked.answers.push(answer);
      settle(asked, from);
    },
    leave(worker) {
      for (const asked of [...underWay.values()]) settle(asked, worker);
    },
  };
}
