import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type CloseReason, closeReasons } from '../../src/server/mqtt/protocol/close-reason.js';
import { decodePublish } from '../../src/server/mqtt/protocol/decode-publish.js';
import { checkFlags } from '../../src/server/mqtt/protocol/fixed-header.js';
import { PacketType, type ProtocolVersion } from '../../src/server/mqtt/protocol/packet-type.js';
import { decodeAcknowledge, encodeAcknowledge } from '../../src/server/mqtt/protocol/v3/acknowledge.js';
import { encodeConnack } from '../../src/server/mqtt/protocol/v3/connack.js';
import { decodeConnect } from '../../src/server/mqtt/protocol/v3/connect.js';
import { decodeSubscribe, decodeUnsubscribe } from '../../src/server/mqtt/protocol/v3/subscribe.js';
import { type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';
import {
  connectPacket,
  disconnectPacket,
  openRawClient,
  packet,
  pingreqPacket,
  publishPacket,
  pubrelPacket,
  type RawClient,
  subscribePacket,
  uint16,
  unsubscribePacket,
} from '../support/raw-client.js';

/** Where the variable header begins. */
function bodyOffsetOf(bytes: Buffer): number {
  let offset = 1;
  while ((bytes[offset] as number) >= 0x80) offset += 1;
  return offset + 1;
}

const text = (constraints: fc.StringConstraints = {}): fc.Arbitrary<string> =>
  fc
    .string({ unit: 'grapheme', maxLength: 40, ...constraints })
    .filter((value) => !value.includes('\0') && value.isWellFormed());
const topicText = text({ minLength: 1 }).filter((value) => !/[+#]/.test(value));
const filterText = fc
  .array(
    fc.oneof({ weight: 3, arbitrary: topicText.map((t) => t.replaceAll('/', '')) }, fc.constantFrom('+', '')),
    {
      minLength: 1,
      maxLength: 6,
    },
  )
  .chain((levels) => fc.constantFrom(levels.join('/'), [...levels, '#'].join('/')))
  .filter((filter) => filter !== '');
const bytes = (maxLength = 300): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));
const packetId = fc.integer({ min: 1, max: 65_535 });
const qos = fc.constantFrom(0, 1, 2);
const version = fc.constantFrom(3, 4);

const isReason = (value: unknown): boolean => typeof value === 'string' && Object.hasOwn(closeReasons, value);

describe('valid packets are read as they were written', () => {
  it('CONNECT', () => {
    const request = fc.record({
      version,
      clean: fc.boolean(),
      keepaliveSec: fc.integer({ min: 0, max: 65_535 }),
      clientId: text({ minLength: 1 }),
      userName: fc.option(text(), { nil: undefined }),
      password: fc.option(bytes(), { nil: undefined }),
      will: fc.option(fc.record({ topic: topicText, payload: bytes(), qos, retain: fc.boolean() }), {
        nil: undefined,
      }),
    });
    fc.assert(
      fc.property(request, (wanted) => {
        const password = wanted.userName === undefined ? undefined : wanted.password;
        const sent = connectPacket({
          ...wanted,
          password,
          level: wanted.version,
          protocolName: wanted.version === 3 ? 'MQIsdp' : 'MQTT',
        });
        const { clean, will, ...alike } = wanted;
        expect(decodeConnect(sent, bodyOffsetOf(sent))).toEqual({
          ...alike,
          password,
          will: will && { ...will, delaySec: 0, properties: undefined },
          cleanStart: clean,
          sessionExpirySec: clean ? 0 : Number.POSITIVE_INFINITY,
          receiveMaximum: 65_535,
          maxPacketBytes: Number.POSITIVE_INFINITY,
          topicAliasMaximum: 0,
          wantsResponseInformation: false,
          wantsProblemInformation: false,
          userProperties: [],
          authenticationMethod: undefined,
        });
      }),
    );
  });

  it('PUBLISH', () => {
    const message = fc.record({ topic: topicText, payload: bytes(), qos, retain: fc.boolean(), packetId });
    fc.assert(
      fc.property(message, fc.boolean(), version, (wanted, dup, spoken) => {
        const sent = publishPacket({ ...wanted, dup: dup && wanted.qos > 0 });
        const decoded = decodePublish(sent, bodyOffsetOf(sent), spoken);
        if (typeof decoded === 'string') throw new Error(decoded);
        const { packet: whole, topicStart, topicEnd, propertiesStart, propertiesEnd, ...rest } = decoded;
        expect(propertiesEnd).toBe(propertiesStart);
        expect({ ...rest, topic: whole.toString('utf8', topicStart, topicEnd) }).toEqual({
          ...wanted,
          packetId: wanted.qos > 0 ? wanted.packetId : 0,
        });
      }),
    );
  });

  it('SUBSCRIBE and UNSUBSCRIBE', () => {
    const filters = fc.array(fc.tuple(filterText, qos), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(packetId, filters, version, (id, wanted, spoken) => {
        const subscribe = subscribePacket(id, wanted);
        expect(decodeSubscribe(subscribe, bodyOffsetOf(subscribe), spoken)).toEqual({
          packetId: id,
          requests: wanted.map(([filter, requested]) => ({
            filter,
            qos: requested,
            noLocal: false,
            retainAsPublished: false,
            retainHandling: 0,
          })),
          subscriptionId: undefined,
        });
        const unsubscribe = unsubscribePacket(
          id,
          wanted.map(([filter]) => filter),
        );
        expect(decodeUnsubscribe(unsubscribe, bodyOffsetOf(unsubscribe))).toEqual({
          packetId: id,
          filters: wanted.map(([filter]) => filter),
        });
      }),
    );
  });

  it('acknowledgements, both ways', () => {
    const types = fc.constantFrom(
      PacketType.PUBACK,
      PacketType.PUBREC,
      PacketType.PUBREL,
      PacketType.PUBCOMP,
      PacketType.UNSUBACK,
    );
    fc.assert(
      fc.property(types, packetId, (type, id) => {
        const first = (type << 4) | (type === PacketType.PUBREL ? 2 : 0);
        expect(encodeAcknowledge(type, id)).toEqual(packet(first, uint16(id)));
        expect(decodeAcknowledge(packet(first, uint16(id)), 2)).toEqual({ packetId: id, reasonCode: 0 });
      }),
    );
  });

  it('CONNACK says session present with code 0 only [MQTT-3.2.2-4]', () => {
    for (const code of [0, 1, 2, 3, 4, 5] as const) {
      for (const present of [false, true]) {
        expect([...encodeConnack(code, present)]).toEqual([0x20, 2, present && code === 0 ? 1 : 0, code]);
      }
    }
  });
});

describe('what is cut from a valid packet is never taken for one', () => {
  it('CONNECT', () => {
    const whole = connectPacket({
      userName: 'user',
      password: 'secret',
      will: { topic: 't', payload: 'p', qos: 1 },
    });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: whole.length - 3 }), (length) => {
        expect(decodeConnect(packet(0x10, whole.subarray(2, 2 + length)), 2)).toBe('malformed-packet');
      }),
    );
  });

  it('SUBSCRIBE', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(filterText, qos), { minLength: 1, maxLength: 3 }),
        fc.nat(),
        version,
        (filters, cut, spoken) => {
          const body = subscribePacket(1, filters).subarray(bodyOffsetOf(subscribePacket(1, filters)));
          const length = cut % body.length;
          const boundaries = [2];
          for (const [filter] of filters)
            boundaries.push((boundaries.at(-1) as number) + Buffer.byteLength(filter) + 3);
          const decoded = decodeSubscribe(
            packet(0x82, Buffer.from(body.subarray(0, length))),
            bodyOffsetOf(packet(0x82, body.subarray(0, length))),
            spoken,
          );
          if (boundaries.includes(length) && length > 2) expect(isReason(decoded)).toBe(false);
          else expect(isReason(decoded)).toBe(true);
        },
      ),
    );
  });
});

