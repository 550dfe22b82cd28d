import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { withFastGetters } from '../../fast-getters.js';
import { type DialledNats, dialNats } from './nats-dial.js';
import { openErrorReport } from './nats-errors.js';
import type { NatsConnection } from './nats-library.js';
import { type NatsAddress, type NatsSettings, readNatsTarget, showAddress } from './nats-settings.js';
import { Patience, type PingListener, type WatchedNats, watchNats } from './nats-watch.js';
import type { NatsWire } from './nats-wire.js';

/** Who follows a link. Every call is made in the order in which things happened; none may throw. */
export interface NatsLinkListener extends PingListener {
  /** There is a new connection; also called at once by `listen` for the one at hand. */
  connected(connection: NatsConnection, wire: NatsWire): void;
  /** The connection is gone: what it carried and NATS did not answer may or may not have arrived. */
  disconnected(): void;
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

/** Another server is not looked for again before. */
const lookAgainMs = 1_000;
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
  let current: WatchedNats | undefined;
  /** A connection that is to take the place of the one that is gone. */
  let next: DialledNats | undefined;
  let isDialling = false;
  let detail = '';

  const first = await dialNats(target, target.addresses);
  const errors = openErrorReport(log);
  const patience = new Patience();
  adopt(first);
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
    const { remoteAddress, remotePort } = current?.internals.socket ?? {};
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
    const dialled = await dialNats(target, others).catch(() => undefined);
    setTimeout(() => {
      isDialling = false;
    }, lookAgainMs).unref();
    if (dialled === undefined) return;
    const isOther = dialled.connection.info?.server_id !== from.connection.info?.server_id;
    if (current !== from || !from.stalled || !isOther || closing.signal.aborted) {
      await dialled.connection.close();
      return;
    }
    next = dialled;
    log.warn(
      { event: 'nats_left', url: detail, for: showAddress(dialled.address) },
      'another server answers',
    );
    from.leave();
  }

  async function redial(): Promise<NatsConnection | undefined> {
    let backoffMs = firstBackoffMs;
    let lastFailure = '';
    while (true) {
      try {
        const taken = takeNext();
        if (taken !== undefined) return taken;
        await delay(backoffMs * (0.5 + Math.random() / 2), undefined, { signal: closing.signal });
        next = await dialNats(target, addresses());
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
    const onImpatient = () => void dialAnother();
    current = watchNats(connection, { listeners, patience, onImpatient, onError: errors.report, log });
    detail = showAddress(address);
    discovered = readDiscovered(connection.info?.connect_urls ?? [], address);
    const { server_name: server, version } = connection.info ?? {};
    log.info({ event: 'nats_connected', url: detail, server, version }, 'connected to NATS');
    for (const listener of listeners) listener.connected(connection, current.wire);
  }

  function drop(reason: string): void {
    current?.end();
    current = undefined;
    detail = reason;
    log.warn({ event: 'nats_disconnected', reason }, 'lost the connection to NATS; it is made anew');
    for (const listener of listeners) listener.disconnected();
  }

  let closed: Promise<void> | undefined;
  return withFastGetters({
    get connection() {
      return current?.connection;
    },
    get stalled() {
      return current?.stalled === true;
    },
    get open() {
      return current !== undefined && !current.stalled;
    },
    get detail() {
      return detail;
    },
    requestPing: () => current?.requestPing(),
    ping: () => current?.ping(),
    listen(listener) {
      listeners.push(listener);
      if (current !== undefined) listener.connected(current.connection, current.wire);
    },
    close() {
      closed ??= (async () => {
        closing.abort();
        errors.close();
        current?.end();
        await current?.connection.close();
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
