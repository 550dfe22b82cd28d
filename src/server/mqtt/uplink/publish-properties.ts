import { isUtf8 } from 'node:buffer';
import { encodeProperties } from '../../forward/mqtt-headers.js';
import type { CloseReason } from '../protocol/close-reason.js';
import type { Codec, Publish, PublishProperties } from '../protocol/codec.js';

/** What the properties of a PUBLISH say. */
export interface ReadProperties {
  /** Where the topic's bytes are: in the packet, or those that the alias stands for. */
  readonly topicBytes: Buffer | undefined;
  readonly properties: PublishProperties;
  /** Lines for the NATS headers. */
  readonly headers: Uint8Array;
}

const encoder = new TextEncoder();

/**
 * Reads the properties of what one connection publishes. Most clients send the same ones again and again, so the last are
 * remembered by their bytes; topic aliases hold as long as the connection (MQTT 5.0 §3.3.2.3.4).
 */
export class PropertiesReader {
  private readonly codec: Codec;
  private readonly topicAliasMaximum: number;
  private readonly ttl: () => boolean;
  private readonly topicsByAlias = new Map<number, Buffer>();
  private lastBytes: Buffer | undefined;
  private last: { readonly properties: PublishProperties; readonly headers: Uint8Array } | undefined;

  /** @param ttl whether the stream takes times to live now. */
  constructor(codec: Codec, topicAliasMaximum: number, ttl: () => boolean) {
    this.codec = codec;
    this.topicAliasMaximum = topicAliasMaximum;
    this.ttl = ttl;
  }

  read(publish: Publish): ReadProperties | CloseReason {
    const read = this.parse(publish);
    if (typeof read === 'string') return read;
    const { topicAlias, isText } = read.properties;
    // [MQTT-3.3.2-8] [MQTT-3.3.2-9]
    if (topicAlias !== undefined && topicAlias > this.topicAliasMaximum) return 'topic-alias-invalid';
    const { packet, topicStart, topicEnd } = publish;
    let topicBytes: Buffer | undefined;
    if (topicAlias !== undefined && topicStart === topicEnd) {
      topicBytes = this.topicsByAlias.get(topicAlias);
      if (topicBytes === undefined) return 'topic-alias-unknown';
    } else if (topicAlias !== undefined) {
      this.topicsByAlias.set(topicAlias, Buffer.from(packet.subarray(topicStart, topicEnd)));
    }
    // Last: what is refused has given its alias all the same.
    if (isText === true && !isUtf8(publish.payload)) return 'payload-not-utf8';
    return { topicBytes, properties: read.properties, headers: read.headers };
  }

  private parse(publish: Publish): NonNullable<PropertiesReader['last']> | CloseReason {
    const { packet, propertiesStart: start, propertiesEnd: end } = publish;
    const { last, lastBytes } = this;
    if (
      last !== undefined &&
      lastBytes?.length === end - start &&
      lastBytes.compare(packet, start, end) === 0
    )
      return last;
    // Of a copy: what is decoded may be a view of it, and outlives the packet.
    const bytes = Buffer.from(packet.subarray(start, end));
    const properties = this.codec.decodePublishProperties(bytes, 0, bytes.length);
    if (typeof properties === 'string') return properties;
    const read = { properties, headers: encoder.encode(encodeProperties(properties, { ttl: this.ttl() })) };
    this.lastBytes = bytes;
    this.last = read;
    return read;
  }
}
