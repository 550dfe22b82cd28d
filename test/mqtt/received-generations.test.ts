import { expect, test } from 'vitest';
import { ReceivedGenerations } from '../../src/server/mqtt/sessions/received-generations.js';

test('an identifier that was used for a message has another name for the next one, once that is stored', () => {
  const received = new ReceivedGenerations();
  for (const packetId of [3, 1, 2, 65_535]) {
    expect(received.find(packetId, false)).toBe(0);
    received.begin(packetId, 0);
    received.complete(packetId);
  }
  expect(received.snapshot()).toEqual({
    generation: 0,
    completed: [
      [1, 3],
      [65_535, 65_535],
    ],
    open: [],
  });
  expect(received.find(2, false)).toBeUndefined();
  received.raise([7]);
  expect(received.snapshot()).toEqual({ generation: 1, completed: [], open: [[7, 0]] });
  expect(received.find(2, false)).toBe(1);
  expect(received.find(7, false)).toBe(0);
  received.complete(7);
  expect(received.snapshot()).toEqual({ generation: 1, completed: [], open: [] });
});

test('what was begun on another replica keeps its name when it is repeated, whatever has begun since', () => {
  const received = new ReceivedGenerations({ generation: 4, completed: [[1, 9]], open: [[20, 3]] });
  expect(received.knowsAll).toBe(false);
  expect(received.find(10, true)).toBe(4);
  expect(received.find(20, true)).toBe(3);
  expect(received.find(5, true)).toBeUndefined();
  received.raise([]);
  expect(received.find(11, true)).toBe(4);
  received.begin(11, 4);
  expect(received.snapshot()).toEqual({
    generation: 5,
    completed: [],
    open: [
      [20, 3],
      [11, 4],
    ],
  });
  expect(received.find(5, false)).toBe(5);
});

test('what is repeated after its identifier has been used here is another message than on the replica before', () => {
  const received = new ReceivedGenerations({ generation: 4, completed: [[1, 3]], open: [[20, 3]] });
  for (const packetId of [7, 20]) {
    expect(received.find(packetId, true)).toBe(packetId === 20 ? 3 : 4);
    received.complete(packetId);
    expect(received.find(packetId, true)).toBe(packetId === 20 ? 4 : undefined);
  }
  received.raise([]);
  for (const packetId of [1, 7, 20]) expect(received.find(packetId, true)).toBe(5);
  expect(received.find(8, true)).toBe(4);
});

test('what the replica before may have begun is open until it is known to have ended', () => {
  const received = new ReceivedGenerations({ generation: 4, completed: [[1, 3]], open: [[2, 3]] });
  expect([1, 2, 7].map((packetId) => received.mayBeOpen(packetId))).toEqual([false, true, true]);
  for (const packetId of [2, 7]) received.complete(packetId);
  expect([2, 7].map((packetId) => received.mayBeOpen(packetId))).toEqual([false, false]);
  expect(new ReceivedGenerations().mayBeOpen(7)).toBe(false);
});

test('ranges are those of a set, whatever the order', () => {
  for (let round = 0; round < 50; round += 1) {
    const received = new ReceivedGenerations();
    const reference = new Set<number>();
    for (let step = 0; step < 60; step += 1) {
      const packetId = 1 + Math.floor(Math.random() * 40);
      received.complete(packetId);
      reference.add(packetId);
    }
    const { completed } = received.snapshot();
    expect(
      completed.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, at) => first + at)),
    ).toEqual([...reference].toSorted((a, b) => a - b));
    for (let packetId = 1; packetId <= 41; packetId += 1)
      expect(received.find(packetId, false) === undefined).toBe(reference.has(packetId));
  }
});
