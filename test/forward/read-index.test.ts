import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { createReadIndex } from '../../src/server/forward/state/read-index.js';

/** A stream whose leader takes a while to answer, with what it had when it was asked. */
function openStream(last: number, present = last) {
  const stream = {
    last,
    present,
    asked: 0,
    async lastSequence() {
      stream.asked += 1;
      const { last } = stream;
      await delay(30);
      return last;
    },
    lastMessage: async () => stream.present,
  };
  return stream;
}

test('a reader is up to date when it has read what the stream had when it was asked', async () => {
  const stream = openStream(3);
  const index = createReadIndex(stream);
  let isDone = false;
  const done = index.upToDate(60_000).then(() => {
    isDone = true;
  });
  for (const sequence of [1, 2]) {
    index.reach(sequence);
    await delay(100);
    expect(isDone).toBe(false);
  }
  index.reach(3);
  await done;
});

test('who comes while a question is under way waits for the next one, with all others', async () => {
  const stream = openStream(1);
  const index = createReadIndex(stream);
  index.reach(1);
  const first = index.upToDate(60_000);
  stream.last = 2;
  stream.present = 2;
  let isDone = false;
  const others = Promise.all(Array.from({ length: 1_000 }, () => index.upToDate(60_000))).then(() => {
    isDone = true;
  });
  await first;
  await delay(100);
  expect([isDone, stream.asked]).toEqual([false, 2]);
  index.reach(2);
  await others;
  expect(stream.asked).toBe(2);
});

test('the last messages may have been removed', async () => {
  const stream = openStream(5, 3);
  const index = createReadIndex(stream);
  index.reach(3);
  await index.upToDate(60_000);
  // It is not looked for again.
  stream.lastMessage = async () => {
    throw new Error('asked again');
  };
  await index.upToDate(60_000);
});

test('a leader that does not answer is asked again, for as long as there is time', async () => {
  let asked = 0;
  const lastMessage = async () => 0;
  const silent = {
    lastMessage,
    async lastSequence() {
      asked += 1;
      if (asked < 3) throw new Error('TIMEOUT');
      return 0;
    },
  };
  await createReadIndex(silent).upToDate(60_000);
  expect(asked).toBe(3);
  const lastSequence = () => Promise.reject(new Error('TIMEOUT'));
  await createReadIndex({ lastMessage, lastSequence }).upToDate(200);
});

test('another stream is read from its beginning', async () => {
  const index = createReadIndex(openStream(2));
  index.reach(10);
  index.beginAnew();
  let isDone = false;
  const done = index.upToDate(60_000).then(() => {
    isDone = true;
  });
  await delay(100);
  expect(isDone).toBe(false);
  index.reach(2);
  await done;
});
