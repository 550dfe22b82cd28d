import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../../log.js';
import { withFastGetters } from '../../fast-getters.js';
import type { NatsLink } from '../connection/nats-link.js';
import { noWire } from '../connection/nats-wire.js';
import { type Forwarder, type ForwarderCounters, newForwarderCounters } from '../forwarder.js';
import type { NatsOutlet } from '../outlet.js';
import { type InFlight, openInFlight } from './in-flight.js';
import { openUnconfirmed, type Unconfirmed } from './unconfirmed.js';
import { openWaiters } from './waiters.js';

/** Bounds and times of a forwarder. */
export interface ForwarderLimits {
  readonly maxInFlight: number;
  readonly maxInFlightBytes: number;
  /** A message not confirmed for so long is sent again. */
  readonly ackTimeoutMs: number;
}

const tickMs = 100;
const drainPollMs = 20;

/** Who is told what NATS has answered. */
export interface Settle {
  readonly confirmed: InFlight;
  readonly unconfirmed: Unconfirmed;
  readonly counters: ForwarderCounters;
}

/** Joins a link, what is in flight and an outlet to a forwarder. Closing it closes the link, unless that is another's. */
export function startForwarding(options: {
  link: NatsLink;
  sharesLink?: boolean;
  limits: ForwarderLimits;
  log: Log;
  openOutlet(settle: Settle): NatsOutlet;
}): Forwarder {
  const { link, limits, log } = options;
  const counters = newForwarderCounters();
  /** Of the connection at hand, or the one before. */
  let wire = noWire;
  let wasOpen = false;

  const outlet = options.openOutlet(
    withFastGetters({
      get confirmed() {
        return inFlight;
      },
      get unconfirmed() {
        return unconfirmed;
      },
      counters,
    }),
  );
  const fullConfirmed = () =>
    inFlight.count >= limits.maxInFlight || inFlight.bytes >= limits.maxInFlightBytes;
  const inFlight: InFlight = openInFlight({
    outlet,
    sendUnconfirmed: (message) => unconfirmed.send(message),
    ackTimeoutMs: limits.ackTimeoutMs,
    counters,
    log,
    full: fullConfirmed,
    onRoom: () => confirmedWaiters.wake(),
  });
  const unconfirmed: Unconfirmed = openUnconfirmed({
    outlet,
    counters,
    maxBytes: limits.maxInFlightBytes,
    answerTimeoutMs: limits.ackTimeoutMs,
    onRoom: () => unconfirmedWaiters.wake(),
  });
  const confirmedWaiters = openWaiters(fullConfirmed);
  const unconfirmedWaiters = openWaiters(() => unconfirmed.full);

  link.listen({
    connected(connection, newWire) {
      wire = newWire;
      outlet.connected(connection, wire);
      tick(performance.now());
    },
    disconnected() {
      outlet.disconnected();
      inFlight.loseAll();
      unconfirmed.reset();
    },
    pinged: () => outlet.pinged?.(),
    ponged: (denied) => outlet.ponged?.(denied),
  });

  function tick(nowMs: number): void {
    const { open } = outlet;
    if (open && !wasOpen) inFlight.restartTimeouts();
    // Senders that waited for room in the window are let go when it is of no use any more.
    if (!open && wasOpen) unconfirmedWaiters.wake();
    wasOpen = open;
    outlet.tick?.(nowMs);
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
  return withFastGetters({
    fullFor: (confirm) => (confirm ? fullConfirmed() : unconfirmed.full),
    get free() {
      return limits.maxInFlight - inFlight.count;
    },
    get freeBytes() {
      return limits.maxInFlightBytes - inFlight.bytes;
    },
    get takesTtl() {
      return outlet.takesTtl;
    },
    get maxPayloadBytes() {
      return outlet.maxMessageBytes;
    },
    openLane: () => inFlight.openLane(),
    whenReady(callback, confirm = true) {
      return (confirm ? confirmedWaiters : unconfirmedWaiters).add(callback);
    },
    state: () => ({
      connected: link.open,
      detail: link.stalled ? `${link.detail} does not answer` : link.detail,
      ingest: outlet.ingest,
      durability: outlet.durability,
      batching: outlet.batching === true,
      inFlight: inFlight.count,
      inFlightBytes: inFlight.bytes,
      holdingLanes: inFlight.holdingLanes,
      /** Looks at all lanes that hold. */
      get standstill() {
        return outlet.standstill ?? inFlight.standstill;
      },
      counters,
    }),
    troubles: () => inFlight.troubles(),
    async drain(timeoutMs) {
      const endMs = performance.now() + timeoutMs;
      while (inFlight.count > 0 && closed === undefined && performance.now() < endMs)
        await delay(drainPollMs);
      wire.flush();
      // What was sent without confirmation has left this process when a PING behind it is answered.
      const waitMs = endMs - performance.now();
      if (link.connection !== undefined && waitMs > 0) {
        await Promise.race([
          link.connection.flush().catch(() => undefined),
          delay(waitMs, undefined, { ref: false }),
        ]);
      }
      return inFlight.count;
    },
    close() {
      closed ??= (async () => {
        clearInterval(ticker);
        wire.flush();
        if (options.sharesLink !== true) await link.close();
      })();
      return closed;
    },
  });
}
