import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { StoredMessage, StoredMessages } from '../../src/server/forward/stored/stored-messages.js';
import { newBrokerCounters } from '../../src/server/mqtt/live/counters.js';
import { codecs3 } from '../../src/server/mqtt/protocol/v3/codec.js';
import { unlimited } from '../../src/server/mqtt/sessions/delivery-writer.js';
import { Outgoing } from '../../src/server/mqtt/sessions/outgoing.js';
import { StoredDelivery } from '../../src/server/mqtt/sessions/stored-delivery.js';

/** A session that has had none of the messages that a stream keeps for it. */
function openDelivery(stored: number) {
  const reads: number[] = [];
  const store: StoredMessages<string, StoredMessage> = {
    incarnation: 'one',
    end: stored,
    isCaughtUp: true,
    known: stored,
    counters: { read: 0, gone: 0, lookedUp: 0, catchUpSec: 0 },
    follow: () => () => {},
    hasAfter: (_key, sequence) => sequence < stored,
    countAfter: (_key, sequence) => stored - sequence,
    async readAfter(_key, sequence, most) {
      reads.push(sequence);
      const sequences = Array.from(
        { length: Math.min(most, stored - sequence) },
        (_, at) => sequence + at + 1,
      );
      const messages = sequences.map((each) => ({
        sequence: each,
        topic: 't',
        storedAtMs: 0,
        payload: Buffer.from(`${each}`),
      }));
      return { messages, upTo: sequences.at(-1) ?? sequence };
    },
    read: async (sequences) => sequences.map(() => undefined),
  };
  const counters = newBrokerCounters();
  const limits = { maxMessages: 100, maxBytes: 1_000_000, maxBytesInAll: 1_000_000 };
  const outgoing = new Outgoing(limits, { bytes: 0 }, counters);
  const delivery = new StoredDelivery(store, counters, {
    stream: 'commands',
    key: 'device',
    outgoing,
    takes: true,
    copyOf: (message) => ({ ...message, qos: 1, retain: false }),
    onNewStream() {},
    onShorterStream() {},
  });
  delivery.restore({ incarnation: 'one', sequence: 0, sentUpTo: 0 });
  outgoing.sources.set('commands', delivery);
  const written: string[] = [];
  const connection = {
    codec: codecs3[4],
    clientLimits: unlimited,
    unsentBytes: 0,
    write: (packet: Buffer) => void written.push(packet.toString('latin1', 7)),
    cork() {},
    uncork() {},
    closeSlowReader() {},
  };
  return {
    reads,
    written,
    delivery,
    attach() {
      delivery.attach();
      outgoing.attach(connection);
    },
    detach() {
      delivery.detach();
      outgoing.detach();
    },
  };
}

test('what a client that comes back is to be sent is read before it is there, and sent when it is', async () => {
  const { reads, written, delivery, attach } = openDelivery(6);
  delivery.prepare();
  await nextTurn();
  expect([reads, written]).toEqual([[0], []]);
  attach();
  expect(written).toEqual(['1', '2', '3', '4', '5', '6']);
  await nextTurn();
  expect(reads).toEqual([0]);
});

test('what was read for a client that did not come after all is read again when it does', async () => {
  const { reads, written, delivery, attach, detach } = openDelivery(2);
  delivery.prepare();
  await nextTurn();
  detach();
  attach();
  await nextTurn();
  expect([reads, written]).toEqual([
    [0, 0],
    ['1', '2'],
  ]);
});
