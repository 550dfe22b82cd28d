import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { encodeLength } from '../../server/mqtt/protocol/fixed-header.js';
import { PacketType } from '../../server/mqtt/protocol/packet-type.js';
import { FrameReader } from '../../server/mqtt/transport/frame-reader.js';

/** The versions of MQTT that are tried, with what people call them. */
export const probedVersions = { 4: '3.1.1', 5: '5' } as const;
export type ProbedVersion = keyof typeof probedVersions;

type Reached = 'nowhere' | 'connected' | 'logged-in';

/** The connection has ended, and why, as a clause. */
export class VisitEnded extends Error {
  readonly reached: Reached;

  constructor(reached: Reached, why: string) {
    super(why);
    this.reached = reached;
  }
}

/** Where a connection goes. */
export interface Place {
  readonly host: string;
  readonly port: number;
  /** The certificate is not looked at: it names the server as devices reach it. */
  readonly tls: boolean;
  /** Sent before anything else, for a server that expects a proxy here. */
  readonly preamble: string;
  /** For all of it. */
  readonly timeoutMs: number;
  /** Ends it early. */
  readonly signal: AbortSignal;
}

export interface VisitOptions extends Place {
  readonly version: ProbedVersion;
  readonly clientId: string;
  readonly user: string;
  readonly password: string;
  /** With MQTT 5: the session of this client id goes on, and outlives the connection for so long. */
  readonly sessionExpirySec?: number;
}

const disconnect = Buffer.from([PacketType.DISCONNECT << 4, 0]);
const keepaliveSec = 30;
const maxAnswerBytes = 1_024;
const closedWithinMs = 1_000;

/** Connects as a device. @throws VisitEnded */
export async function visitMqtt(options: VisitOptions) {
  const { host, port, signal } = options;
  const tcp = connectTcp({ host, port, noDelay: true });
  if (options.preamble !== '') tcp.write(options.preamble);
  const socket = options.tls ? connectTls({ socket: tcp, rejectUnauthorized: false }) : tcp;
  const reader = new FrameReader();
  const packets: Buffer[] = [];
  let reached: Reached = 'nowhere';
  let ended: VisitEnded | undefined;
  let wake = () => {};

  function end(why: string): VisitEnded {
    ended ??= new VisitEnded(reached, why);
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
    socket.destroy();
    tcp.destroy();
    wake();
    return ended;
  }
  const timer = setTimeout(() => end(`no answer within ${options.timeoutMs / 1_000} s`), options.timeoutMs);
  const stop = () => void end('the doctor was interrupted');
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  tcp.on('error', (error) => end(error.message));
  socket.on('error', (error) => end(error.message));
  socket.on('close', () => end('the connection was closed'));
  socket.on(options.tls ? 'secureConnect' : 'connect', () => {
    reached = 'connected';
    socket.write(encodeConnect(options));
  });
  socket.on('data', (chunk: Buffer) => {
    reader.push(chunk);
    for (;;) {
      const packet = reader.next(maxAnswerBytes);
      if (packet === undefined) break;
      if (typeof packet === 'string') {
        end('an answer that is not MQTT');
        break;
      }
      packets.push(Buffer.from(packet));
    }
    wake();
  });

  /** The next packet, which has to be of this type. @throws VisitEnded */
  async function next(type: PacketType): Promise<Buffer> {
    while (packets.length === 0) {
      if (ended !== undefined) throw ended;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    const packet = packets.shift() as Buffer;
    const found = (packet[0] as number) >> 4;
    if (found === type) return packet;
    throw end(
      found === PacketType.DISCONNECT ? `DISCONNECT ${packet[2] ?? 0}` : 'an answer that is not MQTT',
    );
  }

  const connack = await next(PacketType.CONNACK);
  if (connack[3] !== 0) throw end(`CONNACK ${connack[3] ?? 0}`);
  reached = 'logged-in';
  return {
    /** The client went on with a session. */
    sessionPresent: connack[2] === 1,
    send: (packet: Buffer) => void socket.write(packet),
    next,
    /** Sends a last packet and goes; resolves when the server has closed. Idempotent. */
    async leave(packet = disconnect) {
      if (ended !== undefined) return;
      const closed = new Promise<void>((resolve) => {
        socket.once('close', resolve);
        setTimeout(resolve, closedWithinMs).unref();
      });
      socket.end(packet);
      await closed;
      end('it is over');
    },
  };
}

/** CONNECT with user name and password (MQTT 3.1.1 §3.1; in MQTT 5 with properties). */
function encodeConnect(options: VisitOptions): Buffer {
  const { version, clientId, user, password, sessionExpirySec } = options;
  const expiry = Buffer.from([0x11, 0, 0, 0, 0]);
  expiry.writeUInt32BE(sessionExpirySec ?? 0, 1);
  const properties = version === 5 ? [expiry.length, ...expiry] : [];
  const flags = sessionExpirySec === undefined ? 0b1100_0010 : 0b1100_0000;
  const header = Buffer.from([0, 4, ...Buffer.from('MQTT'), version, flags, 0, keepaliveSec, ...properties]);
  const body = Buffer.concat([header, field(clientId), field(user), field(password)]);
  return Buffer.concat([Buffer.from([PacketType.CONNECT << 4, ...encodeLength(body.length)]), body]);
}

/** A text as MQTT has it. */
export function field(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
}
