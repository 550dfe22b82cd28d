import { randomBytes } from 'node:crypto';
import type { DeviceMark, SessionRecord } from './session-record.js';
import { type SessionStore, type StoredRecord, StoreError } from './session-store.js';
import type { SessionWriter, Writable } from './session-writer.js';

/** What of a session changes while its client is connected. */
export type SessionState = Pick<
  SessionRecord,
  'subscriptions' | 'cursors' | 'unacked' | 'passed' | 'received' | 'begun'
>;

type Terms = Omit<SessionRecord, keyof SessionState>;

/** After so many acknowledgements that wait to be written they are written. */
const maxTouches = 64;

const refusedAsKnown = 'what the store has is what was to be replaced, and it refuses that';

/** The parts of a new record that its client's CONNECT decides. */
export function newTerms(owner: string, expirySec: number, epoch: number, device: DeviceMark): Terms {
  const id = randomBytes(12).toString('base64url');
  return { id, epoch, owner, expirySec, awaySinceMs: undefined, device };
}

/** Key by key: two spreads into one object take V8 longer than all else that a write needs. */
function recordOf(terms: Terms, state: SessionState): SessionRecord {
  const { id, epoch, owner, expirySec, awaySinceMs, device, others } = terms;
  const { subscriptions, cursors, unacked, passed, received, begun } = state;
  return {
    id,
    epoch,
    owner,
    expirySec,
    awaySinceMs,
    others,
    subscriptions,
    cursors,
    unacked,
    passed,
    received,
    begun,
    device,
  };
}

/**
 * The session of a client of this replica as the store has it, with one write under way: what changes meanwhile goes into the
 * next one. Where another connection has the session by now, nothing of it is written any more.
 */
export class StoredSession implements Writable {
  readonly key: string;
  private readonly store: SessionStore;
  private readonly writer: SessionWriter;
  private readonly owner: string;
  private readonly collect: () => SessionState;
  private readonly onLost: (ended: boolean) => void;
  private terms: Terms;
  private revision: number;
  /** The latest epoch that the store is known to have from here. */
  private claimed: number;
  private phase: 'held' | 'removing' | 'over' = 'held';
  /** It was lost because it is nowhere any more. */
  hasEnded = false;
  /** Counts what was asked for to be stored, and what of it is. */
  private asked = 0;
  private stored = 0;
  private waiters: { readonly upTo: number; readonly resolve: (stored: boolean) => void }[] = [];
  /** What is being written, or was, without a definite answer. */
  private attempt:
    | { readonly record: SessionRecord; readonly upTo: number; readonly writeId: string }
    | undefined;
  /** The store has not been asked yet what it has of it. */
  private isForeign = false;
  private idlers: (() => void)[] = [];
  private touches = 0;

  /**
   * @param start what the store has.
   * @param client.collect what is to be stored now.
   * @param client.onLost another connection has the session, or it has ended: it was removed, or the client has begun anew.
   */
  constructor(
    services: { readonly store: SessionStore; readonly writer: SessionWriter; readonly owner: string },
    start: { readonly key: string; readonly record: SessionRecord; readonly revision: number },
    client: { collect(): SessionState; onLost(ended: boolean): void },
  ) {
    this.store = services.store;
    this.writer = services.writer;
    this.owner = services.owner;
    this.key = start.key;
    const { id, epoch, owner, expirySec, awaySinceMs, device, others } = start.record;
    this.terms = { id, epoch, owner, expirySec, awaySinceMs, device, others };
    this.revision = start.revision;
    this.claimed = epoch;
    this.collect = () => client.collect();
    this.onLost = (ended) => client.onLost(ended);
  }

  get id(): string {
    return this.terms.id;
  }

  get epoch(): number {
    return this.terms.epoch;
  }

  /** It is this replica's, as far as is known. */
  get isHeld(): boolean {
    return this.phase === 'held';
  }

  /** The store has it as that of the latest connection here: no other replica had it meanwhile. */
  get isClaimed(): boolean {
    return this.claimed === this.terms.epoch;
  }

  get isDirty(): boolean {
    return this.phase === 'removing' || (this.phase === 'held' && this.stored < this.asked);
  }

  /** Its client has connected again. @param anew with a new session. */
  begin(expirySec: number, anew: boolean, device: DeviceMark): void {
    const { owner } = this;
    const epoch = this.epoch + 1;
    this.terms = anew
      ? newTerms(owner, expirySec, epoch, device)
      : { ...this.terms, epoch, owner, expirySec, awaySinceMs: undefined, device };
  }

  /** Its client has gone: the session expires from now on. @returns as `persist` does. */
  park(expirySec: number): Promise<boolean> {
    this.terms = { ...this.terms, owner: undefined, expirySec, awaySinceMs: Date.now() };
    return this.persist();
  }

  /** Stores what is now. @returns when that is done; false: the session is not this connection's any more. */
  persist(): Promise<boolean> {
    if (this.phase !== 'held') return Promise.resolve(false);
    this.touches = 0;
    this.asked += 1;
    const upTo = this.asked;
    const done = new Promise<boolean>((resolve) => this.waiters.push({ upTo, resolve }));
    this.writer.enqueue(this);
    return done;
  }

