import { followStream } from '../stream/stream-follower.js';
import type { StreamSource } from './stored-reader.js';

/** Subjects of the stream, and those of them that are looked for. */
interface Where {
  readonly filter: string;
  isOwn(subject: string): boolean;
}

/** Sequences after the first and up to the second one, no more than `most` of them. */
interface Range {
  readonly after: number;
  readonly floor: number;
  readonly most: number;
}

interface Look {
  readonly isWanted: () => boolean;
  run(source: StreamSource): Promise<void>;
  giveUp(): void;
}

/** NATS makes and drops a consumer for each look. */
const maxUnderWay = 4;
const retryMs = 500;

/** Finds messages that are older than the index: by a consumer of its own for a moment, few at a time. */
export function openOlderMessages({ inboxPrefix }: { readonly inboxPrefix: string }) {
  const looks: Look[] = [];
  let underWay = 0;
  let source: StreamSource | undefined;
  let ended = new AbortController();

  function pump(): void {
    while (source !== undefined && underWay < maxUnderWay) {
      const look = looks.shift();
      if (look === undefined) return;
      if (!look.isWanted()) {
        look.giveUp();
        continue;
      }
      underWay += 1;
      look.run(source).then(
        () => {
          underWay -= 1;
          pump();
        },
        () => {
          // Behind the others, which need not wait for it.
          underWay -= 1;
          looks.push(look);
          setTimeout(pump, retryMs).unref();
        },
      );
    }
  }

  async function findOnce(
    { connection, manager, stream }: StreamSource,
    { filter, isOwn }: Where,
    { after, floor, most }: Range,
  ): Promise<number[]> {
    const found: number[] = [];
    const enough = new AbortController();
    const why = await followStream(connection, manager, {
      stream: stream.name,
      filter,
      from: after + 1,
      upTo: floor,
      headersOnly: true,
      inboxPrefix,
      signal: AbortSignal.any([enough.signal, ended.signal]),
      onMessage({ sequence, subject }) {
        if (sequence <= floor && found.length < most && isOwn(subject)) found.push(sequence);
        if (sequence >= floor || found.length === most) enough.abort();
      },
      onCaughtUp: () => enough.abort(),
    });
    if (why !== 'told' || ended.signal.aborted) throw new Error(`the look-up came to no end: ${why}`);
    return found;
  }

  return {
    /** The sequences of the next messages. It waits while NATS is away. */
    find: (where: Where, range: Range, isWanted: () => boolean): Promise<number[]> =>
      new Promise((resolve) => {
        looks.push({
          isWanted,
          run: async (from) => resolve(await findOnce(from, where, range)),
          giveUp: () => resolve([]),
        });
        pump();
      }),
    connected(from: StreamSource): void {
      ended.abort();
      ended = new AbortController();
      source = from;
      pump();
    },
    disconnected(): void {
      ended.abort();
      source = undefined;
    },
  };
}
