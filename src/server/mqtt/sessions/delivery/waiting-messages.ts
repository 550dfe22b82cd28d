import { isExpired, type Message } from './message.js';

/** A message that waits to be sent to a client. */
export interface Waiting<M extends Message> {
  readonly message: M;
  /** What it counts for. */
  readonly bytes: number;
}

/** What waits to be sent to one client, in order. */
export class WaitingMessages<M extends Message> {
  /** From `head` on. */
  private entries: Waiting<M>[] = [];
  private head = 0;
  /** None of them expires earlier. */
  private earliestExpiryMs = Number.POSITIVE_INFINITY;

  get size(): number {
    return this.entries.length - this.head;
  }

  get first(): Waiting<M> | undefined {
    return this.entries[this.head];
  }

  push(message: M, bytes: number): void {
    this.entries.push({ message, bytes });
    if (message.expiresAtMs !== undefined && message.expiresAtMs < this.earliestExpiryMs)
      this.earliestExpiryMs = message.expiresAtMs;
  }

  /** Takes the first one away. */
  shift(): void {
    this.head += 1;
    if (this.head < this.entries.length && this.head < 1_024) return;
    this.entries = this.entries.slice(this.head);
    this.head = 0;
  }

  /** Takes away those that have expired; looks at them only when there may be one. */
  takeExpired(): Waiting<M>[] {
    if (Date.now() < this.earliestExpiryMs) return [];
    const all = this.takeAll();
    for (const entry of all) if (!isExpired(entry.message)) this.push(entry.message, entry.bytes);
    return all.filter(({ message }) => isExpired(message));
  }

  takeAll(): Waiting<M>[] {
    const all = this.entries.slice(this.head);
    this.entries = [];
    this.head = 0;
    this.earliestExpiryMs = Number.POSITIVE_INFINITY;
    return all;
  }
}
