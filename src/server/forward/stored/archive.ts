import { askTogether } from './ask-together.js';
import { openOlderMessages } from './older-messages.js';
import type {
  RawMessage,
  StoredBatch,
  StoredCounters,
  StoredMessage,
  StreamIndex,
} from './stored-messages.js';
import { openStoredReader, type StreamSource } from './stored-reader.js';

/** What a stream holds, read by sequence: what the index does not know any more is looked up in NATS. */
export function openArchive<K, M extends StoredMessage, I extends StreamIndex<K>>(options: {
  readonly inboxPrefix: string;
  createIndex(): I;
  /** Where the messages of a key are among the subjects of the stream; and which of the subjects there are its own. */
  subjectsOf(key: K): { readonly filter: string; isOwn(subject: string): boolean };
  /** @returns undefined: it cannot be sent to clients. */
  toMessage(found: RawMessage): M | undefined;
  /** Messages were gone that the index knows. */
  onGone?(): void;
}) {
  const reader = openStoredReader(options.toMessage);
  const older = openOlderMessages(options);
  const counters: StoredCounters = { read: 0, gone: 0, lookedUp: 0, catchUpSec: 0 };
  let index = options.createIndex();
  let from: StreamSource | undefined;
  const askLast = askTogether(async () => {
    const info = await from?.manager.streams.info(from.stream.name).catch(() => undefined);
    return info?.state.last_seq;
  });

  const archive = {
    counters,
    get index(): I {
      return index;
    },
    hasAfter: (key: K, sequence: number) => sequence < index.floor || index.countAfter(key, sequence, 1) > 0,
    countAfter(key: K, sequence: number, most: number): number {
      const before = sequence < index.floor ? 1 : 0;
      return before + index.countAfter(key, sequence, most);
    },
    async readAfter(
      key: K,
      sequence: number,
      most: number,
      isWanted: () => boolean,
    ): Promise<StoredBatch<M>> {
      let sequences: number[];
      let upTo: number;
      const { floor } = index;
      if (sequence < floor) {
        counters.lookedUp += 1;
        const where = options.subjectsOf(key);
        sequences = await older.find(where, { after: sequence, floor, most }, isWanted);
        upTo = sequences.length < most ? floor : (sequences.at(-1) ?? floor);
      } else {
        sequences = index.after(key, sequence, most);
        upTo = (sequences.length < most ? index.latest : sequences.at(-1)) ?? sequence;
      }
      const found = await archive.read(sequences, isWanted);
      return { messages: found.filter((message) => message !== undefined), upTo };
    },
    async read(sequences: readonly number[], isWanted: () => boolean): Promise<(M | undefined)[]> {
      const messages = await reader.read(sequences, isWanted);
      counters.read += messages.length;
      const gone = isWanted() ? messages.filter((message) => message === undefined).length : 0;
      counters.gone += gone;
      if (gone > 0) options.onGone?.();
      return messages;
    },
    /** See `StoredMessages.lastSequence`. */
    lastSequence: askLast,
    /** Another stream, or one that has lost messages: nothing is known of it. */
    forget(): void {
      index = options.createIndex();
    },
    connected(source: StreamSource): void {
      from = source;
      reader.connected(source);
      older.connected(source);
    },
    disconnected(): void {
      from = undefined;
      reader.disconnected();
      older.disconnected();
    },
  };
  return archive;
}
