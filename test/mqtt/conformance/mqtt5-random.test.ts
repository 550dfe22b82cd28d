import fc from 'fast-check';
import { expect, it, vi } from 'vitest';
import { pingreqPacket, subscribePacket, unsubscribePacket } from '../../support/raw-client.js';
import {
  acknowledgePacket,
  authPacket,
  disconnect5Packet,
  Id,
  properties,
  property,
} from '../../support/raw-mqtt5.js';
import { connack, disconnect, openHarness } from './harness.js';
import { connect5, connected5, none, publish5 } from './mqtt5.js';

const harness = openHarness({ acl: 'open' });

const text = fc.constantFrom('a', 'b/c', 'raw/dev1', 'é', '');
const packetId = fc.integer({ min: 1, max: 4 });
const ofPublish = fc
  .array(
    fc.oneof(
      fc.tuple(fc.constant(Id.topicAlias), fc.integer({ min: 1, max: 16 })),
      fc.tuple(fc.constant(Id.messageExpiry), fc.nat(10)),
      fc.tuple(fc.constant(Id.contentType), text),
      fc.tuple(fc.constant(Id.correlationData), text),
      fc.tuple(fc.constant(Id.userProperty), fc.tuple(text, text)),
    ),
    { maxLength: 3 },
  )
  .map((list) => {
    const once = new Map(list.map((item) => [item[0], item]));
    return properties(...once.values());
  });
const valid = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .record({
        qos: fc.integer({ min: 0, max: 2 }),
        packetId,
        topic: fc.constantFrom('a', 'b/c', 'é'),
        retain: fc.boolean(),
        properties: ofPublish,
        payload: text,
      })
      .map(publish5),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(packetId, fc.constantFrom(0, 0x92))
      .map(([id, code]) => acknowledgePacket(6, id, code)),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom(4, 5), packetId)
      .map(([type, id]) => acknowledgePacket(type, id, 0x80, none)),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        packetId,
        fc.constantFrom('#', 'a', '+/c', '$share/g/a'),
        fc.constantFrom(0, 1, 2, 0x09, 0x12, 0x22),
      )
      .map(([id, filter, options]) => subscribePacket(id, [[filter, options]], none)),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(packetId, fc.constantFrom('#', 'a'))
      .map(([id, filter]) => unsubscribePacket(id, [filter], none)),
  },
  { weight: 1, arbitrary: fc.constant(pingreqPacket) },
);
/** One byte is another, the end is missing, or it is not for a client to send. */
const broken = fc.oneof(
  fc.tuple(valid, fc.nat(), fc.nat(255)).map(([bytes, at, byte]) => {
    const changed = Buffer.from(bytes);
    changed[at % changed.length] = byte;
    return changed;
  }),
  fc.tuple(valid, fc.nat()).map(([bytes, at]) => bytes.subarray(0, at % bytes.length)),
  fc.uint8Array({ minLength: 1, maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
  fc.constantFrom(
    authPacket(0x19, property(Id.authenticationMethod, 'x')),
    disconnect5Packet(0x04),
    disconnect5Packet(0, property(Id.sessionExpiry, 0)),
    publish5({ topic: '', properties: property(Id.topicAlias, 9) }),
  ),
);
const stream = fc.array(fc.oneof({ weight: 8, arbitrary: valid }, { weight: 1, arbitrary: broken }), {
  minLength: 1,
  maxLength: 40,
});

it('random streams of valid and broken packets of MQTT 5, cut anywhere, leave nothing behind', async () => {
  await fc.assert(
    fc.asyncProperty(
      stream,
      fc.array(fc.nat(), { maxLength: 8 }),
      fc.boolean(),
      async (packets, cuts, withWill) => {
        const clientId = 'random';
        const will = withWill ? { topic: 'will', payload: 'x', qos: 1 } : undefined;
        const client = await connected5(harness, { clientId, will });
        const bytes = Buffer.concat(packets);
        const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
        let from = 0;
        for (const end of ends) {
          client.send(bytes.subarray(from, end));
          from = end;
          await new Promise((resolve) => setImmediate(resolve));
        }
        client.socket.end();
        await client.waitClosed();
        // Whatever came before it, a DISCONNECT is the last packet, and there is one CONNACK.
        const types = client.received.map(({ type }) => type);
        expect(types.slice(0, -1)).not.toContain(disconnect);
        expect(types.slice(1)).not.toContain(connack);
        // The client is as one that was never there.
        const again = await connect5(harness, { clientId, clean: false });
        expect(again.connack).toMatchObject({ flags: 0, code: 0 });
        await harness.leave(again.client);
      },
    ),
    { numRuns: 150 },
  );
  expect(harness.controlled.broker.counters.closed['internal-error']).toBe(0);
  await harness.expectServing();
  await vi.waitFor(() => expect([...harness.controlled.core.deviceIds()]).toEqual([]));
});
