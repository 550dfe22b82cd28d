import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { withFastGetters } from '../../fast-getters.js';
import { type DialledNats, dialNats } from './nats-dial.js';
import { openErrorReport } from './nats-errors.js';
import { type NatsInternals, openNatsInternals } from './nats-internals.js';
import type { NatsConnection } from './nats-library.js';
import { type NatsReplies, openNatsReplies } from './nats-replies.js';
import { type NatsAddress, type NatsSettings, readNatsTarget, showAddress } from './nats-settings.js';
import { type NatsWire, openNatsWire } from './nats-wire.js';

/** Who follows a link. Every call is made in the order in which things happened; none may throw. */
export interface NatsLinkListener {
  /** There is a new connection; also called at once by `listen` for the one at hand. */
  connected(connection: NatsConnection, wire: NatsWire): void;
  /** The connection is gone: what it carried and NATS did not answer may or may not have arrived. */
  disconnected(): void;
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

/**
 * A connection to NATS that is made anew for as long as the link is open. Each `NatsConnection` lives for one TCP
 * connection: subscriptions are made again in `connected`.
 */
export interface NatsLink {
  /** The connection at hand, while there is one. */
  readonly connection: NatsConnection | undefined;
  /**
   * NATS has said nothing for a second although it was asked. What is given to a stalled connection lies in its
   * write buffer, so nothing should be.
   */
  readonly stalled: boolean;
  /** There is a connection, and it is not stalled. */
  readonly open: boolean;
  /** The server in use, or why there is none. */
  readonly detail: string;
  /** Sends a PING at the end of this turn, or as soon as the one under way is answered. */
  requestPing(): void;
  /** Sends a PING now, also while others are under way. */
  ping(): void;
  listen(listener: NatsLinkListener): void;
  /** Ends the link and its connection. Idempotent. */
  close(): Promise<void>;
}

const tickMs = 250;
const idlePingMs = 2_000;
const stalledAfterMs = 1_000;
/** Whoever had to leave a server within this time is twice as patient with the next one: it may be the machine that is slow. */
const restlessMs = 60_000;
/** A server silent for so long is given up: the kernel alone would take a quarter of an hour to notice. */
const deadAfterMs = 8_000;
const firstBackoffMs = 50;
const lastBackoffMs = 2_000;
const maxDiscovered = 32;

/**
 * Connects to NATS; from then on reconnects by itself, without end and at most every two seconds.
 *
 * @throws SvcMqttError CONFIG_INVALID, NATS_UNREACHABLE or NATS_REFUSED when the first attempt fails.
 */
export async function connectNats(settings: NatsSettings, log: Log): Promise<NatsLink> {
  const target = readNatsTarget(settings);
  const listeners: NatsLinkListener[] = [];
  const closing = new AbortController();
  let discovered: NatsAddress[] = [];
  let current: NatsConnection | undefined;
  let internals: NatsInternals | undefined;
  /** A connection to another server, which is to take the place of the stalled one. */
  let next: DialledNats | undefined;
  let isDialling = false;
  /** A server is left when it has been silent for so long. */
  let leaveAfterMs = stalledAfterMs;
  let leftAtMs = Number.NEGATIVE_INFINITY;
  let wire: NatsWire | undefined;
  let detail = '';
  let replies: NatsReplies | undefined;
  let pingsUnderWay = 0;
  /** When the last PING was sent or, with several under way, answered; 0 while there is none. */
  let pingSentAtMs = 0;
  let pingRequested = false;
  let pingScheduled = false;
  let lastHeardAtMs = 0;
  let lastTickAtMs = 0;
  let lastInMessages = 0;
  let pingedOutMessages = 0;
  let stalled = false;

  const first = await dialNats(target, target.addresses, 'svc-mqtt');
  const errors = openErrorReport(log);
  adopt(first);
  const ticker = setInterval(tick, tickMs);
  ticker.unref();
  const following = follow(first.connection);

  async function follow(connection: NatsConnection): Promise<void> {
    let lost: NatsConnection | undefined = connection;
    while (lost !== undefined) {
      const why = await lost.closed();
      if (closing.signal.aborted) return;
      drop(why instanceof Error ? messageOf(why) : 'the connection was closed');
      lost = await redial();
    }
  }

  const addresses = () => [...target.addresses, ...discovered];

  function takeNext(): NatsConnection | undefined {
    const taken = next;
    next = undefined;
    if (taken === undefined || taken.connection.isClosed()) return undefined;
    adopt(taken);
    return taken.connection;
  }

  /** Those that are not the one in use, as far as their addresses tell. */
  function listOthers(): NatsAddress[] {
    const { remoteAddress, remotePort } = internals?.socket ?? {};
    return addresses().filter(
      (address) =>
        showAddress(address) !== detail && !(address.host === remoteAddress && address.port === remotePort),
    );
  }

  /**
   * Leaves a stalled server for another one that answers. What was published last may lie in the socket still: sent when the server goes
   * on, it could be stored by a new leader that has nothing of what came just before.
   */
  async function dialAnother(): Promise<void> {
    const from = current;
    const others = listOthers();
    if (from === undefined || others.length === 0 || isDialling || next !== undefined) return;
    isDialling = true;
    // Where none of them answers either, or none lets us in, the one in use is waited for.
    const dialled = await dialNats(target, others, 'svc-mqtt').catch(() => undefined);
    setTimeout(() => {
      isDialling = false;
    }, stalledAfterMs).unref();
    if (dialled === undefined) return;
    const isOther = dialled.connection.info?.server_id !== from.info?.server_id;
    if (current !== from || !stalled || !isOther || closing.signal.aborted) {
      await dialled.connection.close();
      return;
    }
    next = dialled;
    const nowMs = performance.now();
    leaveAfterMs =
      nowMs - leftAtMs < restlessMs ? Math.min(2 * leaveAfterMs, deadAfterMs) : 2 * stalledAfterMs;
    leftAtMs = nowMs;
    log.warn(
      { event: 'nats_left', url: detail, for: showAddress(dialled.address) },
      'another server answers',
    );
    internals?.reset();
  }

  async function redial(): Promise<NatsConnection | undefined> {
    let backoffMs = firstBackoffMs;
    let lastFailure = '';
    while (true) {
      try {
        const taken = takeNext();
        if (taken !== undefined) return taken;
        await delay(backoffMs * (0.5 + Math.random() / 2), undefined, { signal: closing.signal });
        next = await dialNats(target, addresses(), 'svc-mqtt');
        if (closing.signal.aborted) return undefined;
      } catch (error) {
        if (closing.signal.aborted) return undefined;
        detail = messageOf(error);
        if (detail !== lastFailure)
          log.warn({ event: 'nats_reconnect_failed', reason: detail }, 'NATS is away');
        lastFailure = detail;
        backoffMs = Math.min(backoffMs * 2, lastBackoffMs);
      }
    }
  }

  function adopt({ connection, address }: DialledNats): void {
    current = connection;
    internals = openNatsInternals(connection);
    wire = openNatsWire(connection, internals);
    detail = showAddress(address);
    stalled = false;
    pingsUnderWay = 0;
    pingSentAtMs = 0;
    pingRequested = false;
    lastHeardAtMs = performance.now();
    lastTickAtMs = lastHeardAtMs;
    lastInMessages = 0;
    discovered = readDiscovered(connection.info?.connect_urls ?? [], address);
    replies = openNatsReplies(internals, errors.report);
    const { server_name: server, version } = connection.info ?? {};
    log.info({ event: 'nats_connected', url: detail, server, version }, 'connected to NATS');
    for (const listener of listeners) listener.connected(connection, wire);
  }

  function drop(reason: string): void {
    current = undefined;
    internals = undefined;
    wire = undefined;
    replies = undefined;
    stalled = false;
    detail = reason;
    log.warn({ event: 'nats_disconnected', reason }, 'lost the connection to NATS; it is made anew');
    for (const listener of listeners) listener.disconnected();
  }

  function startPing(): void {
    pingScheduled = false;
    if (pingsUnderWay === 0) ping();
  }

  function ping(): void {
    const connection = current;
    if (connection === undefined || replies === undefined || connection.isClosed()) return;
    pingRequested = false;
    if (pingsUnderWay === 0) pingSentAtMs = performance.now();
    pingsUnderWay += 1;
    for (const listener of listeners) listener.pinging?.();
    wire?.flush();
    const answered = replies.ping();
    // Who listens later did not see this PING.
    const told = listeners.length;
    for (const listener of listeners) listener.pinged?.();
    answered.then(
      ({ denied, unnamed }) => {
        if (current !== connection) return;
        pingsUnderWay -= 1;
        heard();
        pingSentAtMs = pingsUnderWay === 0 ? 0 : lastHeardAtMs;
        for (const listener of listeners.slice(0, told)) listener.ponged?.(denied, unnamed);
        if (pingRequested) startPing();
      },
      () => {
        // The connection is gone; `follow` reports it.
      },
    );
  }

  function heard(): void {
    // It is being left.
    if (next !== undefined) return;
    lastHeardAtMs = performance.now();
    if (stalled) log.info({ event: 'nats_answers' }, 'NATS answers again');
    stalled = false;
  }

  function tick(): void {
    const nowMs = performance.now();
    const lateMs = nowMs - lastTickAtMs - tickMs;
    lastTickAtMs = nowMs;
    const connection = current;
    if (connection === undefined) return;
    const { inMsgs: inMessages } = connection.stats();
    const outMessages = wire?.messagesOut ?? 0;
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
      internals?.reset();
    } else if (silentMs > stalledAfterMs) {
      if (!stalled) log.warn({ event: 'nats_stalled' }, 'NATS does not answer');
      stalled = true;
      if (nowMs - leftAtMs >= restlessMs) leaveAfterMs = stalledAfterMs;
      if (silentMs > leaveAfterMs) void dialAnother();
    }
  }

