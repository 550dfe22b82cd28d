import net from 'node:net';
import { Duplex } from 'node:stream';
import tls from 'node:tls';

/** How a connection may be made: without TLS, or with it where the server has it. */
export type Way = 'plain' | 'tls';

/** Asks the server for TLS; it answers with one byte. */
const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
const errorResponse = 'E'.charCodeAt(0);

/**
 * One connection to PostgreSQL, for the driver to use as a socket, made in the first of the given ways that the server
 * takes. After a failed handshake, and when the first answer is an error, as where pg_hba.conf takes the user in one way
 * only, it goes the next way and sends once more what the driver sent.
 *
 * @see https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
 */
export class NegotiatedStream extends Duplex {
  readonly #ways: Way[];
  readonly #tlsOptions: tls.ConnectionOptions;
  #address = { host: '', port: 0 };
  #keepAliveMs: number | undefined;
  /** The connection of now, under TLS if it has it; what happens to one before it is nobody's concern. */
  #socket: net.Socket | undefined;
  #usable = false;
  /** What the driver has sent until the first answer: its start-up message. */
  #sent: Buffer[] | undefined = [];

  constructor(ways: readonly Way[], tlsOptions: tls.ConnectionOptions) {
    super({ allowHalfOpen: false });
    this.#ways = [...ways];
    this.#tlsOptions = tlsOptions;
  }

  /** As of a socket: `connect` is emitted when the driver may begin. */
  connect(port: number, host: string): this {
    this.#address = { host, port };
    this.#goNextWay(new Error('There is no way to connect'));
    return this;
  }

  /** No connection delays what is written. */
  setNoDelay(): this {
    return this;
  }

  setKeepAlive(_on: boolean, initialDelayMs = 0): this {
    this.#keepAliveMs = initialDelayMs;
    this.#socket?.setKeepAlive(true, initialDelayMs);
    return this;
  }

  ref(): this {
    this.#socket?.ref();
    return this;
  }

  unref(): this {
    this.#socket?.unref();
    return this;
  }

  /** @param reason why the way before led nowhere: the error when there is no other. */
  #goNextWay(reason: Error): void {
    const before = this.#socket;
    this.#socket = undefined;
    this.#usable = false;
    before?.destroy();
    const way = this.#ways.shift();
    if (way === undefined) this.destroy(reason);
    if (this.destroyed) return;
    const raw = net.connect({ ...this.#address, noDelay: true });
    // Where nobody answers, another way makes no difference.
    this.#follow(raw, (error) => this.destroy(error));
    raw.once('connect', () => {
      if (way === 'plain') this.#use(raw);
      else raw.once('data', (answer) => this.#takeOffer(raw, answer)).write(sslRequest);
    });
  }

  #takeOffer(raw: net.Socket, answer: Buffer): void {
    if (this.#socket !== raw) return;
    raw.pause();
    // More than the one byte would be what somebody in between has put before the encrypted answer.
    const offer = answer.length === 1 ? answer.toString('latin1') : '';
    if (offer === 'S') this.#encrypt(raw);
    else if (offer === 'N') {
      this.#ways.length = 0;
      this.#use(raw);
    } else this.#goNextWay(new Error('There was an error establishing an SSL connection'));
  }

  #encrypt(raw: net.Socket): void {
    const { host } = this.#address;
    const name = net.isIP(host) === 0 ? { servername: host } : {};
    const secure = tls.connect({ ...this.#tlsOptions, socket: raw, host, ...name });
    this.#follow(secure, (error) => {
      if (this.#usable) this.destroy(error);
      else this.#goNextWay(error ?? new Error('The SSL connection ended in its handshake'));
    });
    secure.once('secureConnect', () => this.#use(secure));
  }

  /** Makes it the connection of now, and says when that ends or breaks. */
  #follow(socket: net.Socket, onGone: (error?: Error) => void): void {
    this.#socket = socket;
    const gone = (error?: Error) => {
      if (this.#socket === socket) onGone(error);
    };
    socket.on('error', gone).on('close', () => gone());
  }

  #use(socket: net.Socket): void {
    if (this.#socket !== socket) return;
    const isFirst = this.#sent?.length === 0;
    this.#usable = true;
    socket.on('data', (chunk: Buffer) => this.#take(socket, chunk));
    socket.on('end', () => {
      if (this.#socket === socket) this.push(null);
    });
    if (this.#keepAliveMs !== undefined) socket.setKeepAlive(true, this.#keepAliveMs);
    for (const chunk of this.#sent ?? []) socket.write(chunk);
    socket.resume();
    if (isFirst) this.emit('connect');
  }

  #take(socket: net.Socket, chunk: Buffer): void {
    if (this.#socket !== socket) return;
    if (this.#sent !== undefined && chunk[0] === errorResponse && this.#ways.length > 0) {
      this.#goNextWay(new Error('The server refused the connection'));
      return;
    }
    this.#sent = undefined;
    if (!this.push(chunk)) socket.pause();
  }

  override _read(): void {
    if (this.#usable) this.#socket?.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#sent?.push(Buffer.from(chunk));
    // Until there is a connection it waits, to be sent then.
    if (this.#usable) this.#socket?.write(chunk, done);
    else done();
  }

  override _final(done: () => void): void {
    if (this.#socket === undefined) done();
    else this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.destroy();
    done(error);
  }
}
