import { expect } from 'vitest';
import type { CloseReason } from '../../../src/server/mqtt/protocol/close-reason.js';
import { packet, publishPacket, type RawClient, subscribePacket, uint16 } from '../../support/raw-client.js';
import { readConnack, readDisconnect, readPublish5, readSuback } from '../../support/raw-mqtt5.js';
import { connack, disconnect, type Harness, type LoginOptions, nextOf, publish, suback } from './harness.js';

/** Logs in with MQTT 5. */
export const version5 = { level: 5 } as const;
/** No properties. */
export const none = Buffer.alloc(0);

/** Sends CONNECT and answers the CONNACK, whatever it says. */
export async function connect5(harness: Harness, options: LoginOptions = {}) {
  const client = await harness.open();
  client.send(harness.login({ ...version5, ...options }));
  return { client, connack: readConnack(await nextOf(client, connack)) };
}

/** A client of MQTT 5 that has logged in. */
export async function connected5(harness: Harness, options: LoginOptions = {}): Promise<RawClient> {
  const { client, connack } = await connect5(harness, options);
  expect(connack.code).toBe(0);
  return client;
}

/** SUBSCRIBE with the byte of options of each filter; answers the SUBACK. */
export async function subscribe5(
  client: RawClient,
  filters: [filter: string, options: number][],
  properties = none,
  packetId = 1,
) {
  client.send(subscribePacket(packetId, filters, properties));
  return readSuback(await nextOf(client, suback));
}

/** A client that has logged in and subscribed. */
export async function subscribed5(
  harness: Harness,
  filters: [filter: string, options: number][],
  options: LoginOptions = {},
): Promise<RawClient> {
  const client = await connected5(harness, options);
  const { codes } = await subscribe5(client, filters);
  expect(codes.every((code) => code < 0x80)).toBe(true);
  return client;
}

/** The next packet, which must be a PUBLISH; with QoS 1 it is acknowledged unless it is not to be. */
export async function nextPublish(client: RawClient, options = { acknowledge: true }) {
  const received = readPublish5(await nextOf(client, publish));
  if (options.acknowledge && received.qos === 1) client.send(packet(0x40, uint16(received.packetId)));
  return received;
}

export function publish5(
  options: Omit<Parameters<typeof publishPacket>[0], 'topic'> & { topic?: string | Buffer } = {},
) {
  return publishPacket({ topic: 'raw/dev1', properties: none, ...options });
}

/** The next packet, which must be DISCONNECT with this reason; then the end, and nothing after it [MQTT-3.14.4-1]. */
export async function expectDisconnect(client: RawClient, code: number): Promise<void> {
  const received = readDisconnect(await nextOf(client, disconnect));
  expect(received.code.toString(16)).toBe(code.toString(16));
  const count = client.received.length;
  await client.waitClosed();
  expect(client.received.length).toBe(count);
}

/** What a client of MQTT 5 sends that must end its connection. */
export interface Violation5 {
  /** The statements and what is done. */
  readonly name: string;
  readonly send: (harness: Harness) => Buffer | Buffer[];
  readonly reason: CloseReason;
  /** The reason code of the DISCONNECT, or of the CONNACK; undefined: nothing is answered. */
  readonly code?: number | undefined;
  /** Sent as the first packet; else by a client that has logged in, with these options. */
  readonly first?: true;
  readonly login?: LoginOptions;
}

/**
 * Sends it and asserts all that is prescribed: DISCONNECT with the code, or CONNACK before the login, then the end; one
 * connection counted under the right reason and none under another, nothing forwarded, and others go on being served.
 */
export async function expectClosing5(harness: Harness, violation: Violation5): Promise<void> {
  const client = violation.first ? await harness.open() : await connected5(harness, violation.login);
  const before = client.received.length;
  const expectCounted = harness.watch();
  client.send(...[violation.send(harness)].flat());
  await client.waitClosed();
  const answers = client.received.slice(before).map((received) => {
    const answer = received.type === connack ? readConnack(received) : readDisconnect(received);
    return [answer.type, answer.code.toString(16)];
  });
  const expected = violation.code?.toString(16);
  expect(answers).toEqual(expected === undefined ? [] : [[violation.first ? connack : disconnect, expected]]);
  expectCounted(violation.reason);
  await harness.expectServing();
}

const now = performance.now.bind(performance);
let aheadMs = 0;

/** Puts the clock of the server, which is in this process, forward, so that nothing has to be waited for. It never goes back. */
export function jump(seconds: number): void {
  aheadMs += seconds * 1_000;
  performance.now = () => now() + aheadMs;
}
