/** What a packet takes in memory beside its bytes, about. */
const overheadBytes = 128;
/** Most bytes kept behind a message that waits for room; above it the socket is not read. */
const maxBytes = 16_384;

/** A PUBLISH that waits for room, and what came behind it, in order. */
export class ParkedPackets {
  private packets: Buffer[] = [];
  /** Bytes held, overhead included. */
  bytes = 0;

  get count(): number {
    return this.packets.length;
  }

  get isEmpty(): boolean {
    return this.packets.length === 0;
  }

  /** The one that came last, and where its variable header begins. */
  get last(): { readonly packet: Buffer; readonly bodyOffset: number } | undefined {
    const packet = this.packets.at(-1);
    return packet && { packet, bodyOffset: bodyOffsetOf(packet) };
  }

  /** No more should be read. */
  get isFull(): boolean {
    return this.bytes > maxBytes;
  }

  /** Keeps a copy: the packet is a view of the socket's chunk. */
  push(packet: Buffer): void {
    this.packets.push(Buffer.from(packet));
    this.bytes += packet.length + overheadBytes;
  }

  /** Gives the packets to `process`, one after the other, as long as it takes them. */
  process(process: (packet: Buffer, bodyOffset: number) => boolean): void {
    let taken = 0;
    for (const packet of this.packets) {
      if (!process(packet, bodyOffsetOf(packet))) break;
      taken += 1;
      this.bytes -= packet.length + overheadBytes;
    }
    this.packets = this.packets.slice(taken);
  }

  clear(): void {
    this.packets = [];
    this.bytes = 0;
  }
}

/** Where the variable header of a packet begins: behind the remaining length. */
function bodyOffsetOf(packet: Buffer): number {
  let offset = 1;
  while ((packet[offset] as number) >= 0x80) offset += 1;
  return offset + 1;
}
