import type { CloseReason } from './protocol/close-reason.js';
import { type ByteSocket, probeSilence } from './transport/accepted-socket.js';

/** What is left of the time for CONNECT to refuse it. */
const refusalMarginMs = 200;

/**
 * How long one client may be silent: for CONNECT as long as the setting says, then one and a half times its keep alive
 * [MQTT-3.1.2-24]. All times are `performance.now()`.
 */
export class Silence {
  /** Of the last bytes received. */
  lastReadMs = performance.now();
  /** One and a half times the keep alive; 0: the client may be silent as long as it likes. */
  keepaliveMs = 0;
  private readonly socket: ByteSocket;
  private readonly connectTimeoutMs: number;
  private deadlineMs: number;
  private hasJoined = false;
  /** The client waits for its turn to join, which is not its time. */
  private waits = false;
  /** TCP sees whether the client is there. */
  private isProbed = false;

  constructor(socket: ByteSocket, connectTimeoutMs: number) {
    this.socket = socket;
    this.connectTimeoutMs = connectTimeoutMs;
    this.deadlineMs = this.lastReadMs + connectTimeoutMs;
  }

  /** Until then CONNECT can be refused with a code. */
  get refuseUntilMs(): number {
    return this.deadlineMs - refusalMarginMs;
  }

  onRead(): void {
    this.lastReadMs = performance.now();
    if (this.keepaliveMs > 0) this.deadlineMs = this.lastReadMs + this.keepaliveMs;
  }

  /** The client waits for its turn to join, or no longer: meanwhile the time for CONNECT does not pass. */
  onWait(waits: boolean): void {
    this.waits = waits;
    this.deadlineMs = performance.now() + this.connectTimeoutMs;
  }

  /** The client has joined. @param keepaliveSec 0: none. */
  onJoined(keepaliveSec: number): void {
    this.hasJoined = true;
    this.keepaliveMs = keepaliveSec * 1_500;
    this.deadlineMs = this.keepaliveMs > 0 ? performance.now() + this.keepaliveMs : Number.POSITIVE_INFINITY;
    this.probe(this.keepaliveMs === 0);
  }

  /**
   * Called about once a second.
   *
   * @param isHeld the client is not read.
   * @returns why the connection must close, if it must.
   */
  check(nowMs: number, isHeld: boolean): CloseReason | undefined {
    if (this.hasJoined && isHeld) {
      // The client cannot be silent while it is not being read, and has all its time again when it is.
      if (this.keepaliveMs > 0) this.deadlineMs = nowMs + this.keepaliveMs;
      if (nowMs - this.lastReadMs > this.keepaliveMs) this.probe(true);
      return undefined;
    }
    this.probe(this.hasJoined && this.keepaliveMs === 0);
    if (nowMs <= this.deadlineMs || this.waits) return undefined;
    return this.hasJoined ? 'keepalive-timeout' : 'connect-timeout';
  }

  private probe(enable: boolean): void {
    if (enable === this.isProbed) return;
    this.isProbed = enable;
    probeSilence(this.socket, enable);
  }
}
