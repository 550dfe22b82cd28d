import type { JetStreamManager, NatsConnection } from '../connection/nats-library.js';
import { followStream } from '../stream/stream-follower.js';

/** Finds the commands of a device that are older than the index: by a consumer of its own for a moment, few at a time. */
export interface OlderCommands {
  /** Sequences of the device's next commands after `after` and up to `floor`. It waits while NATS is away. */
  find(
    device: string,
    after: number,
    floor: number,
    most: number,
    isWanted: () => boolean,
  ): Promise<number[]>;
  connected(connection: NatsConnection, manager: JetStreamManager, stream: string): void;
  disconnected(): void;
}

interface Look {
  readonly isWanted: () => boolean;
  run(source: Source): Promise<void>;
  giveUp(): void;
}

interface Source {
  readonly connection: NatsConnection;
  readonly manager: JetStreamManager;
  readonly stream: string;
}

/** NATS makes and drops a consumer for each look. */
const maxUnderWay = 4;
const retryMs = 500;

export function openOlderCommands({ inboxPrefix }: { readonly inboxPrefix: string }): OlderCommands {
  let looks: Look[] = [];
  let underWay = 0;
  let source: Source | undefined;
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
      look
        .run(source)
        .catch(() => {
          looks = [look, ...looks];
          setTimeout(pump, retryMs).unref();
        })
        .finally(() => {
          underWay -= 1;
          pump();
        });
    }
  }

  async function findOnce(
    { connection, manager, stream }: Source,
    device: string,
    after: number,
    floor: number,
    most: number,
  ): Promise<number[]> {
    const found: number[] = [];
    const enough = new AbortController();
    const why = await followStream(connection, manager, {
      stream,
      filter: `cmd.${device}.>`,
      from: after + 1,
      headersOnly: true,
      inboxPrefix,
      signal: AbortSignal.any([enough.signal, ended.signal]),
      onMessage({ sequence }) {
        if (sequence <= floor && found.length < most) found.push(sequence);
        if (sequence >= floor || found.length === most) enough.abort();
      },
      onCaughtUp: () => enough.abort(),
    });
    if (why !== 'told' || ended.signal.aborted) throw new Error(`the look-up came to no end: ${why}`);
    return found;
  }

  return {
    find: (device, after, floor, most, isWanted) =>
      new Promise((resolve) => {
        looks.push({
          isWanted,
          run: async (from) => resolve(await findOnce(from, device, after, floor, most)),
          giveUp: () => resolve([]),
        });
        pump();
      }),
    connected(connection, manager, stream) {
      ended.abort();
      ended = new AbortController();
      source = { connection, manager, stream };
      pump();
    },
    disconnected() {
      ended.abort();
      source = undefined;
    },
  };
}
