import type { PassedRecord } from '../store/session-record.js';

type PassedReason = PassedRecord['stretches'][number][2];

/** Most stretches that are kept: a device that slept too long for all that waited is one. */
const maxStretches = 64;

/** The commands that a session has passed over, so that nobody takes them for acknowledged. */
export class PassedCommands {
  private unknownTo = 0;
  private stretches: [first: number, last: number, reason: PassedReason][] = [];
  /** The session has met nothing else since the last one. */
  private goesOn = false;

  get record(): PassedRecord | undefined {
    const { unknownTo, stretches } = this;
    if (unknownTo === 0 && stretches.length === 0) return undefined;
    return { unknownTo, stretches: stretches.map((stretch) => [...stretch]) };
  }

  restore({ unknownTo, stretches }: PassedRecord): void {
    this.unknownTo = unknownTo;
    this.stretches = stretches.map((stretch) => [...stretch]);
    this.goesOn = false;
  }

  note(sequence: number, reason: PassedReason): void {
    const last = this.stretches.at(-1);
    if (this.goesOn && last?.[2] === reason && last[1] < sequence) {
      last[1] = sequence;
      return;
    }
    this.stretches.push([sequence, sequence, reason]);
    this.goesOn = true;
    if (this.stretches.length <= maxStretches) return;
    const [, forgotten] = this.stretches.shift() as [number, number, PassedReason];
    this.unknownTo = Math.max(this.unknownTo, forgotten);
  }

  /** The session has met a command that it has not passed over. */
  interrupt(): void {
    this.goesOn = false;
  }

  clear(): void {
    this.restore({ unknownTo: 0, stretches: [] });
  }
}
