import { type LedgerCounts, noCounts } from '../../../ledger-counts.js';
import { readPlace } from '../../forward/pub-ack.js';

/** What is noted of one device on this replica until it is written to the database. */
export class LedgerEntry {
  readonly deviceId: string;
  counts: LedgerCounts = { ...noCounts };
  lastRefusal: { readonly atMs: number; readonly reason: string } | undefined;
  /** Where its last message was stored; undefined: none was since the last writing. */
  stream: string | undefined;
  sequence = 0;
  /** Of its last connection. */
  address: string | undefined;
  /** It waits to be written. */
  isWaiting = false;
  private readonly onChanged: (entry: LedgerEntry) => void;

  /** @param onChanged called when something is noted and it does not wait yet. */
  constructor(deviceId: string, onChanged: (entry: LedgerEntry) => void = () => {}) {
    this.deviceId = deviceId;
    this.onChanged = onChanged;
  }

  connect(address: string): void {
    this.address = address;
    this.change();
  }

  receive(): void {
    this.counts.received += 1;
    this.change();
  }

  /** @param ack as `UplinkMessage.onStored` has it. */
  store(ack: Uint8Array | undefined, behind: number | undefined): void {
    this.counts.stored += 1;
    if (ack !== undefined) {
      const { stream, sequence } = readPlace(ack, behind);
      if (stream !== this.stream || sequence > this.sequence) {
        this.stream = stream;
        this.sequence = sequence;
      }
    }
    this.change();
  }

  refuse(reason: string): void {
    this.counts.refused += 1;
    this.lastRefusal = { atMs: Date.now(), reason };
    this.change();
  }

  deliver(): void {
    this.counts.delivered += 1;
    this.change();
  }

  private change(): void {
    if (!this.isWaiting) this.onChanged(this);
  }
}
