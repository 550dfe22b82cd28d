import type { StoreStandstill } from '../forward/embedded/store-space.js';
import type { FromWorker, QuestionName, Questions, ToWorker, WorkerBeginning } from './messages.js';

/** What a worker knows of the others, and of the process that started all of them. */
export interface Peers {
  /** Which worker this is, from 1. */
  readonly number: number;
  /** The port of the NATS server that the primary runs or has found; undefined with NATS_URL. */
  readonly embeddedNatsPort: number | undefined;
  /** How many workers take devices now. */
  readyCount(): number;
  /** Asks the other workers; answers what those say that answer in time. */
  ask<N extends QuestionName>(name: N, asked: Questions[N]['asked']): Promise<Questions[N]['answer'][]>;
  /** What the others are answered from now on. */
  answer(answers: Answers): void;
  /** The embedded NATS server stores nothing. */
  tellNeedsRoom(standstill: StoreStandstill): void;
}

export type Answers = {
  readonly [N in QuestionName]: (
    asked: Questions[N]['asked'],
  ) => Promise<Questions[N]['answer']> | Questions[N]['answer'];
};

/** The primary does not answer later than this, unless it is about to end. */
const patienceMs = 5_000;

/** Opens a worker's end of the channel to the others. */
export function openPeers(
  { number, embeddedNatsPort }: WorkerBeginning,
  send: (message: FromWorker) => void,
): { readonly peers: Peers; take(message: ToWorker): void } {
  const waiting = new Map<number, (answers: readonly unknown[]) => void>();
  let lastId = 0;
  let readyCount = 0;
  let answers: Answers | undefined;

  async function reply({ id, name, asked }: ToWorker & { type: 'question' }): Promise<void> {
    // Without an answer the relay's time passes; what failed here is told by whoever asks this worker itself.
    const answer = await (answers?.[name] as ((asked: unknown) => unknown) | undefined)?.(asked);
    send({ type: 'answer', id, answer });
  }

  return {
    peers: {
      number,
      embeddedNatsPort,
      readyCount: () => readyCount,
      async ask(name, asked) {
        lastId += 1;
        const id = lastId;
        const given = await new Promise<readonly unknown[]>((resolve) => {
          const timer = setTimeout(() => resolve([]), patienceMs);
          waiting.set(id, (each) => {
            clearTimeout(timer);
            resolve(each);
          });
          send({ type: 'question', id, name, asked });
        });
        waiting.delete(id);
        return given as never[];
      },
      answer(given) {
        answers = given;
      },
      tellNeedsRoom: (standstill) => send({ type: 'needs-room', standstill }),
    },
    take(message) {
      if (message.type === 'ready-count') readyCount = message.count;
      else if (message.type === 'answers') waiting.get(message.id)?.(message.answers);
      else if (message.type === 'question') void reply(message).catch(() => undefined);
    },
  };
}
