import type { Log } from '../../../log.js';
import { type NatsErrorReport, openNatsInternals } from './nats-internals.js';
import type { NatsConnection } from './nats-library.js';
import { openNatsWire } from './nats-wire.js';

/** Who wants to know how far the server has read. None of the calls may throw. */
export interface PingListener {
  /** A PING is about to be sent: whatever is to be ahead of it is published now. */
  pinging?(): void;
  /** A PING was sent: whatever was published before is ahead of it. */
  pinged?(): void;
  /**
   * The oldest PING that was not answered is: the server has read whatever was ahead of it.
   *
   * @param denied what was published to these subjects between the PING before and this one was refused; the server
   *   names them, and where the account maps subjects they are what it made of those in the messages.
   * @param unnamed in the server's words, the last refusal between them that names no subject.
   */
  ponged?(denied: ReadonlySet<string>, unnamed?: string): void;
}

const tickMs = 250;
const idlePingMs = 2_000;
const stalledAfterMs = 1_000;
/** Whoever had to leave a server within this time is twice as patient with the next one: it may be the machine that is slow. */
const restlessMs = 60_000;
/** A server silent for so long is given up: the kernel alone would take a quarter of an hour to notice. */
const deadAfterMs = 8_000;

/** How long a silent server is waited for before another one takes its place. */
export class Patience {
  private waitMs = stalledAfterMs;
  private leftAtMs = Number.NEGATIVE_INFINITY;

  isOver(silentMs: number, nowMs: number): boolean {
    if (nowMs - this.leftAtMs >= restlessMs) this.waitMs = stalledAfterMs;
    return silentMs > this.waitMs;
  }

  /** It was, and a server is left. */
  noteLeft(): void {
    this.waitMs = Math.min(2 * this.waitMs, deadAfterMs);
    this.leftAtMs = performance.now();
  }
}

/** A connection that is watched: of `stalled`, `requestPing` and `ping` the same holds as of a `NatsLink`. */
export type WatchedNats = Readonly<ReturnType<typeof watchNats>>;

/** Sends PINGs, tells when the server is silent, and ends the connection when it stays so. */
export function watchNats(
  connection: NatsConnection,
  options: {
    /** More may come. */
    listeners: readonly PingListener[];
    patience: Patience;
    /** Time to look for another server; called again and again while this one is silent. */
    onImpatient(): void;
    /** Must not throw. */
    onError(report: NatsErrorReport): void;
    log: Log;
  },
) {
  const { listeners, patience, log } = options;
  const internals = openNatsInternals(connection);
  const wire = openNatsWire(connection, internals);
  internals.onThrow((error) =>
    log.error({ event: 'nats_answer_failed', err: error }, 'A message of NATS was not understood'),
  );
  // Nothing of it is a getter: `stalled` is asked for each message.
  const watched = { connection, internals, wire, stalled: false, requestPing, ping, leave, end };
  let pingsUnderWay = 0;
  /** When the last PING was sent or, with several under way, answered; 0 while there is none. */
  let pingSentAtMs = 0;
  let pingRequested = false;
  let pingScheduled = false;
  let lastHeardAtMs = performance.now();
  let lastTickAtMs = lastHeardAtMs;
  let lastInMessages = 0;
  let pingedOutMessages = 0;
  /** Refused since the PING before was answered: subjects as the server names them, and whether there was anything else. */
  let denied = new Set<string>();
  let hasUnnamed = false;
  let isLeft = false;
  let ended = false;
  const ticker = setInterval(tick, tickMs).unref();

  // Errors and answers to PINGs are followed where the library reads them. What it offers of both, `status()` and `flush()`, hands
  // them on some promises later, each after its own number of them, so that their order is lost.
  internals.onError((error) => {
    const { operation, subject } = error.permissionContext ?? {};
    if (operation === 'publish' && subject !== undefined) denied.add(subject);
    if (subject === undefined) hasUnnamed = true;
    options.onError(error);
  });

  function sendPing(): Promise<{ denied: ReadonlySet<string>; unnamed: string | undefined }> {
    return new Promise((resolve, reject) => {
      internals.ping({
        resolve() {
          const unnamed = hasUnnamed ? (internals.lastError ?? 'NATS reported an error') : undefined;
          resolve({ denied, unnamed });
          denied = new Set();
          hasUnnamed = false;
        },
        reject,
      });
    });
  }

  function requestPing(): void {
    if (pingSentAtMs !== 0) {
      pingRequested = true;
    } else if (!pingScheduled) {
      pingScheduled = true;
      queueMicrotask(startPing);
    }
  }

  function startPing(): void {
    pingScheduled = false;
    if (pingsUnderWay === 0) ping();
  }

  function ping(): void {
    if (ended || connection.isClosed()) return;
    pingRequested = false;
    if (pingsUnderWay === 0) pingSentAtMs = performance.now();
    pingsUnderWay += 1;
    for (const listener of listeners) listener.pinging?.();
    wire.flush();
    const answered = sendPing();
    // Who listens later did not see this PING.
    const told = listeners.length;
    for (const listener of listeners) listener.pinged?.();
    answered.then(
      ({ denied, unnamed }) => {
        if (ended) return;
        pingsUnderWay -= 1;
        heard();
        pingSentAtMs = pingsUnderWay === 0 ? 0 : lastHeardAtMs;
        for (const listener of listeners.slice(0, told)) listener.ponged?.(denied, unnamed);
        if (pingRequested) startPing();
      },
      () => {
        // The connection is gone; `connectNats` reports it.
      },
    );
  }

  function heard(): void {
    if (isLeft) return;
    lastHeardAtMs = performance.now();
    if (watched.stalled) log.info({ event: 'nats_answers' }, 'NATS answers again');
    watched.stalled = false;
  }

  function tick(): void {
    const nowMs = performance.now();
    const lateMs = nowMs - lastTickAtMs - tickMs;
    lastTickAtMs = nowMs;
    const { inMsgs: inMessages } = connection.stats();
    const outMessages = wire.messagesOut;
    // When this process itself stood still, answers may be waiting to be read.
    if (inMessages !== lastInMessages || lateMs > stalledAfterMs / 2) heard();
    lastInMessages = inMessages;
    if (pingSentAtMs === 0) {
      if (outMessages !== pingedOutMessages || nowMs - lastHeardAtMs >= idlePingMs) startPing();
      pingedOutMessages = outMessages;
      return;
    }
    const silentMs = nowMs - Math.max(pingSentAtMs, lastHeardAtMs);
    if (silentMs > deadAfterMs) {
      log.warn(
        { event: 'nats_silent', silentMs: Math.round(silentMs) },
        'NATS does not answer; reconnecting',
      );
      internals.reset();
    } else if (silentMs > stalledAfterMs) {
      if (!watched.stalled) log.warn({ event: 'nats_stalled' }, 'NATS does not answer');
      watched.stalled = true;
      if (patience.isOver(silentMs, nowMs)) options.onImpatient();
    }
  }

  /** Ends the connection for another one: what lies in its socket never leaves. */
  function leave(): void {
    isLeft = true;
    patience.noteLeft();
    internals.reset();
  }

  /** The connection is gone, or about to be closed. */
  function end(): void {
    ended = true;
    clearInterval(ticker);
  }

  return watched;
}
