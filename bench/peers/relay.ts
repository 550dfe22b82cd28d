import { connect, createServer, type Socket } from 'node:net';

/**
 * The least that a Node.js process can do between MQTT clients and NATS, in a process of its own: it checks nobody, keeps what waits for
 * absent clients in memory, and passes bytes on. It speaks the 3.1.1 of the load, and nothing else.
 *
 * With `stored` it asks of NATS what sessions that outlive a process need: a record is written before CONNACK and after the last
 * acknowledgement, and commands are read from their stream, those that lie together by one request.
 */
const natsUrl = new URL(process.argv[2] ?? '');
const isStored = process.argv[3] === 'stored';

interface Device {
  readonly id: string;
  socket: Socket | undefined;
  packetId: number;
  waiting: Buffer[];
  /** Where its commands lie in the stream. */
  sequences: number[];
  /** Commands that it has not acknowledged. */
  unacked: number;
}

/** Takes one message; answers whether it was the last one. */
type OnAnswer = (headers: string, payload: Buffer) => boolean;

const devices = new Map<string, Device>();
/** Where the answers of devices go, by the token that they repeat. */
const replies = new Map<string, string>();
/** Who waits for an answer of NATS, by the number that is the last part of its subject. */
const requests = new Map<string, OnAnswer>();
let tokens = 0;
let lastSequence = 0;
let wanted: number[] = [];

const maxBatch = 256;
const record = 'x'.repeat(400);
const connack = Buffer.from([0x20, 2, 0, 0]);
const connackPresent = Buffer.from([0x20, 2, 1, 0]);

// What is sent to NATS in one turn leaves in one write.
let out: Uint8Array[] = [];
const nats = connect({ host: natsUrl.hostname, port: Number(natsUrl.port), noDelay: true });
tell(
  'CONNECT {"verbose":false,"pedantic":false,"lang":"relay","version":"0","headers":true}\r\n',
  'SUB call.> 1\r\nSUB cmd.> 2\r\nSUB inbox.* 3\r\n',
);
nats.on('data', openNatsReader());

function tell(...parts: (string | Buffer)[]): void {
  if (out.length === 0)
    setImmediate(() => {
      nats.write(Buffer.concat(out));
      out = [];
    });
  for (const part of parts) out.push(Buffer.from(part));
}

function request(subject: string, payload: string, onAnswer: OnAnswer): void {
  tokens += 1;
  requests.set(String(tokens), onAnswer);
  tell(`PUB ${subject} inbox.${tokens} ${payload.length}\r\n${payload}\r\n`);
}

function deviceOf(id: string): Device {
  const known = devices.get(id);
  if (known !== undefined) return known;
  const device = { id, socket: undefined, packetId: 0, waiting: [], sequences: [], unacked: 0 };
  devices.set(id, device);
  return device;
}

function openNatsReader(): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  return (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf('\r\n'); end >= 0; end = rest.indexOf('\r\n')) {
      const [verb, subject = '', ...fields] = rest.toString('latin1', 0, end).split(' ');
      const isMessage = verb === 'MSG' || verb === 'HMSG';
      const body = end + 2;
      const size = isMessage ? Number(fields.at(-1)) + 2 : 0;
      if (rest.length < body + size) return;
      const head = verb === 'HMSG' ? Number(fields.at(-2)) : 0;
      const headers = rest.toString('latin1', body, body + head);
      const reply = fields.length > (verb === 'HMSG' ? 3 : 2) ? fields[1] : undefined;
      if (isMessage) onMessage(subject, reply, headers, rest.subarray(body + head, body + size - 2));
      else if (verb === 'PING') tell('PONG\r\n');
      rest = rest.subarray(body + size);
    }
  };
}

function onMessage(subject: string, reply: string | undefined, headers: string, payload: Buffer): void {
  const [kind, id = '', what = ''] = subject.split('.');
  if (kind === 'inbox') {
    if (requests.get(id)?.(headers, payload) === true) requests.delete(id);
    return;
  }
  const device = deviceOf(id);
  if (kind === 'call') {
    if (device.socket === undefined || reply === undefined) return;
    tokens += 1;
    replies.set(String(tokens), reply);
    device.socket.write(encodePublish(device, `cmd/${id}/call/${tokens}/${what}`, payload));
  } else if (isStored) {
    lastSequence += 1;
    device.sequences.push(lastSequence);
  } else {
    device.waiting.push(encodePublish(device, `cmd/${id}/${what}`, payload));
    if (device.socket !== undefined) sendWaiting(device);
  }
}

function sendWaiting(device: Device): void {
  device.socket?.write(Buffer.concat(device.waiting));
  device.waiting = [];
}

