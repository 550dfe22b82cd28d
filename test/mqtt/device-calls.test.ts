import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Call, CallFailure } from '../../src/server/forward/commands/calls.js';
import {
  type Callee,
  type DeviceCalls,
  openDeviceCalls,
} from '../../src/server/mqtt/sessions/commands/device-calls.js';

/** As `docs/services.md` has them. */
const most = 10_000;
const mostPerDevice = 64;

let calls: { onCall: (call: Call) => void; claim(): () => void };
let asking: DeviceCalls;
let failures: CallFailure[];
let answered: number;
/** Where the last call is to be answered. */
let replyTopic: string;

beforeEach(() => {
  failures = [];
  answered = 0;
  calls = { onCall: () => {}, claim: () => () => {} };
  const client: Callee = {
    session: {
      ask(question) {
        replyTopic = question.messageFor(true).properties?.responseTopic ?? '';
        return 'asked';
      },
    },
  };
  asking = openDeviceCalls({ calls, clientsOf: () => [client] });
});
afterEach(() => asking.close());

function ask(deviceId: string, payload = Buffer.alloc(0)): void {
  calls.onCall({
    deviceId,
    what: 'go',
    payload,
    properties: undefined,
    qos: 1,
    wantsAck: false,
    timeoutMs: 60_000,
    answer: () => {
      answered += 1;
    },
    fail: (code) => void failures.push(code),
  });
}

test('calls that wait are bounded for a device and in all: further ones are refused at once, until others are answered', () => {
  for (let call = 0; call < mostPerDevice + 1; call += 1) ask('busy');
  expect(failures.splice(0)).toEqual([429]);
  for (let call = mostPerDevice; call < most; call += 1) ask(`d${call % 1_000}`);
  expect(failures).toEqual([]);
  expect(asking.pending).toBe(most);
  ask('another');
  expect(failures.splice(0)).toEqual([429]);
  asking.onPublish('d999', replyTopic, Buffer.from('done'), undefined);
  expect(answered).toBe(1);
  ask('another');
  expect(failures).toEqual([]);
  expect(asking.pending).toBe(most);
  asking.close();
  expect(asking.pending).toBe(0);
  expect(failures).toEqual(Array.from({ length: most }, () => 503));
});

test('a call that waits keeps nothing of its payload', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const payloads: WeakRef<Buffer>[] = [];
  const askLarge = () => {
    const payload = Buffer.alloc(100_000);
    payloads.push(new WeakRef(payload));
    ask('a', payload);
  };
  for (let call = 0; call < 20; call += 1) askLarge();
  // What a WeakRef was asked for lives to the end of the turn.
  await delay(1);
  await expect
    .poll(() => {
      collect();
      return payloads.filter((payload) => payload.deref() !== undefined).length;
    })
    .toBe(0);
  expect(asking.pending).toBe(20);
});
