import type { CloseReason } from '../protocol/close-reason.js';

/** Longest fixed header: packet type and four bytes of remaining length (MQTT 3.1.1 §2.2). */
const maxHeaderBytes = 5;

/**
 * Cuts a byte stream into MQTT control packets. A packet that lies whole in one chunk is a view of that chunk; one
 * that spans chunks is gathered in a buffer of its own size, so no payload byte is copied more than once.
 */
export class FrameReader {
  /** Where the variable header of the packet that `next` returned last begins. */
  bodyOffset = 0;

  private chunk: Buffer | undefined;
  private offset = 0;
  /** A packet that spans chunks, `filled` bytes of it present. */
  private partial: Buffer | undefined;
  private filled = 0;
  private partialBodyOffset = 0;

  /** Gives the next chunk. The chunk before must have been read to its end: `next` has answered undefined. */
  push(chunk: Buffer): void {
    const rest = this.chunk;
    this.chunk = rest === undefined ? chunk : Buffer.concat([rest.subarray(this.offset), chunk]);
    this.offset = 0;
  }

  /**
   * The next whole packet, fixed header included.
   *
   * @param maxPacketBytes most bytes of a packet, fixed header included.
   * @returns undefined when more bytes are needed; a reason when the stream cannot go on.
   */
  next(maxPacketBytes: number): Buffer | CloseReason | undefined {
    const chunk = this.chunk;
    if (chunk === undefined) return undefined;
    if (this.partial !== undefined) return this.fillPartial(this.partial, chunk);

    const start = this.offset;
    const available = chunk.length - start;
    let remaining = 0;
    let multiplier = 1;
    for (let headerBytes = 2; headerBytes <= maxHeaderBytes; headerBytes++) {
      // The rest of the header, at most four bytes, stays for `push` to join.
      if (available < headerBytes) return undefined;
      const byte = chunk[start + headerBytes - 1] as number;
      remaining += (byte & 0x7f) * multiplier;
      if (byte < 0x80) return this.cut(chunk, headerBytes, headerBytes + remaining, maxPacketBytes);
      multiplier *= 0x80;
    }
    return 'remaining-length';
  }

  private cut(
    chunk: Buffer,
    headerBytes: number,
    packetBytes: number,
    maxPacketBytes: number,
  ): Buffer | CloseReason | undefined {
    if (packetBytes > maxPacketBytes) return 'packet-too-large';
    const start = this.offset;
    const end = start + packetBytes;
    if (end <= chunk.length) {
      this.bodyOffset = headerBytes;
      this.advance(chunk, end);
      return chunk.subarray(start, end);
    }
    this.partial = Buffer.allocUnsafeSlow(packetBytes);
    this.filled = chunk.copy(this.partial, 0, start);
    this.partialBodyOffset = headerBytes;
    this.chunk = undefined;
    return undefined;
  }

  private fillPartial(partial: Buffer, chunk: Buffer): Buffer | undefined {
    const copied = chunk.copy(partial, this.filled, this.offset);
    this.filled += copied;
    this.advance(chunk, this.offset + copied);
    if (this.filled < partial.length) return undefined;
    this.partial = undefined;
    this.bodyOffset = this.partialBodyOffset;
    return partial;
  }

  /** Nothing is left of what was pushed. */
  get isEmpty(): boolean {
    return this.chunk === undefined && this.partial === undefined;
  }

  /** Lets go of what was not read. */
  clear(): void {
    this.chunk = undefined;
    this.partial = undefined;
  }

  private advance(chunk: Buffer, offset: number): void {
    if (offset === chunk.length) {
      this.chunk = undefined;
      this.offset = 0;
    } else {
      this.offset = offset;
    }
  }
}
