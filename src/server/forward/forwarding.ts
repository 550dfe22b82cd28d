import { setTimeout as delay } from 'node:timers/promises';
import type { NatsConnection } from 'nats';
import type { Log } from '../../log.js';
import type { NatsLink } from './connection/nats-link.js';
import type { NatsWire } from './connection/nats-wire.js';
import {
  type Forwarder,
  type ForwarderCounters,
  type IngestMode,
  natsBytesOf,
  newForwarderCounters,
  type UplinkMessage,
} from './forwarder.js';
import { type InFlight, openInFlight } from './in-flight.js';
import type { Standstill } from './troubles.js';
import { openUnconfirmed, type Unconfirmed } from './unconfirmed.js';
import { openWaiters } from './waiters.js';

/** Bounds and times of a forwarder. */
export interface ForwarderLimits {
  readonly maxInFlight: number;
  readonly maxInFlightBytes: number;
  /** A message not confirmed for so long is sent again. */
  readonly ackTimeoutMs: number;
}

/** How NATS confirms messages: the difference between JetStream and core NATS. */
export interface Confirmation {
  /** There is a new connection; messages are sent on it from now on. Must not throw. */
  connected(connection: NatsConnection): void;
  disconnected(): void;
  /** Sends a message whose confirmation is wanted. See `Outlet.send`. */
  send(wire: NatsWire, message: UplinkMessage, token: number, group: number): boolean;
  /** Sends one without; an answer is wanted when `mark` is not 0. */
  sendPlain(wire: NatsWire, message: UplinkMessage, mark: number): void;
  /** See `Outlet.groupOf`. */
  groupOf(message: UplinkMessage, again: boolean): number;
  tick?(nowMs: number): void;
  /** See `NatsLinkListener`. */
  pinged?(): void;
  ponged?(denied: ReadonlySet<string>): void;
  /** Largest message that the stream takes, bytes; Infinity when it has no bound of its own. */
  readonly maxMessageBytes: number;
  readonly ingest: IngestMode | undefined;
  /** What is known to keep messages from being stored, also while none is sent. */
  readonly standstill: Standstill | undefined;
}

const tickMs = 100;
const drainPollMs = 20;
const defaultMaxPayloadBytes = 1_048_576;
/**
 * nats-server ends a connection that sends a command line over 4,096 bytes; it holds the subject, a reply subject and
 * two numbers.
 */
const maxSubjectBytes = 3_500;

