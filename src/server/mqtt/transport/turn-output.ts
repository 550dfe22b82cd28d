import type { PacketType } from '../protocol/packet-type.js';
import { acknowledgeBytes, encodeAcknowledge, writeAcknowledge } from '../protocol/v3/acknowledge.js';

/**
 * The answers of one connection in one turn of the event loop, which leave in one write: a write costs more than the
 * few bytes of an answer, in time and, while the client does not read, in memory.
 */
export class TurnOutput {
  /** Packet type and packet identifier in one number each. */
  private acknowledgements: number[] = [];
  private packets: Buffer[] = [];

  /** Adds PUBACK, PUBREC or PUBCOMP. */
  acknowledge(type: PacketType, packetId: number): void {
    // Behind a packet it is a packet itself: what is answered leaves in the order in which it was asked for.
    if (this.packets.length > 0) this.packets.push(encodeAcknowledge(type, packetId));
    else this.acknowledgements.push((type << 16) | packetId);
  }

  /** Adds a whole packet. */
  add(packet: Buffer): void {
    this.packets.push(packet);
  }

  /** Takes everything out: acknowledgements in the order in which they were added, then the packets. */
  take(): Buffer | undefined {
    const { acknowledgements, packets } = this;
    if (acknowledgements.length === 0) {
      if (packets.length === 0) return undefined;
      this.packets = [];
      return packets.length === 1 ? packets[0] : Buffer.concat(packets);
    }
    const bytes = Buffer.allocUnsafe(acknowledgements.length * acknowledgeBytes);
    for (let index = 0; index < acknowledgements.length; index++) {
      const entry = acknowledgements[index] as number;
      writeAcknowledge(bytes, index * acknowledgeBytes, (entry >> 16) as PacketType, entry & 0xffff);
    }
    this.acknowledgements = [];
    if (packets.length === 0) return bytes;
    this.packets = [];
    return Buffer.concat([bytes, ...packets]);
  }
}