  /** Something has changed that may be lost: it is stored with the next write, or soon. */
  touch(): void {
    if (this.phase !== 'held') return;
    this.touches += 1;
    if (this.touches === 1) {
      this.asked += 1;
      this.writer.enqueueLazily(this);
    } else if (this.touches >= maxTouches) {
      this.touches = 0;
      this.asked += 1;
      this.writer.enqueue(this);
    }
  }

  /**
   * The store is another one by now. If that has a session of the client, this one takes its place while the client is
   * connected; else it is over. @returns as `persist` does.
   */
  move(): Promise<boolean> {
    this.attempt = undefined;
    this.isForeign = true;
    return this.persist();
  }

  /** The session has ended: nothing of it is kept. */
  remove(): void {
    if (this.phase !== 'held') return;
    this.phase = 'removing';
    this.settle(Number.POSITIVE_INFINITY, false);
    this.writer.enqueue(this);
  }

  /** Resolves when all of it is stored, or it is not this connection's any more. */
  settled(): Promise<void> {
    return this.isDirty ? new Promise((resolve) => this.idlers.push(resolve)) : Promise.resolve();
  }

  /** Another replica has written or removed it, or the store has an earlier revision again. */
  async onNews(revision: number): Promise<void> {
    if (this.phase === 'held' && revision !== this.revision) await this.look();
  }

  async write(): Promise<void> {
    if (this.phase === 'removing') {
      await this.writeRemoval();
      return;
    }
    if (this.isForeign) await this.settleIn();
    if (this.phase !== 'held') return;
    this.touches = 0;
    this.attempt ??= {
      record: recordOf(this.terms, this.collect()),
      upTo: this.asked,
      writeId: this.store.nextWriteId(),
    };
    const { record, upTo, writeId } = this.attempt;
    const revision = await this.store.write(this.key, record, this.revision, writeId);
    if (revision === undefined) {
      // Tried again at once it would be refused again.
      if (!(await this.look())) throw new StoreError(refusedAsKnown, false);
      return;
    }
    this.attempt = undefined;
    this.revision = revision;
    this.claimed = record.epoch;
    this.stored = upTo;
    this.settle(upTo, true);
  }

  private async settleIn(): Promise<void> {
    const found = await this.store.load(this.key);
    if (this.phase !== 'held') return;
    if (found !== undefined && (this.terms.owner === undefined || typeof found.record === 'string')) {
      this.lose(found);
      return;
    }
    this.isForeign = false;
    this.revision = found?.revision ?? 0;
    this.terms = { ...this.terms, epoch: Math.max(this.epoch, (found?.epoch ?? 0) + 1) };
  }

  /** @param found what the store has in its place. */
  private lose(found: StoredRecord | undefined): void {
    this.phase = 'over';
    this.hasEnded =
      found === undefined || (typeof found.record !== 'string' && found.record.id !== this.terms.id);
    this.settle(Number.POSITIVE_INFINITY, false);
    this.onLost(this.hasEnded);
  }

  private async writeRemoval(): Promise<void> {
    if (!(await this.store.remove(this.key, this.revision))) {
      const found = await this.store.load(this.key);
      if (found !== undefined && this.isOwn(found)) {
        if (found.revision === this.revision) throw new StoreError(refusedAsKnown, false);
        this.revision = found.revision;
        return;
      }
    }
    this.phase = 'over';
    this.settle(Number.POSITIVE_INFINITY, true);
  }

  /**
   * Looks whose the session is: one that was taken for dead, and marked as away, is still this connection's, and so is an earlier one
   * where NATS has lost its latest.
   *
   * @returns whether something else is known than before.
   */
  private async look(): Promise<boolean> {
    const found = await this.store.load(this.key);
    if (this.phase !== 'held') return true;
    if (found === undefined || !this.isOwn(found)) {
      this.lose(found);
      return true;
    }
    if (found.revision === this.revision) return false;
    // What NATS has lost the latest of still names its owner, for example.
    const isEarlier = found.revision < this.revision;
    this.revision = found.revision;
    this.attempt = undefined;
    if (isEarlier || this.terms.owner !== undefined) void this.persist();
    return true;
  }

  /**
   * Of two replicas that go on with the same record both count on from its epoch, so that this alone does not tell whose it is. One
   * that nobody has is still this one's if its epoch is the latest that the store had from here: whoever takes a session raises it.
   * In an earlier revision, which NATS has again, both may be earlier.
   */
  private isOwn({ record, revision }: StoredRecord): boolean {
    if (typeof record === 'string' || record.id !== this.id) return false;
    const { epoch, owner } = record;
    const latest = owner === undefined ? this.claimed : this.epoch;
    const isOfItsTime = epoch === latest || (epoch < latest && revision < this.revision);
    return isOfItsTime && (owner === undefined || owner === this.owner);
  }

  private settle(upTo: number, stored: boolean): void {
    while (this.waiters[0] !== undefined && this.waiters[0].upTo <= upTo)
      this.waiters.shift()?.resolve(stored);
    if (this.isDirty) return;
    for (const resolve of this.idlers.splice(0)) resolve();
  }
}
