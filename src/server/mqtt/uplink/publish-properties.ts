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
/** JetStream stores no message with more headers (`max_header_size` of a stream: 64 KiB). */
const maxPropertiesBytes = 65_535;
/** What an alias stands for whose topic is over the limit: it is refused wherever it is used. */
const tooLong = Buffer.alloc(0);
/** Longer ones are not remembered: every connection could hold them. */
const maxRememberedBytes = 1_024;

/**
 * Reads the properties of what one connection publishes. Most clients send the same ones again and again, so the last are
 * remembered by their bytes; topic aliases hold as long as the connection (MQTT 5.0 §3.3.2.3.4).
 */
export class PropertiesReader {
  private readonly codec: Codec;
  private readonly topicAliasMaximum: number;
  private readonly maxTopicBytes: number;
  private readonly topicsByAlias = new Map<number, Buffer>();
  private lastBytes: Buffer | undefined;
  private lastTtl = false;
  private last: { readonly properties: PublishProperties; readonly headers: Uint8Array } | undefined;

  constructor(codec: Codec, limits: { readonly topicAliasMaximum: number; readonly maxTopicBytes: number }) {
    this.codec = codec;
    this.topicAliasMaximum = limits.topicAliasMaximum;
    this.maxTopicBytes = limits.maxTopicBytes;
  }

  /** @param ttl whether the stream takes times to live. */
  read(publish: Publish, ttl: boolean): ReadProperties | CloseReason {
    const read = this.parse(publish, ttl);
    if (typeof read === 'string') return read;
    const { topicAlias, isText } = read.properties;
    // [MQTT-3.3.2-8] [MQTT-3.3.2-9]
    if (topicAlias !== undefined && topicAlias > this.topicAliasMaximum) return 'topic-alias-invalid';
    const { packet, topicStart, topicEnd } = publish;
    let topicBytes: Buffer | undefined;
    if (topicAlias !== undefined && topicStart === topicEnd) {
      topicBytes = this.topicsByAlias.get(topicAlias);
      if (topicBytes === undefined) return 'topic-alias-unknown';
      if (topicBytes === tooLong) return 'topic-too-long';
    } else if (topicAlias !== undefined) {
      const isTooLong = topicEnd - topicStart > this.maxTopicBytes;
      this.topicsByAlias.set(
        topicAlias,
        isTooLong ? tooLong : Buffer.from(packet.subarray(topicStart, topicEnd)),
      );
      if (isTooLong) return 'topic-too-long';
    }
    // Last: what is refused has given its alias all the same.
    if (publish.propertiesEnd - publish.propertiesStart > maxPropertiesBytes) return 'packet-too-large';
    if (isText === true && !isUtf8(publish.payload)) return 'payload-not-utf8';
    return { topicBytes, properties: read.properties, headers: read.headers };
  }

  private parse(publish: Publish, ttl: boolean): NonNullable<PropertiesReader['last']> | CloseReason {
    const { packet, propertiesStart: start, propertiesEnd: end } = publish;
    const { last, lastBytes } = this;
    if (
      last !== undefined &&
      this.lastTtl === ttl &&
      lastBytes?.length === end - start &&
      lastBytes.compare(packet, start, end) === 0
    )
      return last;
    // Of a copy: what is decoded may be a view of it, and outlives the packet.
    const bytes = Buffer.from(packet.subarray(start, end));
    const properties = this.codec.decodePublishProperties(bytes, 0, bytes.length);
    if (typeof properties === 'string') return properties;
    const read = { properties, headers: encoder.encode(encodeProperties(properties, { ttl })) };
    if (bytes.length > maxRememberedBytes) return read;
    this.lastBytes = bytes;
    this.lastTtl = ttl;
    this.last = read;
    return read;
  }
}
