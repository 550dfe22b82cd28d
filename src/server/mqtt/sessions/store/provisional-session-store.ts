import { openMemorySessionStore } from './memory-session-store.js';
import type { SessionStore } from './session-store.js';

/**
 * Sessions in the memory of this replica for as long as the store that outlives it cannot be used: from when all of that
 * is known, there, for good.
 *
 * @param detail why they are in memory for now, for people.
 */
export function openProvisionalSessionStore(lasting: SessionStore, detail: () => string): SessionStore {
  let current = openMemorySessionStore('');

  lasting.listener = {
    onNews(news) {
      if (current === lasting) store.listener?.onNews(news);
    },
    onCaughtUp() {
      if (current !== lasting) {
        current = lasting;
        store.listener?.onDurable?.();
      }
      store.listener?.onCaughtUp();
    },
  };

  const store: SessionStore = {
    owner: lasting.owner,
    get durable() {
      return current.durable;
    },
    get detail() {
      return current === lasting ? lasting.detail : detail();
    },
    // What the lasting one has is not known before.
    get caughtUp() {
      return current === lasting && lasting.caughtUp;
    },
    get reachable() {
      return current.reachable;
    },
    get size() {
      return current.size;
    },
    has: (key) => current.has(key),
    wants: (topic) => current.wants(topic),
    keys: () => current.keys(),
    owned: () => current.owned(),
    keysOf: (deviceId) => current.keysOf(deviceId),
    load: (key) => current.load(key),
    write: (...write) => current.write(...write),
    remove: (key, expected) => current.remove(key, expected),
    nextWriteId: () => lasting.nextWriteId(),
    listener: undefined,
    close: () => lasting.close(),
  };
  return store;
}