/** Joins a link, the messages in flight and a way of confirmation to a forwarder. Closing it closes the link. */
export function startForwarding(options: {
  link: NatsLink;
  limits: ForwarderLimits;
  log: Log;
  confirmation: (settle: {
    confirmed: InFlight;
    unconfirmed: Unconfirmed;
    counters: ForwarderCounters;
  }) => Confirmation;
}): Forwarder {
  const { link, limits, log } = options;
  const counters = newForwarderCounters();
  /** The connection at hand, and its wire. */
  let ready: { readonly connection: NatsConnection; readonly wire: NatsWire } | undefined;
  let wasOpen = false;
  let maxServerBytes = defaultMaxPayloadBytes;

  const maxMessageBytes = () => Math.min(maxServerBytes, confirmation.maxMessageBytes);
  const outlet = {
    get open(): boolean {
      return ready !== undefined && !link.stalled;
    },
    send(message: UplinkMessage, token: number, group: number): boolean {
      if (ready === undefined) throw new Error('not connected');
      const problem = tooLarge(message, maxMessageBytes());
      if (problem !== undefined) {
        inFlight.settleRefused(token, { cause: 'too_large', detail: problem, permanent: true });
        return false;
      }
      return confirmation.send(ready.wire, message, token, group);
    },
    groupOf: (message: UplinkMessage, again: boolean) => confirmation.groupOf(message, again),
    sendPlain(message: UplinkMessage, mark: number): void {
      const problem = tooLarge(message, maxServerBytes);
      if (ready === undefined || problem !== undefined) throw new Error(problem ?? 'not connected');
      confirmation.sendPlain(ready.wire, message, mark);
    },
  };
  const fullConfirmed = () =>
    inFlight.count >= limits.maxInFlight || inFlight.bytes >= limits.maxInFlightBytes;
  const inFlight = openInFlight({
    outlet,
    ackTimeoutMs: limits.ackTimeoutMs,
    counters,
    log,
    full: fullConfirmed,
    onRoom: () => confirmedWaiters.wake(),
  });
  const unconfirmed = openUnconfirmed({
    outlet,
    counters,
    maxBytes: limits.maxInFlightBytes,
    answerTimeoutMs: limits.ackTimeoutMs,
    onRoom: () => unconfirmedWaiters.wake(),
  });
  const confirmedWaiters = openWaiters(fullConfirmed);
  const unconfirmedWaiters = openWaiters(() => unconfirmed.full);
  const confirmation = options.confirmation({ confirmed: inFlight, unconfirmed, counters });

  link.listen({
    connected(connection, wire) {
      maxServerBytes = connection.info?.max_payload ?? defaultMaxPayloadBytes;
      confirmation.connected(connection);
      ready = { connection, wire };
      tick(performance.now());
    },
    disconnected() {
      ready = undefined;
      confirmation.disconnected();
      inFlight.loseAll();
      unconfirmed.reset();
    },
    pinged: () => confirmation.pinged?.(),
    ponged: (denied) => confirmation.ponged?.(denied),
  });

  function tick(nowMs: number): void {
    const { open } = outlet;
    if (open && !wasOpen) inFlight.restartTimeouts();
    // Senders that waited for room in the window are let go when it is of no use any more.
    if (!open && wasOpen) unconfirmedWaiters.wake();
    wasOpen = open;
    confirmation.tick?.(nowMs);
    inFlight.tick(nowMs);
    unconfirmed.tick(nowMs);
    confirmedWaiters.wake();
  }
  const ticker = setInterval(() => {
    // Timers come before what has arrived: when this process stood still, the answers that are missed may be there, and what
    // is sent now is not as old as the last tick.
    const nowMs = performance.now();
    inFlight.passTo(nowMs);
    setImmediate(tick, nowMs);
  }, tickMs);

  let closed: Promise<void> | undefined;
  return {
    fullFor: (confirm) => (confirm ? fullConfirmed() : unconfirmed.full),
    get free() {
      return limits.maxInFlight - inFlight.count;
    },
    get freeBytes() {
      return limits.maxInFlightBytes - inFlight.bytes;
    },
    get maxPayloadBytes() {
      return maxMessageBytes();
    },
    openLane: () => inFlight.openLane(unconfirmed.send),
    whenReady(callback, confirm = true) {
      return (confirm ? confirmedWaiters : unconfirmedWaiters).add(callback);
    },
    state: () => ({
      connected: link.connection !== undefined && !link.stalled,
      detail: link.stalled ? `${link.detail} does not answer` : link.detail,
      ingest: confirmation.ingest,
      inFlight: inFlight.count,
      inFlightBytes: inFlight.bytes,
      holdingLanes: inFlight.holdingLanes,
      standstill: confirmation.standstill ?? inFlight.standstill,
      counters,
    }),
    troubles: () => inFlight.troubles(),
    async drain(timeoutMs) {
      const endMs = performance.now() + timeoutMs;
      while (inFlight.count > 0 && closed === undefined && performance.now() < endMs)
        await delay(drainPollMs);
      ready?.wire.flush();
      // What was sent without confirmation has left this process when a PING behind it is answered.
      const waitMs = endMs - performance.now();
      if (ready !== undefined && waitMs > 0) {
        await Promise.race([
          ready.connection.flush().catch(() => undefined),
          delay(waitMs, undefined, { ref: false }),
        ]);
      }
      return inFlight.count;
    },
    close() {
      closed ??= (async () => {
        clearInterval(ticker);
        ready?.wire.flush();
        await link.close();
        ready = undefined;
      })();
      return closed;
    },
  };
}

/** Why NATS can never take a message, or undefined. */
function tooLarge(message: UplinkMessage, maxBytes: number): string | undefined {
  const size = natsBytesOf(message);
  if (size > maxBytes) return `${size} bytes are more than the ${maxBytes} that NATS takes`;
  if (message.subject.length > maxSubjectBytes) return `the subject is longer than ${maxSubjectBytes} bytes`;
  return undefined;
}
