import type { StoreStandstill } from '../forward/embedded/store-space.js';
import type { FromWorker, ToWorker, WorkerBeginning } from './messages.js';

/** What a worker knows of the others, and of the process that started all of them. */
export type Peers = ReturnType<typeof openPeers>['peers'];

/** The primary does not answer later than this, unless it is about to end. */
const patienceMs = 5_000;

/** Opens a worker's end of the channel to the others. */
export function openPeers(
  { number, embeddedNatsPort }: WorkerBeginning,
  send: (message: FromWorker) => void,
) {
  const waiting = new Map<number, (texts: readonly string[]) => void>();
  let lastId = 0;
  let readyCount = 0;
  let readMetrics: (() => Promise<string>) | undefined;

  async function reply(id: number): Promise<void> {
    // Without an answer the relay's time passes; what failed here is told by whoever asks this worker itself.
    const text = await readMetrics?.();
    if (text !== undefined) send({ type: 'metrics', id, text });
  }

  return {
    peers: {
      /** Which worker this is, from 1. */
      number,
      /** The port of the NATS server that the primary runs or has found; undefined with NATS_URL. */
      embeddedNatsPort,
      /** How many workers take devices now. */
      readyCount: () => readyCount,
      /** The metrics of those of the other workers that answer in time. */
      async askMetrics(): Promise<readonly string[]> {
        lastId += 1;
        const id = lastId;
        const given = await new Promise<readonly string[]>((resolve) => {
          const timer = setTimeout(() => resolve([]), patienceMs);
          waiting.set(id, (each) => {
            clearTimeout(timer);
            resolve(each);
          });
          send({ type: 'ask-metrics', id });
        });
        waiting.delete(id);
        return given;
      },
      /** What the others are answered from now on. */
      answerMetrics(read: () => Promise<string>): void {
        readMetrics = read;
      },
      /** The embedded NATS server stores nothing. */
      tellNeedsRoom: (standstill: StoreStandstill): void => send({ type: 'needs-room', standstill }),
    },
    take(message: ToWorker): void {
      if (message.type === 'ready-count') readyCount = message.count;
      else if (message.type === 'all-metrics') waiting.get(message.id)?.(message.texts);
      else if (message.type === 'ask-metrics') void reply(message.id).catch(() => undefined);
    },
  };
}
