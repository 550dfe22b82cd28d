import { messageOf } from '../../../../errors.js';
import { type KvBucket, type KvEntry, type KvNews, ownText } from '../../../forward/state/kv-bucket.js';
import { deviceOfKey, keyPrefix } from './session-key.js';
import { decodeRecord, encodeRecord } from './session-record.js';
import { type SessionStore, type StoredRecord, StoreError } from './session-store.js';
import { createSessionWants, describeWants } from './session-wants.js';

/** Headers of a record, for those who follow without values. */
const ownerHeader = 'Svc-Mqtt-Owner';
const epochHeader = 'Svc-Mqtt-Epoch';
const writeHeader = 'Svc-Mqtt-Write';
const wantsHeader = 'Svc-Mqtt-Wants';

/**
 * Sessions in a bucket of JetStream, a record each. Which ones there are is followed, so that `has` asks nobody.
 *
 * @param options.replica the name of this replica, which no other of the fleet has.
 */
export function openJetStreamSessionStore(options: { bucket: KvBucket; replica: string }): SessionStore {
  const { bucket, replica } = options;
  /** The last revision of each key. */
  let known = new Map<string, number>();
  /** While the bucket is read anew, those that it still has. */
  let fresh: Map<string, number> | undefined;
  /** Of those whose connection another replica has, which. */
  const owners = new Map<string, string>();
  const wants = createSessionWants();
  let writes = 0;
  const writePrefix = `${replica}.`;

  /** While the bucket is read anew, only by what was heard since: NATS may have lost the latest, and have an earlier one again. */
  function isPast(key: string, revision: number): boolean {
    return ((fresh ?? known).get(key) ?? 0) > revision;
  }

  function note(key: string, revision: number): boolean {
    if (isPast(key, revision)) return false;
    known.set(key, revision);
    fresh?.set(key, revision);
    return true;
  }

  function forget(key: string): void {
    known.delete(key);
    fresh?.delete(key);
    owners.delete(key);
    wants.set(key, '');
  }

  function onNews({ key: part, revision, gone: goneOf, header }: KvNews): void {
    // Written here, and noted with the answer.
    if (fresh === undefined && known.get(part) === revision) return;
    const key = ownText(part);
    const isOwn = header(writeHeader).startsWith(writePrefix);
    const gone = goneOf();
    if (gone !== undefined) {
      if (!isPast(key, revision)) forget(key);
      // What expires was away, or is of a connection here, which writes it anew.
      if (!isOwn && gone === 'removed') tell(key, revision, 0, true);
      return;
    }
    const isEarlierAgain = (known.get(key) ?? 0) > revision;
    if (!note(key, revision)) return;
    wants.set(key, ownText(header(wantsHeader)));
    const owner = header(ownerHeader);
    if (isOwn || owner === '') owners.delete(key);
    else owners.set(key, ownText(owner));
    if (!isOwn || isEarlierAgain) tell(key, revision, Number(header(epochHeader)) || 0, false);
  }

  function tell(key: string, revision: number, epoch: number, removed: boolean): void {
    store.listener?.onNews({ key, revision, epoch, removed });
  }

  bucket.follower = {
    onBegin(anew) {
      fresh = new Map();
      if (!anew) return;
      // Its revisions begin anew.
      known = new Map();
      owners.clear();
    },
    onNews,
    onCaughtUp() {
      if (fresh !== undefined) known = fresh;
      fresh = undefined;
      for (const key of owners.keys()) if (!known.has(key)) owners.delete(key);
      wants.keep((key) => known.has(key));
      store.listener?.onCaughtUp();
    },
  };

  async function read(key: string, fromLeader = false): Promise<KvEntry | undefined> {
    return await bucket.get(key, fromLeader).catch(fail);
  }

  const store: SessionStore = {
    durable: true,
    owner: replica,
    detail: 'sessions are in JetStream',
    listener: undefined,
    get caughtUp() {
      return bucket.reachable && bucket.caughtUp;
    },
    get reachable() {
      return bucket.reachable;
    },
    get size() {
      return known.size;
    },
    has: (key) => known.has(key) || fresh?.has(key) === true,
    wants: (topic) => !store.caughtUp || wants.match(topic),
    keys: () => known.keys(),
    owned: () => owners,
    async keysOf(deviceId) {
      const keys = await bucket.keysOf(keyPrefix(deviceId)).catch(fail);
      const revisionOf = (key: string) => known.get(key) ?? 0;
      return keys.filter((key) => known.has(key)).sort((one, other) => revisionOf(one) - revisionOf(other));
    },
    async load(key) {
      let entry = await read(key);
      // The one that answers first may be behind the leader.
      if ((entry?.revision ?? 0) < (known.get(key) ?? 0)) entry = await read(key, true);
      return toStored(entry);
    },
    async write(key, record, expected, writeId) {
      const { owner, epoch, expirySec } = record;
      const wanted = describeWants(deviceOfKey(key), record.subscriptions);
      let headers = `${epochHeader}: ${epoch}\r\n${writeHeader}: ${writeId}\r\n`;
      if (wanted !== '') headers += `${wantsHeader}: ${wanted}\r\n`;
      if (owner !== undefined) headers += `${ownerHeader}: ${owner}\r\n`;
      const expires = owner === undefined && expirySec !== Number.POSITIVE_INFINITY;
      const ttlSec = expires ? Math.max(1, Math.ceil(expirySec)) : undefined;
      const put = (revision: number) =>
        bucket.put(key, encodeRecord(record), { expected: revision, ttlSec, headers }).catch(fail);
      let revision = await put(expected);
      if (revision === undefined) {
        const entry = await read(key, true);
        if (entry?.gone === undefined && entry !== undefined)
          // It was done before, and the answer lost.
          revision = entry.header(writeHeader) === writeId ? entry.revision : undefined;
        else if (entry?.gone !== 'removed' || expected === 0) revision = await put(entry?.revision ?? 0);
      }
      if (revision === undefined) return undefined;
      if (note(key, revision)) {
        owners.delete(key);
        wants.set(key, wanted);
      }
      return revision;
    },
    async remove(key, expected) {
      const headers = `${writeHeader}: ${store.nextWriteId()}\r\n`;
      const revision = await bucket.remove(key, { expected, headers }).catch(fail);
      if (revision === undefined) {
        const entry = await read(key, true);
        if (entry !== undefined && entry.gone === undefined) return false;
      }
      if ((known.get(key) ?? 0) < (revision ?? Number.POSITIVE_INFINITY)) forget(key);
      return true;
    },
    nextWriteId() {
      writes += 1;
      return writePrefix + writes.toString(36);
    },
    close: () => bucket.close(),
  };

  return store;
}

function toStored(entry: KvEntry | undefined): StoredRecord | undefined {
  if (entry === undefined || entry.gone !== undefined) return undefined;
  const { revision, value, header } = entry;
  return {
    revision,
    record: decodeRecord(value),
    epoch: Number(header(epochHeader)) || 0,
    writeId: header(writeHeader),
  };
}

function fail(error: unknown): never {
  throw new StoreError(messageOf(error), (error as { away?: boolean }).away === true);
}
