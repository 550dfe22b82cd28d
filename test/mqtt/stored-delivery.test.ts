import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { StoredListener, StoredMessages } from '../../src/server/forward/stored/stored-messages.js';
import type { Outgoing } from '../../src/server/mqtt/sessions/delivery/outgoing.js';
import { StoredDelivery } from '../../src/server/mqtt/sessions/delivery/stored-delivery.js';

interface Command {
  readonly sequence: number;
  readonly topic: string;
  readonly payload: Buffer;
  readonly storedAtMs: number;
}

const command = (sequence: number): Command => ({
  sequence,
  topic: 'cmd/d/go',
  payload: Buffer.alloc(0),
  storedAtMs: 0,
});

const anySequence = Number.MAX_SAFE_INTEGER;

/** A replica that knows the stream up to `end`, whose leader has given `last`, and a session that goes on here. */
function open(place: {
  end: number;
  last: number;
  sequence: number;
  sentUpTo?: number;
  /** Sequences of what was sent and not acknowledged, which are the packet identifiers, too. */
  unacked?: number[];
  /** Those that have left the stream. */
  gone?: number[];
  /** The replica has not read the stream as a whole yet. */
  isBehind?: boolean;
}) {
  let listener: StoredListener<Command> | undefined;
  const asked: number[] = [];
  const store = {
    incarnation: 'CMD',
    end: place.end,
    isCaughtUp: place.isBehind !== true,
    lastSequence: async () => place.last,
    follow(_key: string, given: StoredListener<Command>) {
      listener = given;
      return () => {};
    },
    read: async (sequences: number[]) =>
      sequences.map((sequence) => (place.gone?.includes(sequence) ? undefined : command(sequence))),
    hasAfter: (_key: string, sequence: number) => sequence < store.end,
    async readAfter(_key: string, sequence: number) {
      asked.push(sequence);
      const messages = Array.from({ length: store.end - sequence }, (_, index) =>
        command(sequence + 1 + index),
      );
      return { messages, upTo: store.end };
    },
  };
  const sent: { sequence: number; dup: boolean }[] = [];
  const again: number[] = [];
  const givenUp: number[] = [];
  const client = { isBusy: false };
  const outgoing = {
    room: 10,
    listStored: () =>
      (place.unacked ?? []).map((packetId) => ({
        packetId,
        stream: 'commands',
        sequence: packetId,
        released: false,
      })),
    sendAgain(packetId: number) {
      if (client.isBusy) return false;
      again.push(packetId);
      return true;
    },
    giveUp: (packetId: number) => void givenUp.push(packetId),
    forgetStored() {},
    gather: (sendAll: () => void) => sendAll(),
    sendStored(_message: unknown, { sequence }: { sequence: number }, dup: boolean) {
      sent.push({ sequence, dup });
      return true;
    },
  };
  const delivery = new StoredDelivery(store as unknown as StoredMessages<string, Command>, {} as never, {
    stream: 'commands',
    key: () => 'd',
    outgoing: outgoing as unknown as Outgoing,
    takes: () => true,
    takesQos2: () => true,
    // Those that were sent before have expired.
    copyOf: (command, isBegun) => ({
      ...command,
      qos: 1,
      retain: false,
      expiresAtMs: isBegun ? 1 : undefined,
    }),
    onNewStream() {},
    onShorterStream() {},
  });
  delivery.restore({ incarnation: 'CMD', sequence: place.sequence, sentUpTo: place.sentUpTo ?? 0 });
  delivery.attach();
  delivery.onRoom();
  return {
    sent,
    again,
    givenUp,
    client,
    asked,
    delivery,
    store(sequence: number) {
      listener?.onMessage(command(sequence));
      store.end = sequence;
    },
    /** NATS has lost what was behind; what is stored there since is not read yet. */
    shorten(last: number) {
      Object.assign(store, { end: last, isCaughtUp: false });
      listener?.onShorter(last);
    },
    /** The stream is found to be another one, of which nothing is read yet. */
    changeStream() {
      Object.assign(store, { incarnation: 'CMD 2', end: 0, isCaughtUp: false });
    },
    /** The replica has read the stream, up to there. */
    catchUp(end: number) {
      Object.assign(store, { end, isCaughtUp: true });
      listener?.onCaughtUp();
    },
  };
}

