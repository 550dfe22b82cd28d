import { expect } from 'vitest';
import type { CloseReason } from '../../../src/server/mqtt/protocol/close-reason.js';
import type { RawClient } from '../../support/raw-client.js';
import { connack, type Harness, type LoginOptions } from './harness.js';

/** Logs in with MQTT 3.1. */
export const version31 = { protocolName: 'MQIsdp', level: 3 } as const;

/** Malformed text of a topic or filter, and what it is called. */
export const malformedTexts: readonly [name: string, text: Buffer][] = [
  ['a lone continuation byte', Buffer.from([0x80])],
  ['a cut character', Buffer.from([0x61, 0xe2, 0x82])],
  ['an overlong /', Buffer.from([0xc0, 0xaf])],
  ['a surrogate', Buffer.from([0xed, 0xb0, 0x80])],
  ['a code point over U+10FFFF', Buffer.from([0xf5, 0x80, 0x80, 0x80])],
  ['U+0000', Buffer.from('a\u0000')],
  ['U+0000 alone', Buffer.from([0])],
];

/** What a client sends that must end its connection. */
export interface Violation {
  /** The clauses and what is done. */
  readonly name: string;
  readonly send: (harness: Harness) => Buffer | Buffer[];
  readonly reason: CloseReason;
  /** The return code of the CONNACK that is prescribed; none otherwise. */
  readonly connack?: number;
  /** Sent by a client that is connected already; with these options. */
  readonly after?: LoginOptions;
}

/** The same, by a client that has logged in with MQTT 3.1.1 and by one with MQTT 3.1. */
export function inEitherVersion(violations: readonly Violation[]): Violation[] {
  return violations.flatMap((violation) => [
    { ...violation, name: `${violation.name}, MQTT 3.1.1`, after: {} },
    { ...violation, name: `${violation.name}, MQTT 3.1`, after: version31 },
  ]);
}

/**
 * Sends it and asserts all that is prescribed: the connection closes, with a CONNACK where there is to be one and
 * nothing where not, one connection is counted under the right reason and none under another, nothing is forwarded,
 * and the server goes on serving others.
 */
export async function expectClosing(harness: Harness, violation: Violation): Promise<void> {
  const client: RawClient =
    violation.after === undefined ? await harness.open() : await harness.connected(violation.after);
  const before = client.received.length;
  const expectCounted = harness.watch();
  client.send(...[violation.send(harness)].flat());
  await client.waitClosed();
  const answers = client.received.slice(before).map(({ type, body }) => [type, ...body]);
  expect(answers).toEqual(violation.connack === undefined ? [] : [[connack, 0, violation.connack]]);
  expectCounted(violation.reason);
  await harness.expectServing();
}
