import { messageOf } from '../../../errors.js';
import { type Log, limitLog } from '../../../log.js';
import { headerTextOf } from '../connection/nats-headers.js';
import type { Subscription } from '../connection/nats-library.js';
import type { NatsLink } from '../connection/nats-link.js';
import { decodeHeaders, readQos } from '../mqtt-headers.js';
import { escapeToken, subjectToTopic } from '../subject.js';
import type { CommandStore } from './command-store.js';
import type { DownlinkMessage } from './stored-command.js';

/** What NATS has said to a subscription: it holds, or why it does not. */
export type DownlinkAnswer = 'held' | { readonly refused: string };

/** Somebody wants what is sent to a device. */
export interface DownlinkClaim {
  /** Undefined: NATS has not answered, or is away; it is asked again when it is back. */
  readonly answer: DownlinkAnswer | undefined;
  /** Idempotent. */
  release(): void;
}

/**
 * Messages from NATS to devices: `cmd.<device id>.>` becomes `cmd/<device id>/…`. There is a NATS subscription for
 * each device that somebody on this replica claims, and for no other.
 */
export interface Downlink {
  /** Who takes the messages; set before the first claim. */
  deliver: (message: DownlinkMessage) => void;
  /** Called when `store` is there that was not before: what is claimed is to be claimed anew. */
  onStored: (() => void) | undefined;
  /** Where commands are stored; undefined: nowhere, so that they come as NATS passes them on. */
  readonly store: CommandStore | undefined;
  /** Why they are not stored, where they could be. */
  readonly notStored: string | undefined;
  /** NATS is connected and answers. */
  readonly reachable: boolean;
  /**
   * Claims what is sent to a device. A device that NATS refused before is asked for anew.
   *
   * @param onAnswer called, soon and not from within this call, whenever NATS has answered.
   */
  claim(deviceId: string, onAnswer?: () => void): DownlinkClaim;
}

/** One device that is claimed. */
interface Claimed {
  readonly deviceId: string;
  readonly claims: Set<{ readonly onAnswer: (() => void) | undefined }>;
  subscription: Subscription | undefined;
  answer: DownlinkAnswer | undefined;
  /** What was asked for together with it, until NATS has answered. */
  round: Claimed[] | undefined;
  /** A refusal was logged, and nothing since. */
  complained: boolean;
  /** It is asked for by ourselves, and for no new claim. */
  again: boolean;
}

/** Asked for at once on a new connection; two further ones for each of them that is held. */
const firstAsked = 256;
/** How often, and how many of, those that do not hold are asked for again. */
const retryMs = 10_000;
const retried = 8;

/**
 * A subscription holds when NATS has answered a PING behind it and has refused nothing before. Those of one turn share a
 * PING. A refusal for want of permission names its subject; one that names none, as `maximum subscriptions exceeded`, is of
 * any behind that PING, and each of them is asked for again alone.
 */
export function openDownlink(link: NatsLink, log: Log, notStored?: string): Downlink & { close(): void } {
  const limitedLog = limitLog(log);
  const devices = new Map<string, Claimed>();
  /** Those that do not hold and that NATS is not being asked for, the one asked longest ago first. */
  const unasked = new Set<Claimed>();
  let gathering: Claimed[] = [];
  /** What was asked for before each PING that NATS has not answered. */
  let rounds: Claimed[][] = [];

  function ask(device: Claimed): void {
    withdraw(device);
    device.again = false;
    const { connection } = link;
    try {
      const subscription = connection?.subscribe(`cmd.${escapeToken(device.deviceId)}.>`, {
        callback(error, message) {
          if (error === null) {
            const headers = headerTextOf(message);
            downlink.deliver({
              topic: subjectToTopic(message.subject),
              payload: Buffer.from(message.data),
              qos: readQos(headers),
              properties: decodeHeaders(headers),
            });
          } else if (device.subscription === subscription) {
            refuse(device, messageOf(error));
          }
        },
      });
      if (subscription === undefined) return;
      device.subscription = subscription;
      device.round = gathering;
      unasked.delete(device);
      gathering.push(device);
      link.requestPing();
    } catch (error) {
      // The connection has just ended; all subscriptions are made again on the next one.
      log.debug(
        { event: 'downlink_waits', device: device.deviceId, reason: messageOf(error) },
        'NATS is away',
      );
    }
  }

  function withdraw(device: Claimed): void {
    device.subscription?.unsubscribe();
    lose(device);
  }

  function lose(device: Claimed): void {
    device.subscription = undefined;
    device.round = undefined;
    device.answer = undefined;
    unasked.add(device);
  }

  function askMore(most: number): void {
    if (link.connection === undefined) return;
    for (const device of [...take(unasked, most)]) {
      ask(device);
      device.again = true;
    }
  }

  function answer(device: Claimed, answer: DownlinkAnswer): void {
    device.round = undefined;
    device.answer = answer;
    for (const { onAnswer } of [...device.claims]) onAnswer?.();
  }

  function hold(device: Claimed): void {
    if (device.complained)
      limitedLog.info('downlink_held', { device: device.deviceId }, 'NATS sends commands for a device again');
    device.complained = false;
    answer(device, 'held');
  }

  function refuse(device: Claimed, reason: string): void {
    withdraw(device);
    const text = 'NATS refused the subscription to the commands for a device';
    if (!device.complained) limitedLog.warn('downlink_refused', { device: device.deviceId, reason }, text);
    device.complained = true;
    answer(device, { refused: reason });
  }

  function settle(round: readonly Claimed[], problem: string | undefined): void {
    // Who was refused by name, released, or asked for anew belongs to it no longer.
    const open = round.filter((device) => device.round === round);
    const hopeful = open.filter(({ again, complained }) => again || complained).length;
    for (const device of open) {
      if (problem === undefined) {
        hold(device);
      } else if (open.length === 1) {
        refuse(device, problem);
      } else {
        ask(device);
        link.ping();
      }
    }
    if (problem === undefined && hopeful > 0) askMore(2 * hopeful);
  }

  link.listen({
    connected() {
      askMore(firstAsked);
    },
    disconnected() {
      gathering = [];
      rounds = [];
      for (const device of devices.values()) lose(device);
    },
    pinged() {
      rounds.push(gathering);
      gathering = [];
    },
    ponged(_denied, problem) {
      const round = rounds.shift();
      if (round !== undefined && round.length > 0) settle(round, problem);
    },
  });
  const retry = setInterval(() => askMore(retried), retryMs);
  retry.unref();

  const downlink: Downlink & { close(): void } = {
    deliver: () => {},
    onStored: undefined,
    store: undefined,
    notStored,
    get reachable() {
      return link.open;
    },
    claim(deviceId, onAnswer) {
      const device = devices.get(deviceId) ?? {
        deviceId,
        claims: new Set(),
        subscription: undefined,
        answer: undefined,
        round: undefined,
        complained: false,
        again: false,
      };
      devices.set(deviceId, device);
      const claim = { onAnswer };
      device.claims.add(claim);
      if (device.subscription === undefined) ask(device);
      return {
        get answer() {
          return device.answer;
        },
        release() {
          if (!device.claims.delete(claim) || device.claims.size > 0) return;
          withdraw(device);
          unasked.delete(device);
          devices.delete(deviceId);
        },
      };
    },
    close() {
      clearInterval(retry);
      limitedLog.close();
    },
  };
  return downlink;
}

function* take<T>(values: Iterable<T>, most: number): Generator<T> {
  let taken = 0;
  for (const value of values) {
    if (taken === most) return;
    taken += 1;
    yield value;
  }
}
