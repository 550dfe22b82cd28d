import type { ConnectionOptions, Msg, NatsConnection } from './nats-library.js';

/**
 * What is used of the library beyond its public interface, all of it here: nats 2.29, `ProtocolHandler`, `NodeTransport`, `MsgImpl`.
 * `test/forward/nats-internals.test.ts` fails when another version does not have it.
 */

/** An error that the server reported. */
export interface NatsErrorReport {
  readonly type: 'error';
  readonly data: string;
  readonly permissionContext?: { readonly operation: string; readonly subject: string };
}

export type NatsInternals = ReturnType<typeof openNatsInternals>;

/** The socket of a connection, as far as it is used. */
export interface NatsSocket extends Resettable {
  readonly writableLength: number;
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
  cork(): void;
  uncork(): void;
}

/** What is waited for when a PING was sent. */
export interface PingAnswer {
  resolve(): void;
  reject(error: unknown): void;
}

interface Protocol {
  /** Takes what the parser has read. */
  push(event: unknown): void;
  flush(answer: PingAnswer): void;
  readonly lastError?: { readonly message: string };
  readonly listeners: { push(status: NatsErrorReport | { readonly type: 'other' }): void; stop(): void }[];
  readonly transport?: {
    send(frame: Uint8Array): void;
    readonly socket: NatsSocket | undefined;
  };
}

/** A socket of Node; one with TLS has that below it as its parent, which alone can be reset (`lib/_tls_wrap.js` of Node). */
interface Resettable {
  readonly encrypted?: boolean;
  readonly _parent?: Resettable;
  resetAndDestroy(): void;
  destroy(): void;
}

/** Writes and reads at the socket, ahead of the queues and promises that the library has around it. @throws Error when it is not built as is expected here. */
export function openNatsInternals(connection: NatsConnection) {
  const { protocol } = connection as unknown as { protocol?: Protocol };
  const transport = protocol?.transport;
  const socket = transport?.socket;
  if (
    typeof protocol?.flush !== 'function' ||
    typeof protocol.push !== 'function' ||
    !Array.isArray(protocol.listeners) ||
    typeof transport?.send !== 'function' ||
    typeof socket?.cork !== 'function'
  ) {
    throw new Error('this version of the nats library is not known');
  }
  return {
    /** Sends whole commands of the protocol, in order with those of the library. */
    send: (frame: Uint8Array) => transport.send(frame),
    socket,
    /** Sends a PING; answered when the PONG is read, before what is read behind it. */
    ping: (answer: PingAnswer) => protocol.flush(answer),
    /** Told of errors when they are read. Must not throw. */
    onError(report: (error: NatsErrorReport) => void): void {
      protocol.listeners.push({
        push(status) {
          if (status.type === 'error') report(status);
        },
        stop() {},
      });
    },
    /** Told of what a callback throws, which else would end the library's reader, and with it every further message. Must not throw. */
    onThrow(report: (error: unknown) => void): void {
      const { push } = protocol;
      protocol.push = (event) => {
        try {
          push.call(protocol, event);
        } catch (error) {
          report(error);
        }
      };
    },
    /** Ends the connection, and what lies in its socket never leaves. */
    reset(): void {
      const below = socket.encrypted === true ? socket._parent : socket;
      below?.resetAndDestroy();
      // Else what waits in it, or is written until it is closed, fails when nobody listens any more.
      socket.destroy();
    },
    /** The last error that is not one of permissions, in the server's words. */
    get lastError(): string | undefined {
      return protocol.lastError?.message;
    },
  };
}

/**
 * The subject of a message as it came: decoding it to a string costs more than all else that is done with an answer. Undefined
 * when the library has it no more.
 */
export function subjectBytesOf(message: Msg): Uint8Array | undefined {
  const subject = (message as { _msg?: { subject?: unknown } })._msg?.subject;
  return subject instanceof Uint8Array ? subject : undefined;
}

/** The header block of a message as it came, the line with its status first; empty when it has none. */
export function headerBlockOf(message: Msg): Buffer {
  const { _msg: place, _rdata: bytes } = message as {
    _msg?: { readonly hdr?: unknown };
    _rdata?: unknown;
  };
  if (typeof place?.hdr !== 'number' || !(bytes instanceof Uint8Array))
    throw new Error('this version of the nats library is not known');
  return Buffer.from(bytes.buffer, bytes.byteOffset, Math.max(0, place.hdr));
}

/** The library collects so many bytes before it writes them within a turn. */
export function writeChunk(bytes: number): ConnectionOptions {
  return { pendingLimit: bytes } as ConnectionOptions;
}
