import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectNats, type NatsConnection } from 'nats';
import { connectPacket, pingreqPacket, publishPacket, pubrelPacket } from './raw-client.js';

export interface Credentials {
  readonly id: string;
  readonly password: string;
}

export interface PublisherOptions {
  /** Where the server is now. */
  port(): number;
  device: Credentials;
  qos: 1 | 2;
  /** How many messages are sent, numbered from 0; Infinity: until `finish`. */
  count: number;
  clientId?: string;
  /** Most messages without their first acknowledgement. */
  window?: number;
  /** Most new messages a second; default: as many as are acknowledged. */
  perSec?: number;
  /** Bytes of each payload at least. */
  payloadBytes?: number;
  keepaliveSec?: number;
  /** Sends PINGREQ so often. */
  pingEveryMs?: number;
}

/**
 * A client that publishes numbered messages `<client id> <number>` to `raw/<device id>`, and after a lost connection comes back
 * and sends again, in order and with DUP, what was not acknowledged, as [MQTT-4.4.0-1] asks.
 */
export interface Publisher {
  readonly clientId: string;
  /** Numbers whose PUBACK or PUBREC came. */
  readonly acknowledged: ReadonlySet<number>;
  /** Numbers sent so far: 0 to this, exclusive. */
  readonly sent: number;
  /** Connections that were accepted and then lost. */
  readonly disconnects: number;
  /** Return codes of CONNACKs other than 0. */
  readonly refusals: readonly number[];
  /** PINGRESPs received, and the longest that one took, the one waited for included. */
  readonly pings: { readonly answered: number; readonly longestMs: number };
  /** Resolves when everything is acknowledged, the second handshake of QoS 2 included. */
  readonly done: Promise<void>;
  /** Nothing new is sent; `done` resolves when all that was sent is acknowledged. */
  finish(): void;
  /** Ends the client without DISCONNECT. */
  destroy(): void;
}

interface Pending {
  readonly number: number;
  readonly packetId: number;
  phase: 'publish' | 'pubrel';
  /** Was sent on some connection. */
  sent: boolean;
}

const reconnectMs = 20;
const mostPacketIds = 60_000;

export function startPublisher(options: PublisherOptions): Publisher {
  const { device, qos, perSec } = options;
  const startedMs = performance.now();
  const clientId = options.clientId ?? device.id;
  const window = options.window ?? 50;
  const topic = `raw/${device.id}`;
  const acknowledged = new Set<number>();
  const refusals: number[] = [];
  /** By packet identifier, in order of sending. */
  const pending = new Map<number, Pending>();
  const pings = { answered: 0, longest: 0, sentAtMs: 0 };
  let count = options.count;
  let next = 0;
  let unacknowledged = 0;
  let disconnects = 0;
  let socket: Socket | undefined;
  let accepted = false;
  let over = false;
  let finished = () => {};
  const done = new Promise<void>((resolve) => {
    finished = resolve;
  });

  function payloadOf(number: number): string {
    return `${clientId} ${number}`.padEnd(options.payloadBytes ?? 0, ' ');
  }

  function publishBytes(entry: Pending): Buffer {
    const dup = entry.sent;
    entry.sent = true;
    const { number, packetId } = entry;
    return publishPacket({ topic, payload: payloadOf(number), qos, packetId, dup });
  }

  function open(): void {
    if (over) return;
    const opened = connectTcp({ host: '127.0.0.1', port: options.port(), noDelay: true });
    socket = opened;
    accepted = false;
    let rest: Buffer = Buffer.alloc(0);
    opened.on('connect', () => {
      const { keepaliveSec = 0 } = options;
      opened.write(
        connectPacket({
          userName: device.id,
          password: device.password,
          clientId,
          clean: false,
          keepaliveSec,
        }),
      );
    });
    opened.on('data', (chunk: Buffer) => {
      rest = read(rest.length === 0 ? chunk : Buffer.concat([rest, chunk]));
      fill();
    });
    opened.on('error', () => {});
    opened.on('close', () => {
      if (accepted && !over) disconnects += 1;
      accepted = false;
      pings.sentAtMs = 0;
      if (!over) setTimeout(open, reconnectMs);
    });
  }

  /** Handles whole packets; answers what is left. Every packet a publisher gets has two or four bytes. */
  function read(bytes: Buffer): Buffer {
    let at = 0;
    while (bytes.length - at >= 2) {
      const length = 2 + (bytes[at + 1] as number);
      if (bytes.length - at < length) break;
      handle((bytes[at] as number) >> 4, length === 4 ? bytes.readUInt16BE(at + 2) : 0);
      at += length;
    }
    return bytes.subarray(at);
  }

  function handle(type: number, value: number): void {
    if (type === 2) {
      if ((value & 0xff) === 0) resendAll();
      else refusals.push(value & 0xff);
    } else if (type === 13) {
      pings.longest = longestPing();
      pings.answered += 1;
      pings.sentAtMs = 0;
    } else if (type === 4) {
      acknowledge(value);
      pending.delete(value);
    } else if (type === 5) {
      acknowledge(value);
      socket?.write(pubrelPacket(value));
    } else if (type === 7) {
      pending.delete(value);
    }
    if (next >= count && pending.size === 0) {
      over = true;
      socket?.end();
      finished();
    }
  }

  function acknowledge(packetId: number): void {
    const entry = pending.get(packetId);
    if (entry === undefined) throw new Error(`${clientId}: an acknowledgement of ${packetId}, never sent`);
    if (entry.phase === 'publish') unacknowledged -= 1;
    if (qos === 2) entry.phase = 'pubrel';
    acknowledged.add(entry.number);
  }

  function resendAll(): void {
    accepted = true;
    const packets = [...pending.values()].map((entry) =>
      entry.phase === 'publish' ? publishBytes(entry) : pubrelPacket(entry.packetId),
    );
    if (packets.length > 0) socket?.write(Buffer.concat(packets));
  }

  function fill(): void {
    if (!accepted || over) return;
    const packets: Buffer[] = [];
    const due =
      perSec === undefined ? count : Math.min(count, ((performance.now() - startedMs) / 1_000) * perSec);
    while (next < due && unacknowledged < window && pending.size < mostPacketIds) {
      const packetId = (next % mostPacketIds) + 1;
      if (pending.has(packetId)) break;
      const entry: Pending = { number: next, packetId, phase: 'publish', sent: false };
      pending.set(packetId, entry);
      packets.push(publishBytes(entry));
      next += 1;
      unacknowledged += 1;
    }
    if (packets.length > 0) socket?.write(Buffer.concat(packets));
  }

  function longestPing(): number {
    return pings.sentAtMs === 0 ? pings.longest : Math.max(pings.longest, performance.now() - pings.sentAtMs);
  }

  const pinger =
    options.pingEveryMs === undefined
      ? undefined
      : setInterval(() => {
          if (!accepted || pings.sentAtMs !== 0) return;
          pings.sentAtMs = performance.now();
          socket?.write(pingreqPacket);
        }, options.pingEveryMs);
  const pacer = perSec === undefined ? undefined : setInterval(fill, 10);
  void done.then(() => {
    clearInterval(pinger);
    clearInterval(pacer);
  });
  open();

  return {
    clientId,
    acknowledged,
    refusals,
    done,
    get sent() {
      return next;
    },
    get disconnects() {
      return disconnects;
    },
    get pings() {
      return { answered: pings.answered, longestMs: longestPing() };
    },
    finish() {
      count = next;
      if (pending.size > 0) return;
      over = true;
      socket?.end();
      finished();
    },
    destroy() {
      over = true;
      clearInterval(pinger);
      clearInterval(pacer);
      socket?.destroy();
    },
  };
}

