import type { PacketType } from '../protocol/packet-type.js';
import { acknowledgeBytes, writeAcknowledge } from '../protocol/v3/acknowledge.js';

const leastBytes = 64;

/**
 * The answers of one connection in one turn of the event loop, which leave in one write: a write costs more than the
 * few bytes of an answer, in time and, while the client does not read, in memory.
 */
export class TurnOutput {
  /** Packet type and packet identifier in one number each, as long as there is nothing else. */
  private acknowledgements: number[] = [];
  private bytes: Buffer | undefined;
  private used = 0;

  /** Bytes of what is in it. */
  get size(): number {
    return this.used + this.acknowledgements.length * acknowledgeBytes;
  }

  /** Adds PUBACK, PUBREC or PUBCOMP. */
  acknowledge(type: PacketType, packetId: number): void {
    if (this.bytes === undefined) {
      this.acknowledgements.push((type << 16) | packetId);
      return;
    }
    // What is answered leaves in the order in which it was asked for.
    writeAcknowledge(this.reserve(acknowledgeBytes), this.used, type, packetId);
    this.used += acknowledgeBytes;
  }

  /** Adds a copy of a packet. */
  add(packet: Buffer): void {
    if (this.acknowledgements.length > 0) this.writeAcknowledgements(packet.length);
    this.reserve(packet.length).set(packet, this.used);
    this.used += packet.length;
  }

  /** Takes everything out, in the order in which it was added. */
  take(): Buffer | undefined {
    if (this.acknowledgements.length > 0) this.writeAcknowledgements(0);
    const { bytes, used } = this;
    this.bytes = undefined;
    this.used = 0;
    return bytes?.subarray(0, used);
  }

  private writeAcknowledgements(further: number): void {
    const { acknowledgements } = this;
    const count = acknowledgements.length;
    const bytes = Buffer.allocUnsafe(count * acknowledgeBytes + further);
    for (let index = 0; index < count; index++) {
      const entry = acknowledgements[index] as number;
      writeAcknowledge(bytes, index * acknowledgeBytes, (entry >> 16) as PacketType, entry & 0xffff);
    }
    this.acknowledgements = [];
    this.bytes = bytes;
    this.used = count * acknowledgeBytes;
  }

  /** Where there is room for so many more. */
  private reserve(more: number): Buffer {
    const { bytes, used } = this;
    const needed = used + more;
    if (bytes !== undefined && needed <= bytes.length) return bytes;
    const grown = Buffer.allocUnsafe(Math.max(leastBytes, used === 0 ? needed : 2 * needed));
    if (bytes !== undefined) grown.set(bytes.subarray(0, used));
    this.bytes = grown;
    return grown;
  }
}