function encodePublish(device: Device, topic: string, payload: Buffer): Buffer {
  const length = 4 + topic.length + payload.length;
  device.packetId = (device.packetId % 65_535) + 1;
  return Buffer.concat([
    Buffer.from(length < 128 ? [0x32, length] : [0x32, (length & 0x7f) | 0x80, length >> 7]),
    Buffer.from([0, topic.length]),
    Buffer.from(topic),
    Buffer.from([device.packetId >> 8, device.packetId & 0xff]),
    payload,
  ]);
}

/** The session goes on. */
function goOn(device: Device, socket: Socket): void {
  device.socket = socket;
  if (!isStored) {
    device.waiting.unshift(connackPresent);
    sendWaiting(device);
    return;
  }
  writeRecord(device, () => {
    socket.write(connackPresent);
    if (wanted.length === 0) setImmediate(readWanted);
    wanted.push(...device.sequences);
    device.unacked = device.sequences.length;
    device.sequences = [];
  });
}

function writeRecord(device: Device, onWritten: () => void): void {
  request(`$KV.svc-mqtt-sessions.${device.id}`, record, () => {
    onWritten();
    return true;
  });
}

function readWanted(): void {
  const sequences = wanted.sort((one, other) => one - other);
  wanted = [];
  for (let from = 0, to = 0; from < sequences.length; from = to) {
    const first = sequences[from] as number;
    while (to - from < maxBatch && sequences[to] === first + to - from) to += 1;
    request('$JS.API.DIRECT.GET.CMD', JSON.stringify({ seq: first, batch: to - from }), onStored);
  }
}

function onStored(headers: string, payload: Buffer): boolean {
  const subject = /Nats-Subject: (\S+)/.exec(headers)?.[1];
  // A status comes behind the last one.
  if (subject === undefined) return true;
  const [, id = '', what = ''] = subject.split('.');
  const device = deviceOf(id);
  device.waiting.push(encodePublish(device, `cmd/${id}/${what}`, payload));
  if (device.waiting.length === device.unacked) sendWaiting(device);
  return false;
}

function serve(socket: Socket): void {
  let device: Device | undefined;
  let rest: Buffer = Buffer.alloc(0);

  function onPacket(packet: Buffer, bodyAt: number): void {
    const type = (packet[0] ?? 0) >> 4;
    const firstEnd = bodyAt + 2 + packet.readUInt16BE(bodyAt);
    if (type === 1) {
      const isClean = ((packet[bodyAt + 7] ?? 0) & 2) !== 0;
      const userAt = bodyAt + 12 + packet.readUInt16BE(bodyAt + 10);
      device = deviceOf(packet.toString('latin1', userAt + 2, userAt + 2 + packet.readUInt16BE(userAt)));
      if (isClean) socket.write(connack);
      else goOn(device, socket);
    } else if (type === 8) {
      if (device !== undefined) device.socket = socket;
      socket.write(Buffer.from([0x90, 3, packet[bodyAt] ?? 0, packet[bodyAt + 1] ?? 0, 1]));
    } else if (type === 3) {
      const token =
        packet
          .toString('latin1', bodyAt + 2, firstEnd)
          .split('/')
          .at(-1) ?? '';
      const reply = replies.get(token);
      replies.delete(token);
      const payload = packet.subarray(firstEnd + 2);
      if (reply !== undefined) tell(`PUB ${reply} ${payload.length}\r\n`, payload, '\r\n');
      socket.write(Buffer.from([0x40, 2, packet[firstEnd] ?? 0, packet[firstEnd + 1] ?? 0]));
    } else if (type === 4 && isStored && device !== undefined) {
      device.unacked -= 1;
      if (device.unacked === 0) writeRecord(device, () => {});
    }
  }

  socket.on('data', (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length > 2) {
      const [, low = 0, high = 0] = rest;
      const bodyAt = low > 127 ? 3 : 2;
      const end = bodyAt + (low > 127 ? (low & 0x7f) | (high << 7) : low);
      if (rest.length < end) return;
      // DISCONNECT has no body.
      if (end > bodyAt) onPacket(rest.subarray(0, end), bodyAt);
      rest = rest.subarray(end);
    }
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    if (device?.socket === socket) device.socket = undefined;
  });
}

const server = createServer({ noDelay: true }, serve);
server.listen(0, '127.0.0.1', 16_384, () => {
  const address = server.address();
  process.stdout.write(`port ${typeof address === 'object' ? address?.port : address}\n`);
});
process.on('SIGTERM', () => process.exit(0));
process.on('SIGINT', () => {});
