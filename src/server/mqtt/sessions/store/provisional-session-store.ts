import { openMemorySessionStore } from './memory-session-store.js';
import type { SessionStore, SessionStoreListener } from './session-store.js';

/**
 * Sessions in the memory of this replica for as long as the store that outlives it cannot be used: from when all of that
 * is known, there, for good.
 *
 * @param detail why they are in memory for now, for people.
 */
export function openProvisionalSessionStore(lasting: SessionStore, detail: () => string): SessionStore {
  let current = openMemorySessionStore('');
  let listener: SessionStoreListener | undefined;

  lasting.listener = {
    onNews(news) {
      if (current === lasting) listener?.onNews(news);
    },
    onCaughtUp() {
      if (current !== lasting) {
        current = lasting;
        listener?.onDurable?.();
      }
      listener?.onCaughtUp();
    },
  };

  return {
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
    get listener() {
      return listener;
    },
    set listener(given) {
      listener = given;
    },
    close: () => lasting.close(),
  };
}
