import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { CloseReason } from '../protocol/close-reason.js';

/** How the bytes of a client come here. */
export type Transport = 'tcp' | 'tls' | 'ws' | 'wss';

/** A stream of bytes to and from a client: a `net.Socket`, a `tls.TLSSocket`, or what is made of a WebSocket. */
export type ByteSocket = Duplex & {
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Why the transport ended the stream, when it did. */
  readonly failure?: CloseReason | undefined;
  /** The socket below, when it is not one itself. */
  readonly lower?: Duplex;
  /** The client has logged in: bounds that are smaller before it end. */
  onLogin?(): void;
};

/** What a client showed of itself in the TLS handshake, when it was asked to. */
export interface ClientCertificate {
  /** Device ids it is made out to: the subject's common name, then the URIs of its alternative names. */
  readonly names: readonly string[];
  /** Why the handshake did not trust it, as OpenSSL calls it; undefined: it did. */
  readonly problem: string | undefined;
  /** `Date.now()` from which it is valid. */
  readonly validFromMs: number;
  /** `Date.now()` until which it is valid. */
  readonly validUntilMs: number;
}

/** A client whose bytes are MQTT from here on: every handshake of its transport is done. */
export interface AcceptedSocket {
  /** Its errors are listened to: `close` follows them, and is all that the owner needs to know. */
  readonly socket: ByteSocket;
  readonly transport: Transport;
  /**
   * The client's own address, also behind a proxy that speaks the PROXY protocol; IPv4 in dotted form, however it
   * came.
   */
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Undefined: the client has shown none. */
  readonly certificate: ClientCertificate | undefined;
}

const shortestProbeDelayMs = 60_000;
const longestProbeDelayMs = 240_000;

/**
 * Lets TCP see whether a silent client is still there, or no longer. Only for one that does not show it by itself, since its keep
 * alive is 0 or it is not read: the others have said how long they may be silent, and may be out of reach or asleep until then. Once a
 * client is silent Node.js has it probed each second, and ends it after ten probes without an answer. Each begins at
 * another time, since Linux lets many timers expire together, and loopback and the interfaces of containers drop what exceeds
 * `net.core.netdev_max_backlog`, 1,000 packets: of 18,500 clients that were to be probed in the same seconds 7,000
 * were ended, all of them there.
 */
export function probeSilence(socket: ByteSocket, enable: boolean): void {
  const tcp = (socket.lower ?? socket) as Partial<Pick<Socket, 'setKeepAlive'>>;
  const delayMs = shortestProbeDelayMs + Math.random() * (longestProbeDelayMs - shortestProbeDelayMs);
  tcp.setKeepAlive?.(enable, delayMs);
}

/**
 * Bytes of the write under way that the system has not taken; 0 where Node.js does not tell. It is what its sockets go
 * by themselves to see whether a long write goes on (`net.js`, `_onTimeout`).
 */
export function queuedBytesOf(socket: ByteSocket): number {
  const { _handle: handle } = (socket.lower ?? socket) as { _handle?: { writeQueueSize?: number } | null };
  return handle?.writeQueueSize ?? 0;
}

/** Reads nothing more until `resume`. A socket that is only paused still takes a chunk of up to 64 KiB, and holds it. */
export function stopReading(socket: Socket): void {
  socket.pause();
  const { _handle: handle } = socket as unknown as {
    _handle?: { reading?: boolean; readStop(): void } | null;
  };
  if (handle?.reading !== true) return;
  // `resume` starts it again when it is told that it does not read.
  handle.reading = false;
  handle.readStop();
}
