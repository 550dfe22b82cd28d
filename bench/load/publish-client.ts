import type { Socket } from 'node:net';
import { openAcknowledgementReader } from './acknowledgements.js';
import type { Histogram } from './histogram.js';
import { openLink } from './link.js';
import {
  type Dialect,
  encodeConnect,
  encodePublish,
  type Identity,
  makePayload,
  pingreq,
  publishOffsets,
  uplinkTopic,
} from './packets.js';

/** What all publishing clients of a process add up. */
export interface Tally {
  sent: number;
  /** Messages whose exchange is complete: PUBACK, PUBCOMP, or for QoS 0 the PINGRESP behind them. */
  done: number;
  /** Acknowledgements that nothing was waiting for, and bytes that are no acknowledgement. */
  strayed: number;
  disconnected: number;
  pings: number;
  pongs: number;
}

export interface PublishClient {
  readonly connected: Promise<number>;
  readonly inFlight: number;
  /** Messages sent, which is also the number of the next one. */
  readonly sent: number;
  /** Sends so many messages, at most as many as the window has room for. */
  send(count: number): void;
  ping(): void;
  /** Whether a completed exchange makes room for a new message at once. */
  refilling: boolean;
  close(): void;
}

/** QoS 0 messages between two pings: what is read is known in steps of this. */
export const messagesPerPing = 128;

/**
 * A client that writes packets encoded beforehand: one ring of them, in which packet identifier and number are
 * patched in place. A place of the ring is used again only when its message was acknowledged, so the kernel has
 * long taken the bytes.
 *
 * @param options.window messages in flight; for QoS 0 a multiple of `messagesPerPing`.
 */
export function openPublishClient(options: {
  port: number;
  index: number;
  identity: Identity;
  qos: number;
  payloadBytes: number;
  window: number;
  dialect?: Dialect | undefined;
  session?: boolean | undefined;
  tally: Tally;
  latency: Histogram;
}): PublishClient {
  const { index, identity, qos, window, tally, latency, dialect = '3.1.1' } = options;
  const payload = makePayload(index, options.payloadBytes);
  const topic = uplinkTopic(identity.id);
  const hasAlias = dialect === '5-properties';
  const publish = encodePublish(hasAlias ? '' : topic, qos, payload, dialect);
  const offsets = publishOffsets(publish, qos, dialect);
  const packetBytes = publish.length;
  const ring = Buffer.alloc(packetBytes * window);
  for (let slot = 0; slot < window; slot += 1) publish.copy(ring, slot * packetBytes);
  const sentAtMs = new Float64Array(window);
  const waiting = new Uint8Array(window);
  // Identifiers run through a multiple of the window, so that an identifier names its place in the ring.
  const lastPacketId = window * Math.floor(65_535 / window);
  let packetId = 0;
  let slot = 0;
  let sent = 0;
  let inFlight = 0;
  let pinged = 0;
  let releases = Buffer.alloc(0);
  let releasing = 0;
  let completed = 0;

  function complete(id: number, nowMs: number): void {
    const place = (id - 1) % window;
    if (id === 0 || id > lastPacketId || waiting[place] === 0) {
      tally.strayed += 1;
      return;
    }
    waiting[place] = 0;
    latency.record((nowMs - (sentAtMs[place] as number)) * 1_000);
    inFlight -= 1;
    completed += 1;
  }

  let nowMs = 0;
  const read = openAcknowledgementReader({
    puback: (id) => complete(id, nowMs),
    pubrec(id) {
      if (releases.length < releasing + 4) releases = Buffer.concat([releases, Buffer.alloc(4 * window)]);
      releases.writeUInt32BE((0x6202_0000 | id) >>> 0, releasing);
      releasing += 4;
    },
    pubcomp: (id) => complete(id, nowMs),
    pingresp() {
      if (qos > 0) {
        tally.pongs += 1;
        return;
      }
      const place = (pinged * messagesPerPing) % window;
      latency.record((nowMs - (sentAtMs[place] as number)) * 1_000);
      pinged += 1;
      inFlight -= messagesPerPing;
      completed += messagesPerPing;
    },
    unexpected() {
      tally.strayed += 1;
    },
  });

  function onBytes(bytes: Uint8Array, from: number, to: number): void {
    nowMs = performance.now();
    read(bytes, from, to);
    if (releasing > 0) {
      // The bytes must outlive the write, which the buffer, used again for the next chunk, does not.
      socket.write(Buffer.from(releases.subarray(0, releasing)));
      releasing = 0;
    }
    if (completed === 0) return;
    tally.done += completed;
    const room = completed;
    completed = 0;
    if (client.refilling) send(room);
  }

  function send(count: number): void {
    if (closed) return;
    let left = Math.min(count, window - inFlight);
    if (qos === 0) left -= left % messagesPerPing;
    const atMs = performance.now();
    while (left > 0) {
      const most = qos === 0 ? messagesPerPing : left;
      const run = Math.min(most, window - slot);
      const from = slot * packetBytes;
      for (let each = 0; each < run; each += 1) {
        const at = from + each * packetBytes;
        if (qos > 0) {
          packetId = packetId === lastPacketId ? 1 : packetId + 1;
          ring[at + offsets.packetId] = packetId >> 8;
          ring[at + offsets.packetId + 1] = packetId & 0xff;
          waiting[slot + each] = 1;
        }
        const stamp = at + offsets.payload + 4;
        ring[stamp] = sent >>> 24;
        ring[stamp + 1] = (sent >>> 16) & 0xff;
        ring[stamp + 2] = (sent >>> 8) & 0xff;
        ring[stamp + 3] = sent & 0xff;
        sentAtMs[slot + each] = atMs;
        sent += 1;
      }
      // The first message gives the topic its alias: the same packet, with the topic in it.
      if (hasAlias && sent === run) {
        const { packetId: at } = offsets;
        const named = encodePublish(topic, qos, payload, dialect);
        ring.copy(named, named.length - packetBytes + at, from + at, from + packetBytes);
        socket.write(named);
      }
      const bytes = ring.subarray(
        from + (hasAlias && sent === run ? packetBytes : 0),
        from + run * packetBytes,
      );
      if (qos === 0) {
        socket.cork();
        socket.write(bytes);
        socket.write(pingreq);
        socket.uncork();
      } else {
        socket.write(bytes);
      }
      slot = (slot + run) % window;
      inFlight += run;
      tally.sent += run;
      left -= run;
    }
  }

  let closed = false;
  const link = openLink(options.port, encodeConnect(identity, `bench-${index}`, options), onBytes, () => {
    if (!closed) tally.disconnected += 1;
    closed = true;
  });
  const socket: Socket = link.socket;
  const client: PublishClient = {
    connected: link.accepted,
    get inFlight() {
      return inFlight;
    },
    get sent() {
      return sent;
    },
    refilling: false,
    send,
    ping() {
      if (closed) return;
      tally.pings += 1;
      socket.write(pingreq);
    },
    close() {
      closed = true;
      socket.destroy();
    },
  };
  return client;
}
