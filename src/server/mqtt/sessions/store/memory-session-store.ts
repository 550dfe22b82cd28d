import { keyPrefix } from './session-key.js';
import type { SessionRecord } from './session-record.js';
import type { SessionStore } from './session-store.js';

interface Entry {
  readonly record: SessionRecord;
  readonly revision: number;
  readonly writeId: string;
  /** `performance.now()`. */
  readonly expiresAtMs: number;
}

/**
 * Sessions in the memory of this replica: they end with it.
 *
 * @param detail why they are not elsewhere, for people.
 */
export function openMemorySessionStore(detail: string): SessionStore {
  const entries = new Map<string, Entry>();
  let revisions = 0;
  let writes = 0;

  function find(key: string): Entry | undefined {
    const entry = entries.get(key);
    return entry !== undefined && entry.expiresAtMs > performance.now() ? entry : undefined;
  }

  return {
    durable: false,
    owner: 'self',
    detail,
    caughtUp: true,
    reachable: true,
    listener: undefined,
    get size() {
      return entries.size;
    },
    has: (key) => find(key) !== undefined,
    // They take messages as they come: there is no stream for them.
    wants: () => false,
    keys: () => entries.keys(),
    owned: () => new Map(),
    async keysOf(deviceId) {
      const prefix = keyPrefix(deviceId);
      return [...entries]
        .filter(([key]) => key.startsWith(prefix))
        .sort(([, one], [, other]) => one.revision - other.revision)
        .map(([key]) => key);
    },
    async load(key) {
      const entry = find(key);
      return entry === undefined ? undefined : { ...entry, epoch: entry.record.epoch };
    },
    async write(key, record, expected, writeId) {
      const entry = entries.get(key);
      if (entry?.writeId === writeId) return entry.revision;
      const hasExpired = entry !== undefined && entry.expiresAtMs <= performance.now();
      if (!hasExpired && (entry?.revision ?? 0) !== expected) return undefined;
      revisions += 1;
      const livesMs = record.owner === undefined ? record.expirySec * 1_000 : Number.POSITIVE_INFINITY;
      entries.set(key, { record, revision: revisions, writeId, expiresAtMs: performance.now() + livesMs });
      return revisions;
    },
    async remove(key, expected) {
      const entry = find(key);
      if (entry !== undefined && expected !== undefined && entry.revision !== expected) return false;
      entries.delete(key);
      return true;
    },
    nextWriteId: () => String(++writes),
    close() {},
  };
}