export interface StoredMessage {
  readonly subject: string;
  readonly payload: string;
}

/** Reads a whole stream back, in order. @param natsUrl one URL, or several with commas between them. */
export async function readStored(natsUrl: string, stream = 'RAW'): Promise<StoredMessage[]> {
  const connection = await connectNats({ servers: natsUrl.split(','), timeout: 10_000 });
  try {
    return await askAgain(async () => {
      const { state, cluster } = await (await connection.jetstreamManager()).streams.info(stream);
      // Without a leader a server answers with what it has by chance.
      if (cluster?.replicas !== undefined && (cluster.leader ?? '') === '')
        throw new Error(`${stream} has no leader`);
      return readMessages(connection, stream, state.messages);
    });
  } finally {
    await connection.close();
  }
}

/** What servers of a cluster answer, or do not, until one whose death is not noticed yet has a successor. */
const passing = /consumer is offline|has no leader|TIMEOUT/;

/** Asks a cluster until it is whole enough to answer. @param ask may be done twice. */
export async function askAgain<T>(ask: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await ask();
    } catch (error) {
      if (attempt === 20 || !passing.test(String(error))) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

/** Reads so many messages of a stream, in order, each once: a reader that is begun anew may be given some again. */
export async function readMessages(
  connection: NatsConnection,
  stream: string,
  count: number,
): Promise<StoredMessage[]> {
  const messages: StoredMessage[] = [];
  const { consumers } = connection.jetstream();
  let consumer = await consumers.get(stream, {});
  let last = 0;
  while (messages.length < count) {
    const before = last;
    const batch = await consumer.fetch({ max_messages: 5_000, expires: 5_000 });
    for await (const message of batch) {
      if (message.seq <= last) continue;
      last = message.seq;
      messages.push({ subject: message.subject, payload: message.string() });
      if (messages.length >= count) break;
    }
    // It may be on a server that has just died, where nobody answers it.
    if (last === before) consumer = await consumers.get(stream, { opt_start_seq: last + 1 });
  }
  return messages;
}

/** What a stream holds of one publisher: its numbers in the order of their first appearance, and how many are repeated. */
export interface StoredNumbers {
  readonly firsts: number[];
  readonly repeated: number;
}

/** Sorts a stream's messages of publishers by client id; fails on a message under another device's subject. */
export function numbersByClient(
  messages: readonly StoredMessage[],
  publishers: readonly { clientId: string; deviceId: string }[],
): Map<string, StoredNumbers> {
  const byClient = new Map(
    publishers.map(({ clientId, deviceId }) => [
      clientId,
      { subject: `raw.${deviceId}`, seen: new Set<number>(), total: 0 },
    ]),
  );
  for (const { subject, payload } of messages) {
    const [clientId = '', number = ''] = payload.trimEnd().split(' ');
    const entry = byClient.get(clientId);
    if (entry === undefined || entry.subject !== subject)
      throw new Error(`a message on ${subject} that nobody sent there: ${payload.slice(0, 80)}`);
    entry.seen.add(Number(number));
    entry.total += 1;
  }
  return new Map(
    [...byClient].map(([clientId, { seen, total }]) => [
      clientId,
      { firsts: [...seen], repeated: total - seen.size },
    ]),
  );
}