describe('no bytes make a decoder throw', () => {
  const decoders: [
    name: string,
    first: number,
    decode: (bytes: Buffer, at: number, version: ProtocolVersion) => unknown,
  ][] = [
    ['CONNECT', 0x10, decodeConnect],
    ['PUBLISH', 0x30, decodePublish],
    ['PUBACK', 0x40, decodeAcknowledge],
    ['SUBSCRIBE', 0x82, decodeSubscribe],
    ['UNSUBSCRIBE', 0xa2, decodeUnsubscribe],
  ];
  it.each(decoders)('%s', (_name, first, decode) => {
    fc.assert(
      fc.property(bytes(64), fc.integer({ min: 0, max: 15 }), version, (body, flags, spoken) => {
        const decoded = decode(packet((first & 0xf0) | flags, body), 2, spoken);
        if (typeof decoded === 'string') expect(isReason(decoded)).toBe(true);
        else expect(decoded).toBeDefined();
      }),
      { numRuns: 2_000 },
    );
  });

  it.each(decoders)('%s, changed in a few bytes from a valid one', (name, _first, decode) => {
    const valid: Record<string, Buffer> = {
      CONNECT: connectPacket({
        userName: 'user',
        password: 'p',
        will: { topic: 'a/b', payload: 'x', qos: 1 },
      }),
      PUBLISH: publishPacket({ topic: 'a/b', qos: 1, payload: 'payload' }),
      PUBACK: packet(0x40, uint16(1)),
      SUBSCRIBE: subscribePacket(1, [
        ['a/+', 1],
        ['b/#', 0],
      ]),
      UNSUBSCRIBE: unsubscribePacket(1, ['a/+', 'b/#']),
    };
    const whole = valid[name] as Buffer;
    const change = fc.tuple(fc.integer({ min: 0, max: whole.length - 1 }), fc.integer({ min: 0, max: 255 }));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), version, (changes, spoken) => {
        const changed = Buffer.from(whole);
        for (const [at, value] of changes) if (at !== 1) changed[at] = value;
        const decoded = decode(changed, 2, spoken);
        if (typeof decoded === 'string') expect(isReason(decoded)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it('the flags of any first byte are judged', () => {
    for (let first = 0; first < 256; first++) {
      for (const version of [3, 4] as const) {
        const judged: CloseReason | undefined = checkFlags(first, version);
        expect([undefined, 'reserved-bits']).toContain(judged);
      }
    }
  });
});

describe('a running broker and garbage', () => {
  let controlled: ControlledBroker;
  let bystander: RawClient;
  const strays: unknown[] = [];
  const onStray = (error: unknown): void => {
    strays.push(error);
  };

  beforeAll(async () => {
    process.on('unhandledRejection', onStray);
    process.on('uncaughtException', onStray);
    controlled = await openControlledBroker({ acl: 'open' });
    bystander = await openRawClient(controlled.port);
    const { id, password } = controlled.otherDevice;
    bystander.send(connectPacket({ userName: id, password, clientId: 'bystander' }));
    expect((await bystander.next()).body[1]).toBe(0);
  });

  afterAll(async () => {
    bystander.destroy();
    await vi.waitFor(() => expect(controlled.broker.connectionCount()).toBe(0));
    await controlled.close();
    process.off('unhandledRejection', onStray);
    process.off('uncaughtException', onStray);
  });

  /** The last one, which a property that is interrupted does not wait for. */
  let fed: Promise<void> | undefined;
  afterEach(() => fed);
  const feed = (stream: Buffer, cuts: number[]) => {
    fed = sendCut(stream, cuts);
    return fed;
  };

  /** Sends the stream cut as told, ends, and waits until the server has let go of the connection. */
  async function sendCut(stream: Buffer, cuts: number[]): Promise<void> {
    const client = await openRawClient(controlled.port);
    client.socket.setNoDelay(true);
    const edges = [...new Set([...cuts.map((cut) => cut % (stream.length + 1)), stream.length])].toSorted(
      (a, b) => a - b,
    );
    let start = 0;
    for (const edge of edges) {
      client.send(Buffer.from(stream.subarray(start, edge)));
      start = edge;
      await new Promise((resolve) => setImmediate(resolve));
    }
    client.socket.end();
    client.socket.resume();
    await client.waitClosed();
    await vi.waitFor(() => expect(controlled.broker.connectionCount()).toBe(1), { interval: 1 });
    bystander.send(pingreqPacket);
    expect((await bystander.next()).type).toBe(13);
    expect(strays).toEqual([]);
  }

  const cuts = fc.array(fc.nat(), { maxLength: 6 });
  const login = (): Buffer => {
    const { id, password } = controlled.device;
    return connectPacket({ userName: id, password, clientId: 'garbage', clean: false });
  };
  /** Packets as a client would send them, valid and not, mixed with garbage. */
  const part = fc.oneof(
    bytes(40),
    fc.tuple(fc.integer({ min: 0, max: 255 }), bytes(40)).map(([first, body]) => packet(first, body)),
    fc.record({ topic: topicText, payload: bytes(), qos, packetId, retain: fc.boolean() }).map(publishPacket),
    fc
      .tuple(packetId, fc.array(fc.tuple(filterText, fc.integer({ min: 0, max: 3 })), { maxLength: 4 }))
      .map(([id, filters]) => subscribePacket(id, filters)),
    fc
      .tuple(packetId, fc.array(filterText, { maxLength: 4 }))
      .map(([id, filters]) => unsubscribePacket(id, filters)),
    packetId.map(pubrelPacket),
    packetId.map((id) => packet(0x40, uint16(id))),
    packetId.map((id) => packet(0x50, uint16(id))),
    packetId.map((id) => packet(0x70, uint16(id))),
    fc.constantFrom(pingreqPacket, disconnectPacket, connectPacket()),
  );
  const options = { numRuns: 150, interruptAfterTimeLimit: 9_000 };

  it('survives any bytes before login, cut anywhere', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(bytes(200), fc.array(part, { maxLength: 5 }).map(Buffer.concat)), cuts, feed),
      options,
    );
  });

  it('survives any packets and any bytes after login, cut anywhere', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 12 }), cuts, async (parts, at) => {
        const { accepted } = controlled.broker.counters;
        // A client that ends behind its CONNECT and nothing else has gone, and is not let in.
        await feed(Buffer.concat([login(), pingreqPacket, ...parts]), at);
        expect(controlled.broker.counters.accepted).toBe(accepted + 1);
      }),
      options,
    );
  });

  it('survives a CONNECT changed in a few bytes', async () => {
    const change = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }));
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), cuts, async (changes, at) => {
        const changed = login();
        for (const [where, value] of changes) changed[where % changed.length] = value;
        await feed(Buffer.concat([changed, pingreqPacket]), at);
      }),
      options,
    );
  });
});
