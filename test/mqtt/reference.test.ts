import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';
import {
  connectPacket,
  disconnectPacket,
  openRawClient,
  pingreqPacket,
  publishPacket,
  pubrelPacket,
  type RawClient,
} from '../support/raw-client.js';
import { type Outcome, runReferenceGateway } from '../support/reference-gateway.js';

const maxPacketBytes = 4_096;
let controlled: ControlledBroker;

beforeAll(async () => {
  controlled = await openControlledBroker({ maxPacketBytes });
  controlled.storeAtOnce = true;
});

afterAll(async () => {
  await controlled.close();
});

const packetId = fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 65_535 }));
const ownTopic = fc.oneof(
  fc.constantFrom('raw.dev1', 'raw/dev1', 'raw/dev1/t', 'raw/dev1/', 'raw/dev1//é\u{1F600}'),
  fc.string({ maxLength: 12 }).map((text) => `raw/dev1/${text.replace(/[+#\0]/g, '_')}`),
);
const anyTopic = fc.oneof(
  { weight: 60, arbitrary: ownTopic },
  {
    weight: 1,
    arbitrary: fc.constantFrom('', 'raw.dev2', 'raw/dev10', 'raw/dev1/+', 'raw/#', '$SYS/x', 'a\0'),
  },
  { weight: 1, arbitrary: fc.constantFrom(Buffer.from([0xff]), Buffer.from('raw/dev1/\xc3', 'latin1')) },
);
const publish = fc
  .record({
    topic: anyTopic,
    payload: fc.oneof(
      { weight: 20, arbitrary: fc.uint8Array({ maxLength: 40 }) },
      { weight: 4, arbitrary: fc.uint8Array({ minLength: 120, maxLength: 1_500 }) },
      { weight: 1, arbitrary: fc.constantFrom(3_000, 4_060, 4_100).map((length) => new Uint8Array(length)) },
    ),
    qos: fc.oneof(
      { weight: 20, arbitrary: fc.constantFrom(0, 1, 2) },
      { weight: 1, arbitrary: fc.constant(3) },
    ),
    packetId,
    dup: fc.boolean(),
    retain: fc.boolean(),
  })
  .map(({ dup, payload, ...rest }) =>
    publishPacket({ ...rest, payload: Buffer.from(payload), dup: dup && rest.qos > 0 }),
  );
const packets = fc.oneof(
  { weight: 30, arbitrary: publish },
  { weight: 8, arbitrary: packetId.map(pubrelPacket) },
  { weight: 4, arbitrary: fc.constant(pingreqPacket) },
  { weight: 1, arbitrary: fc.constant(disconnectPacket) },
);

interface Run {
  readonly stream: Buffer;
  /** Where the stream is cut, ascending. */
  readonly cuts: readonly number[];
}

const runs: fc.Arbitrary<Run> = fc
  .record({
    list: fc.array(packets, { minLength: 1, maxLength: 40 }),
    /** Bytes changed: where, as a fraction, and to what. */
    damage: fc.oneof(
      { weight: 4, arbitrary: fc.constant([]) },
      {
        weight: 1,
        arbitrary: fc.array(fc.tuple(fc.double({ min: 0, max: 0.999, noNaN: true }), fc.nat(255)), {
          maxLength: 2,
        }),
      },
    ),
    cuts: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 25 }),
    missing: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(20) }),
  })
  .map(({ list, damage, cuts, missing }) => {
    const whole = Buffer.concat(list);
    for (const [at, byte] of damage) whole[Math.floor(at * whole.length)] = byte;
    const stream = whole.subarray(0, Math.max(1, whole.length - missing));
    return {
      stream,
      cuts: [...new Set(cuts.map((cut) => Math.floor(cut * stream.length)))].sort((a, b) => a - b),
    };
  });

async function openClient(): Promise<RawClient> {
  const client = await openRawClient(controlled.port);
  const { id, password } = controlled.device;
  client.send(connectPacket({ userName: id, password }));
  expect((await client.next()).body).toEqual(Buffer.from([0, 0]));
  return client;
}

const acknowledgementNames: Readonly<Record<number, string>> = { 4: 'PUBACK', 5: 'PUBREC', 7: 'PUBCOMP' };

/** What the client has been answered, behind CONNACK. */
function readAnswers(client: RawClient): Pick<Outcome, 'acknowledged' | 'pongs'> {
  const answers = client.received.slice(1);
  return {
    acknowledged: answers
      .filter(({ type }) => type in acknowledgementNames)
      .map(({ type, body }) => `${acknowledgementNames[type]} ${body.readUInt16BE(0)}`),
    pongs: answers.filter(({ type }) => type === 13).length,
  };
}

it('does with any stream, cut anywhere, what the reference does', { timeout: 300_000 }, async () => {
  const ends = { open: 0, closed: 0, beyond: 0 };
  await fc.assert(
    fc.asyncProperty(runs, async ({ stream, cuts }) => {
      const expected = runReferenceGateway(stream, {
        maxPacketBytes,
        mayPublish: (topic) => /^raw[./]dev1$|^raw\/dev1\//.test(topic),
      });
      ends[expected.end] += 1;
      controlled.taken.length = 0;
      const client = await openClient();
      try {
        let from = 0;
        for (const cut of [...cuts, stream.length]) {
          if (cut > from) client.send(stream.subarray(from, cut));
          from = cut;
          await nextTurn();
          await nextTurn();
        }
        if (expected.end === 'closed') {
          await client.waitClosed();
        } else {
          await expect
            .poll(
              () => readAnswers(client).acknowledged.length >= expected.acknowledged.length || client.closed,
              {
                interval: 2,
              },
            )
            .toBe(true);
          await expect
            .poll(() => controlled.taken.length >= expected.forwarded.length, { interval: 2 })
            .toBe(true);
        }
        const forwarded = controlled.taken.map((message) => {
          const headers = Buffer.from(message.headers).toString();
          return {
            topic: /Mqtt-Topic: (.*?)\r\n(?:Mqtt-Retain: 1\r\n)?\r\n$/s.exec(headers)?.[1],
            payload: Buffer.from(message.payload).toString('hex'),
            qos: (message as unknown as { qos: number }).qos,
            retain: headers.endsWith('\r\nMqtt-Retain: 1\r\n\r\n'),
          };
        });
        const answers = readAnswers(client);
        if (expected.end === 'beyond') {
          expect(forwarded.slice(0, expected.forwarded.length)).toEqual(expected.forwarded);
          expect(answers.acknowledged.slice(0, expected.acknowledged.length)).toEqual(expected.acknowledged);
          return;
        }
        expect(forwarded).toEqual(expected.forwarded);
        expect(answers.acknowledged).toEqual(expected.acknowledged);
        expect(client.closed).toBe(expected.end === 'closed');
        if (expected.end === 'open')
          await expect.poll(() => readAnswers(client).pongs, { interval: 2 }).toBe(expected.pongs);
      } finally {
        client.destroy();
        // What it sent last is not taken for the next one's.
        await expect.poll(() => controlled.broker.connectionCount(), { interval: 2 }).toBe(0);
      }
    }),
    { numRuns: 1_500 },
  );
  // The streams reach every kind of end, else this would prove less than it says.
  expect(Math.min(ends.open, ends.closed)).toBeGreaterThan(20);
});
