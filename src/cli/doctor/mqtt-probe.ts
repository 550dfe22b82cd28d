import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { encodeLength } from '../../server/mqtt/protocol/fixed-header.js';
import { PacketType } from '../../server/mqtt/protocol/packet-type.js';
import { codecs3 } from '../../server/mqtt/protocol/v3/codec.js';
import { codec5 } from '../../server/mqtt/protocol/v5/codec.js';
import { FrameReader } from '../../server/mqtt/transport/frame-reader.js';

/** How far one message of one device got. */
export type ProbeOutcome =
  | { readonly reached: 'acknowledged'; readonly timeMs: number }
  | { readonly reached: 'nowhere' | 'connected' | 'logged-in'; readonly why: string };

/** The versions of MQTT that are tried, with what people call them. */
export const probedVersions = { 4: '3.1.1', 5: '5' } as const;
export type ProbedVersion = keyof typeof probedVersions;

const disconnect = Buffer.from([PacketType.DISCONNECT << 4, 0]);
const keepaliveSec = 30;
const maxAnswerBytes = 1_024;

/** Connects as a device, publishes one message with QoS 1 and waits for its PUBACK. */
export function probeMqtt(options: {
  host: string;
  port: number;
  /** The certificate is not looked at: it names the server as devices reach it. */
  tls: boolean;
  /** Sent before anything else, for a server that expects a proxy here. */
  preamble: string;
  version: ProbedVersion;
  user: string;
  password: string;
  topic: string;
  payload: Buffer;
  timeoutMs: number;
  /** Ends it early. */
  signal: AbortSignal;
}): Promise<ProbeOutcome> {
  return new Promise((resolve) => {
    const { host, port } = options;
    const codec = options.version === 5 ? codec5 : codecs3[4];
    const tcp = connectTcp({ host, port, noDelay: true });
    if (options.preamble !== '') tcp.write(options.preamble);
    const socket = options.tls ? connectTls({ socket: tcp, rejectUnauthorized: false }) : tcp;
    const reader = new FrameReader();
    let reached: 'nowhere' | 'connected' | 'logged-in' = 'nowhere';
    let sentAtMs = 0;
    const end = (outcome: ProbeOutcome) => {
      clearTimeout(timer);
      options.signal.removeEventListener('abort', stop);
      socket.destroy();
      tcp.destroy();
      resolve(outcome);
    };
    const timer = setTimeout(
      () => end({ reached, why: `no answer within ${options.timeoutMs / 1_000} s` }),
      options.timeoutMs,
    );
    tcp.on('error', (error) => end({ reached, why: error.message }));
    const stop = () => end({ reached, why: 'the doctor was interrupted' });
    options.signal.addEventListener('abort', stop, { once: true });
    if (options.signal.aborted) stop();
    socket.on(options.tls ? 'secureConnect' : 'connect', () => {
      reached = 'connected';
      socket.write(encodeConnect(options));
    });
    socket.on('data', (chunk: Buffer) => {
      reader.push(chunk);
      const packet = reader.next(maxAnswerBytes);
      if (packet === undefined) return;
      const type = typeof packet === 'string' ? undefined : (packet[0] as number) >> 4;
      // Of CONNACK and PUBACK, each less than 128 bytes long here, and of DISCONNECT; MQTT 5 leaves out a 0.
      const code = packet[type === PacketType.PUBACK ? 4 : type === PacketType.CONNACK ? 3 : 2] ?? 0;
      if (reached === 'connected' && type === PacketType.CONNACK) {
        if (code !== 0) {
          end({ reached, why: `CONNACK ${code}` });
          return;
        }
        reached = 'logged-in';
        sentAtMs = performance.now();
        const message = { topic: options.topic, payload: options.payload, retain: false };
        socket.write(codec.encodePublish(message, { qos: 1, packetId: 1, dup: false }));
      } else if (reached === 'logged-in' && type === PacketType.PUBACK) {
        socket.write(disconnect);
        if (code === 0) end({ reached: 'acknowledged', timeMs: performance.now() - sentAtMs });
        else end({ reached, why: `PUBACK ${code}` });
      } else if (reached === 'logged-in' && type === PacketType.DISCONNECT) {
        end({ reached, why: `DISCONNECT ${code}` });
      } else {
        end({ reached, why: 'an answer that is not MQTT' });
      }
    });
    socket.on('error', (error) => end({ reached, why: error.message }));
    socket.on('close', () => end({ reached, why: 'the connection was closed' }));
  });
}

/** CONNECT with user name, password and a clean session (MQTT 3.1.1 §3.1); in MQTT 5 there are no properties. */
function encodeConnect(options: { version: ProbedVersion; user: string; password: string }): Buffer {
  const { version, user, password } = options;
  const properties = version === 5 ? [0] : [];
  const flags = 0b1100_0010;
  const header = Buffer.from([0, 4, ...Buffer.from('MQTT'), version, flags, 0, keepaliveSec, ...properties]);
  const body = Buffer.concat([header, field('doctor'), field(user), field(password)]);
  return Buffer.concat([Buffer.from([PacketType.CONNECT << 4, ...encodeLength(body.length)]), body]);
}

function field(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
}