  let closed: Promise<void> | undefined;
  return withFastGetters({
    get connection() {
      return current;
    },
    get stalled() {
      return stalled;
    },
    get open() {
      return current !== undefined && !stalled;
    },
    get detail() {
      return detail;
    },
    requestPing() {
      if (pingSentAtMs !== 0) {
        pingRequested = true;
      } else if (!pingScheduled) {
        pingScheduled = true;
        queueMicrotask(startPing);
      }
    },
    ping,
    listen(listener) {
      listeners.push(listener);
      if (current !== undefined && wire !== undefined) listener.connected(current, wire);
    },
    close() {
      closed ??= (async () => {
        closing.abort();
        clearInterval(ticker);
        errors.close();
        await current?.close();
        await following;
        await next?.connection.close();
        current = undefined;
        detail = 'closed';
      })();
      return closed;
    },
  });
}

/** Servers of the cluster that the connected one told of; they answer to the name it was reached by. */
function readDiscovered(urls: readonly string[], source: NatsAddress): NatsAddress[] {
  return urls.slice(0, maxDiscovered).flatMap((url) => {
    const match = /^\[?(.+?)\]?:(\d+)$/.exec(url);
    return match?.[1] === undefined
      ? []
      : [{ host: match[1], port: Number(match[2]), tlsName: source.tlsName }];
  });
}