test('a replica that is behind the stream sends nothing again that a session has had', async () => {
  const { sent, asked, store, delivery } = open({ end: 495, last: 500, sequence: 500 });
  await turn();
  for (let sequence = 496; sequence <= 502; sequence += 1) store(sequence);
  expect(sent).toEqual([
    { sequence: 501, dup: false },
    { sequence: 502, dup: false },
  ]);
  expect(asked).toEqual([]);
  expect(delivery.at.sequence).toBe(502);
});

test('a session that has come further than the stream goes on where that ends', async () => {
  const { sent, delivery, store } = open({ end: 480, last: 480, sequence: 500 });
  await turn();
  store(481);
  expect(sent).toEqual([{ sequence: 481, dup: false }]);
  expect(delivery.at.sequence).toBe(481);
});

test('what the replica that died may have sent bears DUP, also where this one is behind, and nothing else does', async () => {
  const { sent, store } = open({ end: 10, last: 12, sequence: 10, sentUpTo: anySequence });
  await turn();
  for (const sequence of [11, 12, 13]) store(sequence);
  expect(sent).toEqual([
    { sequence: 11, dup: true },
    { sequence: 12, dup: true },
    { sequence: 13, dup: false },
  ]);
});

test('what was sent and not acknowledged is sent again though it has expired, and given up where the stream has lost it', async () => {
  const { again, givenUp } = open({ end: 10, last: 10, sequence: 10, unacked: [3, 5, 8], gone: [5] });
  await turn();
  expect([again, givenUp]).toEqual([[3, 8], [5]]);
});

test('while the stream is not read as a whole yet, nothing that is stored just now passes over what was stored before', async () => {
  const { sent, store, catchUp, delivery } = open({ end: 10, last: 14, sequence: 10, isBehind: true });
  await turn();
  store(14);
  expect(sent).toEqual([]);
  catchUp(14);
  await turn();
  expect(sent.map(({ sequence }) => sequence)).toEqual([11, 12, 13, 14]);
  expect(delivery.at.sequence).toBe(14);
});

test('what a stream that was made anew holds is sent once and in order, though some of it is known before it is read to the end', async () => {
  const { sent, store, changeStream, catchUp, delivery } = open({ end: 3, last: 3, sequence: 3 });
  changeStream();
  for (let sequence = 1; sequence <= 6; sequence += 1) store(sequence);
  delivery.onRoom();
  catchUp(6);
  await turn();
  store(7);
  expect(sent).toEqual([1, 2, 3, 4, 5, 6, 7].map((sequence) => ({ sequence, dup: false })));
});

test('what is being read when the stream is found to be another one is not sent by its place in the one before', async () => {
  const { sent, store, changeStream, catchUp } = open({ end: 6, last: 6, sequence: 3 });
  changeStream();
  for (let sequence = 1; sequence <= 6; sequence += 1) store(sequence);
  await turn();
  catchUp(6);
  await turn();
  expect(sent.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4, 5, 6]);
});

test('what was sent and not acknowledged is sent again also when the last subscription ends meanwhile and another one begins', async () => {
  const { again, client, delivery, sent, store } = open({
    end: 10,
    last: 10,
    sequence: 8,
    unacked: [3, 5, 8],
  });
  client.isBusy = true;
  await turn();
  expect(again).toEqual([]);
  delivery.begin();
  client.isBusy = false;
  await turn();
  expect(again).toEqual([3, 5, 8]);
  store(11);
  expect(sent).toEqual([{ sequence: 11, dup: false }]);
});

test('where NATS has lost the latest messages, nothing that is stored just now passes over what was stored before it was noticed', async () => {
  const { sent, shorten, store, catchUp } = open({ end: 10, last: 10, sequence: 10 });
  shorten(10);
  store(13);
  catchUp(13);
  await turn();
  expect(sent.map(({ sequence }) => sequence)).toEqual([11, 12, 13]);
});
