import { expect } from 'vitest';
import type { CloseReason } from '../../../src/server/mqtt/close-reason.js';
import type { RawClient } from '../../support/raw-client.js';
import { connack, type Harness, type LoginOptions } from './harness.js';

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
