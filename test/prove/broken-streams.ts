import fc from 'fast-check';
import { field, packet, remainingLength, uint16 } from '../support/raw-client.js';

/** What one client sends: a right beginning, then perhaps something that is not, cut anywhere. */
export interface Script {
  readonly version: 3 | 4 | 5;
  /** CONNECT itself is broken, so that nobody is logged in. */
  readonly strange: boolean;
  readonly packets: readonly Packet[];
  readonly tail: Tail;
  /** Shares of the stream at which it is cut. */
  readonly cuts: readonly number[];
  /** Leaves at once when all is sent. */
  readonly hasty: boolean;
}

type Packet =
  | { readonly type: 'publish'; readonly qos: 0 | 1 | 2; readonly bytes: number; readonly retain: boolean }
  | { readonly type: 'subscribe' }
  | { readonly type: 'ping' };

type Tail =
  | { readonly type: 'none' }
  | { readonly type: 'noise'; readonly bytes: Uint8Array }
  /** A right packet with one byte changed. */
  | { readonly type: 'changed'; readonly at: number; readonly by: number }
  /** The beginning of a packet, and no more. */
  | { readonly type: 'part'; readonly share: number }
  /** A packet that says it is so long. */
  | { readonly type: 'huge'; readonly length: number };

const packets: fc.Arbitrary<Packet> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant('publish' as const),
      qos: fc.constantFrom(0 as const, 1 as const, 2 as const),
      bytes: fc.oneof(fc.nat(200), fc.nat(20_000)),
      retain: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ type: 'subscribe' as const }) },
  { weight: 1, arbitrary: fc.constant({ type: 'ping' as const }) },
);

const tails: fc.Arbitrary<Tail> = fc.oneof(
  { weight: 3, arbitrary: fc.constant({ type: 'none' as const }) },
  fc.record({ type: fc.constant('noise' as const), bytes: fc.uint8Array({ minLength: 1, maxLength: 300 }) }),
  fc.record({ type: fc.constant('changed' as const), at: fc.nat(200), by: fc.integer({ min: 1, max: 255 }) }),
  fc.record({ type: fc.constant('part' as const), share: fc.double({ min: 0.01, max: 0.99, noNaN: true }) }),
  fc.record({ type: fc.constant('huge' as const), length: fc.integer({ min: 2_000_000, max: 268_435_455 }) }),
);

const scripts: fc.Arbitrary<Script> = fc.record({
  version: fc.constantFrom(3 as const, 4 as const, 5 as const),
  strange: fc.nat(4).map((value) => value === 0),
  packets: fc.array(packets, { maxLength: 25 }),
  tail: tails,
  cuts: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 }),
  hasty: fc.nat(4).map((value) => value === 0),
});

/** So many scripts, the same for the same seed. */
export function drawScripts(seed: number, count: number): Script[] {
  return fc.sample(scripts, { seed: seed | 0, numRuns: count });
}

/** One client's stream as bytes, and which packet identifiers carry which numbers. */
export interface Stream {
  readonly chunks: readonly Buffer[];
  readonly numbers: ReadonlyMap<number, { readonly number: number; readonly qos: 1 | 2 }>;
}

/**
 * @param names.payload of the message with this number; what else is published says `noise`.
 */
export function writeStream(
  script: Script,
  names: {
    deviceId: string;
    password: string;
    clientId: string;
    payload(number: number, qos: 1 | 2): string;
  },
): Stream {
  const { version } = script;
  const properties = version === 5 ? Buffer.from([0]) : Buffer.alloc(0);
  const numbers = new Map<number, { number: number; qos: 1 | 2 }>();
  const publish = (payload: string, qos: number, packetId: number, retain = false): Buffer =>
    packet(
      0x30 | (qos << 1) | (retain ? 1 : 0),
      field(`raw/${names.deviceId}`),
      qos === 0 ? Buffer.alloc(0) : uint16(packetId),
      properties,
      Buffer.from(payload),
    );
  const connect = packet(
    0x10,
    field(version === 3 ? 'MQIsdp' : 'MQTT'),
    Buffer.from([version, 0xc2]),
    uint16(60),
    properties,
    field(names.clientId),
    field(names.deviceId),
    field(names.password),
  );

  const parts = [connect];
  script.packets.forEach((each, index) => {
    const packetId = index + 1;
    if (each.type === 'ping') parts.push(Buffer.from([0xc0, 0]));
    else if (each.type === 'subscribe')
      parts.push(
        packet(0x82, uint16(packetId), properties, field(`cmd/${names.deviceId}/#`), Buffer.from([1])),
      );
    else if (each.qos === 0) parts.push(publish('noise'.padEnd(each.bytes), 0, 0, each.retain));
    else {
      numbers.set(packetId, { number: index, qos: each.qos });
      parts.push(publish(names.payload(index, each.qos).padEnd(each.bytes), each.qos, packetId, each.retain));
    }
  });
  parts.push(writeTail(script.tail, publish('noise', 1, script.packets.length + 1)));
  const bytes = Buffer.concat(parts);
  if (script.strange) {
    // Somewhere in CONNECT, by what the tail says: the tail's own bytes then find nobody logged in.
    const at = (script.cuts.length * 7) % connect.length;
    bytes[at] = ((bytes[at] as number) + 1 + script.packets.length) & 0xff;
  }
  const borders = [0, ...script.cuts.map((share) => Math.floor(share * bytes.length)), bytes.length];
  borders.sort((one, other) => one - other);
  const chunks = borders.slice(1).map((end, index) => bytes.subarray(borders[index], end));
  return { chunks: chunks.filter(({ length }) => length > 0), numbers };
}

function writeTail(tail: Tail, right: Buffer): Buffer {
  if (tail.type === 'none') return Buffer.alloc(0);
  if (tail.type === 'noise') return Buffer.from(tail.bytes);
  if (tail.type === 'part') return right.subarray(0, Math.ceil(right.length * tail.share));
  if (tail.type === 'huge') return Buffer.concat([Buffer.from([0x32]), remainingLength(tail.length), right]);
  const changed = Buffer.from(right);
  const at = tail.at % right.length;
  changed[at] = ((changed[at] as number) + tail.by) & 0xff;
  return changed;
}
