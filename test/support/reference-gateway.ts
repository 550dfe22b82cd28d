/**
 * The uplink of one client, said as plainly as possible: the whole stream at once, every packet parsed field by field,
 * every rule in the order of the specification, nothing remembered but the open QoS 2 exchanges. The gateway's own path is
 * compared with it; it shares no code with it.
 */

export interface Outcome {
  readonly forwarded: readonly ForwardedMessage[];
  /** `PUBACK 7`, `PUBREC 7`, `PUBCOMP 7`, in order. */
  readonly acknowledged: readonly string[];
  readonly pongs: number;
  /** `beyond`: a packet came that the reference does not know; what came before it holds. */
  readonly end: 'open' | 'closed' | 'beyond';
}

export interface ForwardedMessage {
  readonly topic: string;
  readonly payload: string;
  readonly qos: number;
  readonly retain: boolean;
}

/** @param stream what the client sends behind an accepted CONNECT of MQTT 3.1.1. */
export function runReferenceGateway(
  stream: Buffer,
  rules: { mayPublish(topic: string): boolean; maxPacketBytes: number },
): Outcome {
  const forwarded: ForwardedMessage[] = [];
  const acknowledged: string[] = [];
  const exchanges = new Set<number>();
  let pongs = 0;
  let rest = stream;
  const finish = (end: Outcome['end']): Outcome => ({ forwarded, acknowledged, pongs, end });

  while (true) {
    const header = readHeader(rest);
    if (header === 'incomplete') return finish('open');
    if (header === 'malformed') return finish('closed');
    const packetBytes = header.bytes + header.remaining;
    if (packetBytes > rules.maxPacketBytes) return finish('closed');
    if (rest.length < packetBytes) return finish('open');
    const body = rest.subarray(header.bytes, packetBytes);
    const first = rest[0] as number;
    rest = rest.subarray(packetBytes);

    if (first >> 4 === 3) {
      const qos = (first >> 1) & 3;
      const publish = readPublish(body, qos);
      if (publish === undefined || qos === 3 || (qos === 0 && (first & 8) !== 0)) return finish('closed');
      const { topic, payload, packetId } = publish;
      if (topic === '' || /[+#]/.test(topic) || !rules.mayPublish(topic)) return finish('closed');
      if (!(qos === 2 && exchanges.has(packetId))) {
        forwarded.push({ topic, payload: payload.toString('hex'), qos, retain: (first & 1) === 1 });
      }
      if (qos === 1) acknowledged.push(`PUBACK ${packetId}`);
      if (qos === 2) {
        exchanges.add(packetId);
        acknowledged.push(`PUBREC ${packetId}`);
      }
    } else if (first === 0x62) {
      if (body.length !== 2 || body.readUInt16BE(0) === 0) return finish('closed');
      exchanges.delete(body.readUInt16BE(0));
      acknowledged.push(`PUBCOMP ${body.readUInt16BE(0)}`);
    } else if (first === 0xc0 && body.length === 0) {
      pongs += 1;
    } else if (first === 0xe0) {
      return finish('closed');
    } else {
      return finish('beyond');
    }
  }
}

function readHeader(bytes: Buffer): { bytes: number; remaining: number } | 'incomplete' | 'malformed' {
  let remaining = 0;
  for (let index = 1; index <= 4; index += 1) {
    const byte = bytes[index];
    if (byte === undefined) return 'incomplete';
    remaining += (byte % 128) * 128 ** (index - 1);
    if (byte < 128) return { bytes: index + 1, remaining };
  }
  return 'malformed';
}

function readPublish(
  body: Buffer,
  qos: number,
): { topic: string; payload: Buffer; packetId: number } | undefined {
  if (body.length < 2) return undefined;
  const topicEnd = 2 + body.readUInt16BE(0);
  const payloadStart = topicEnd + (qos > 0 ? 2 : 0);
  if (payloadStart > body.length) return undefined;
  const packetId = qos > 0 ? body.readUInt16BE(topicEnd) : 0;
  if (qos > 0 && packetId === 0) return undefined;
  let topic: string;
  try {
    topic = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body.subarray(2, topicEnd));
  } catch {
    return undefined;
  }
  if (topic.includes('\0')) return undefined;
  return { topic, payload: body.subarray(payloadStart), packetId };
}
