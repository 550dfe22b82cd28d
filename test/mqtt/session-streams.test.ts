import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { KeptMessage, KeptMessages } from '../../src/server/forward/state/kept-messages.js';
import type { StoredListener } from '../../src/server/forward/stored/stored-messages.js';
import { newBrokerCounters } from '../../src/server/mqtt/live/counters.js';
import type { Outgoing } from '../../src/server/mqtt/sessions/delivery/outgoing.js';
import {
  SessionStreams,
  type StreamReader,
  type StreamServices,
} from '../../src/server/mqtt/sessions/delivery/session-streams.js';
import type { Cursors } from '../../src/server/mqtt/sessions/store/session-record.js';

const message = (sequence: number): KeptMessage => ({
  ...{ sequence, topic: 'chat/a', payload: Buffer.alloc(0), storedAtMs: 0 },
  ...{ qos: 1, retain: false, sender: undefined, properties: undefined },
});

/** A connected session that goes on here, with these cursors, before the stream is found. */
function restore(cursors: Cursors) {
  const sent: { sequence: number; dup: boolean }[] = [];
  let found: (() => void) | undefined;
  let listener: StoredListener<KeptMessage> | undefined;
  const kept = {
    incarnation: '',
    end: 0,
    isCaughtUp: false,
    isKnown: false,
    whenKnown: (call: () => void) => {
      found = call;
      return () => {};
    },
    lastSequence: async () => kept.end,
    follow(_filters: unknown, given: StoredListener<KeptMessage>) {
      listener = given;
      return () => {};
    },
    hasAfter: (_filters: unknown, sequence: number) => kept.isCaughtUp && sequence < kept.end,
    async readAfter(_filters: unknown, sequence: number) {
      const messages = Array.from({ length: kept.end - sequence }, (_, index) =>
        message(sequence + 1 + index),
      );
      return { messages, upTo: kept.end };
    },
  };
  const terms = { name: 'chat/#', filter: 'chat/#', shareName: undefined, qos: 1, noLocal: false };
  const outgoing = {
    isConnected: true,
    room: 10,
    sources: new Map(),
    listStored: () => [],
    restoreStored() {},
    forgetStored() {},
    gather: (sendAll: () => void) => sendAll(),
    sendStored(_message: unknown, { sequence }: { sequence: number }, dup: boolean) {
      sent.push({ sequence, dup });
      return true;
    },
  };
  const streams = new SessionStreams(
    {
      downlink: { store: undefined },
      kept: kept as unknown as KeptMessages,
      counters: newBrokerCounters(),
    } as unknown as StreamServices,
    {
      outgoing: outgoing as unknown as Outgoing,
      subscriptions: new Map([['chat/#', { terms, from: { commands: 0, messages: 0 } }]]),
      isStored: true,
      clientKey: 'd.c',
    } as unknown as StreamReader,
    { cursors, unacked: [], passed: undefined, begun: undefined },
  );
  streams.takeMessages();
  return {
    streams,
    sent,
    /** The stream is found, and read to its end. */
    async find(incarnation: string, end: number) {
      Object.assign(kept, { incarnation, isKnown: true });
      found?.();
      Object.assign(kept, { end, isCaughtUp: true });
      listener?.onCaughtUp();
      await turn();
    },
  };
}

test('a session waits for the stream that it goes on with: nothing comes to it another way, and it stays where it stood', async () => {
  const cursors = { commands: 0, messages: 3, messageStream: 'M 1', messagesSent: 4 };
  const { streams, sent, find } = restore(cursors);
  expect(streams.readsMessages).toBe(true);
  expect(streams.state.cursors).toMatchObject(cursors);
  await find('M 1', 5);
  expect(sent).toEqual([
    { sequence: 4, dup: true },
    { sequence: 5, dup: false },
  ]);
  expect(streams.state.cursors).toMatchObject({ messages: 5, messageStream: 'M 1' });
});

test('one that has had nothing of a stream gets messages as they are published until it is found', async () => {
  const { streams, find } = restore({ commands: 0, messages: 0 });
  expect(streams.readsMessages).toBe(false);
  await find('M 1', 5);
  expect(streams.readsMessages).toBe(true);
});

test('where a record of before does not say which stream the session had come to, all that is there bears DUP, and nothing later', async () => {
  const { sent, find, streams } = restore({ commands: 0, messages: 0, messageStream: '' });
  await find('M 1', 2);
  expect(sent).toEqual([
    { sequence: 1, dup: true },
    { sequence: 2, dup: true },
  ]);
  expect(streams.state.cursors).toEqual({
    ...{ commands: 0, messages: 2, messageStream: 'M 1', messagesSent: undefined },
    ...{ commandStream: undefined, commandsSent: undefined },
  });
});
