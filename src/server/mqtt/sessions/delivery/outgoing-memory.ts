import type { LimitName } from '../../live/limit-names.js';
import type { OutgoingMessage } from './delivery-writer.js';
import { bytesOf } from './message.js';

export interface OutgoingLimits {
  /** Most messages that wait for an absent client. */
  readonly maxMessages: number;
  /** Most bytes that wait, or are sent and not acknowledged. */
  readonly maxBytes: number;
  /** The same of all clients. */
  readonly maxBytesInAll: number;
}

/** What is held for all clients. */
export interface OutgoingTotal {
  bytes: number;
}

/** A client holds at most one byte for so many that are free, so that there is room for another, however many hold theirs. */
const clientShare = 8;

/** The bytes of all that waits for one client or is in flight to it, within its bounds and those of all. */
export class OutgoingMemory {
  heldBytes = 0;
  private readonly limits: OutgoingLimits;
  private readonly total: OutgoingTotal;

  constructor(limits: OutgoingLimits, total: OutgoingTotal) {
    this.limits = limits;
    this.total = total;
  }

  hold(bytes: number): void {
    this.heldBytes += bytes;
    this.total.bytes += bytes;
  }

  /** The bound that allows no message of this size now, or undefined. @param waiting messages that wait. */
  findLimit(bytes: number, isConnected: boolean, waiting: number): LimitName | undefined {
    const { heldBytes, limits, total } = this;
    if (!isConnected && waiting >= limits.maxMessages) return 'queued-messages';
    if (heldBytes + bytes > limits.maxBytes) return 'outgoing-bytes';
    // For a client that takes what it is sent there is always room.
    if (isConnected && heldBytes === 0) return undefined;
    const free = limits.maxBytesInAll - total.bytes;
    return (heldBytes + bytes) * clientShare > free ? 'outgoing-bytes-in-all' : undefined;
  }
}

/** What a message takes in memory beside what it carries, about. */
const overheadBytes = 64;
const subscriptionIdBytes = 8;

export function sizeOf(message: OutgoingMessage): number {
  return overheadBytes + bytesOf(message) + (message.subscriptionIds?.length ?? 0) * subscriptionIdBytes;
}
