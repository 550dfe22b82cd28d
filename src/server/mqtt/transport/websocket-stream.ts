import { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import type { CloseReason } from '../protocol/close-reason.js';

/** More than this much unsent, and a ping is not answered: a client that reads no pongs does not make them pile up. */
const maxUnsentForPong = 16_384;
/** A client that is to learn why it is disconnected has this long to take it. */
const lingerMs = 500;
/** The most that a socket gives at once. */
const chunkBytes = 65_536;
const binaryFrame = { binary: true, compress: false } as const;

const status = { normal: 1_000, unsupportedData: 1_003, tooBig: 1_009 } as const;

/**
 * The bytes of MQTT in the binary messages of a WebSocket, as a stream that behaves like a TCP socket. Where messages
 * begin and end means nothing [MQTT-6.0.0-2]; a text frame ends the connection [MQTT-6.0.0-1]. Each write is one frame,
 * and those that were corked, or had to wait, are one together. The client is not read while this stream is not, and a
 * write is done when the system has taken it.
 */
export class WebSocketStream extends Duplex {
  bytesRead = 0;
  failure: CloseReason | undefined;
  private readonly webSocket: WebSocket;
  readonly lower: Duplex;
  private takenBytes = 0;
  private readonly countUnfinished: (chunk: Buffer) => void;
  /** Messages of one reading of the socket, not passed on yet. */
  private gathered: Buffer[] = [];
  private lastPing: Buffer | undefined;

  /**
   * @param maxFirstBytes most bytes of a message that the client may have sent and not finished before `onLogin`; what
   *   one reading of the socket gives may come on top.
   */
  constructor(webSocket: WebSocket, socket: Duplex, maxFirstBytes: number) {
    super();
    this.webSocket = webSocket;
    this.lower = socket;
    let unfinishedBytes = 0;
    this.countUnfinished = (chunk) => {
      unfinishedBytes += chunk.length;
      if (unfinishedBytes > maxFirstBytes + chunkBytes) this.fail('packet-too-large', status.tooBig);
    };
    socket.prependListener('data', this.countUnfinished);
    webSocket.on('message', (data: Buffer, isBinary: boolean) => {
      if (this.destroyed) return;
      if (!isBinary) {
        this.fail('websocket-text', status.unsupportedData);
        return;
      }
      if (data.length === 0) return;
      unfinishedBytes = 0;
      this.bytesRead += data.length;
      if (this.gathered.push(data) === 1) process.nextTick(() => this.passOn());
    });
    webSocket.on('ping', (data: Buffer) => {
      // Of those of a turn the last is answered (RFC 6455 §5.5.3).
      if (this.lastPing === undefined) setImmediate(() => this.pong());
      this.lastPing = data;
    });
    webSocket.on('close', () => {
      this.passOn();
      if (!this.destroyed) this.push(null);
    });
    // The frame that tells the client why is on its way.
    webSocket.on('error', (error: NodeJS.ErrnoException) => {
      const tooLarge = error.code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH';
      this.fail(tooLarge ? 'packet-too-large' : 'websocket-protocol');
    });
    this.on('error', () => {});
  }

  /** Bytes given to `write`, those that wait included, as a TCP socket counts them. */
  get bytesWritten(): number {
    return this.takenBytes + this.writableLength;
  }

  /** What came in many small messages is passed on as one chunk: each chunk costs whoever has to wait with it more than its bytes. */
  private passOn(): void {
    const { gathered } = this;
    if (gathered.length === 0 || this.destroyed) return;
    this.gathered = [];
    if (!this.push(gathered.length === 1 ? gathered[0] : Buffer.concat(gathered))) this.webSocket.pause();
  }

  private pong(): void {
    const data = this.lastPing;
    this.lastPing = undefined;
    const { webSocket } = this;
    if (webSocket.readyState === webSocket.OPEN && webSocket.bufferedAmount < maxUnsentForPong)
      webSocket.pong(data, false, () => {});
  }

  /** The client has logged in: its messages may be as large as any. */
  onLogin(): void {
    this.lower.off('data', this.countUnfinished);
  }

  override _read(): void {
    if (this.webSocket.isPaused) this.webSocket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.webSocket.send(chunk, binaryFrame, (error) => {
      this.takenBytes += chunk.length;
      callback(error);
    });
  }

  override _writev(writes: { chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    this._write(Buffer.concat(writes.map(({ chunk }) => chunk)), 'binary', callback);
  }

  override _final(callback: () => void): void {
    if (this.webSocket.readyState === this.webSocket.CLOSED) {
      callback();
      return;
    }
    this.webSocket.once('close', () => callback());
    this.webSocket.close(status.normal);
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    const { webSocket } = this;
    if (this.failure === undefined) {
      webSocket.terminate();
    } else {
      const linger = setTimeout(() => webSocket.terminate(), lingerMs);
      linger.unref();
      webSocket.once('close', () => clearTimeout(linger));
      webSocket.resume();
    }
    callback(error);
  }

  /** Ends the stream at once, telling the client the status. */
  private fail(reason: CloseReason, closeStatus?: number): void {
    if (this.destroyed) return;
    this.failure = reason;
    if (closeStatus !== undefined) this.webSocket.close(closeStatus);
    this.destroy();
  }
}
