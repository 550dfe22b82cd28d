import { messageOf } from '../../errors.js';
import { findHeader, headerTextOf } from './connection/nats-headers.js';
import type { Msg, NatsConnection } from './connection/nats-library.js';
import type { NatsLink } from './connection/nats-link.js';
import { deviceSubject, readTopicHeader } from './subject.js';

/** A message of a device, as it passes. */
export type PassingMessage = Readonly<ReturnType<typeof toPassing>>;

export interface PeekListener {
  message(message: PassingMessage): void;
  /** So many came too fast to be shown. */
  missed(count: number): void;
  /** No more come. @param reason in words. */
  ended(reason: string): void;
}

/** Why the messages of a device cannot be followed, in words. */
export const peekRefusals = {
  away: 'NATS is away',
  shared: 'its NATS subject is shared with other devices, so that its messages cannot be told from theirs',
  many: 'as many devices are looked at here as may be at a time',
} as const;
export type PeekRefusal = keyof typeof peekRefusals;

export type Peeks = ReturnType<typeof openPeeks>;

/** Devices that one replica follows at a time. */
const maxPeeks = 16;
/** Messages of one device that are passed on in a second; people read no more. */
const maxPerSecond = 50;
/** Of a payload so many bytes are passed on. */
const maxShownBytes = 1_024;
const tellMissedMs = 1_000;

/** @param templateOf the template of the NATS subjects of devices of a type. */
export function openPeeks(link: NatsLink, templateOf: (type: string) => string) {
  let open = 0;
  /** Of the connection they look by, each of which is asked once: what waits for its end cannot be taken back. */
  const lookers = new WeakMap<NatsConnection, Set<(reason: string) => void>>();

  function lookersOf(connection: NatsConnection): Set<(reason: string) => void> {
    const known = lookers.get(connection);
    if (known !== undefined) return known;
    const all = new Set<(reason: string) => void>();
    lookers.set(connection, all);
    void connection.closed().then(() => {
      for (const fail of all) fail('the connection to NATS has ended');
    });
    return all;
  }

  return {
    /**
     * Follows the messages of a device in NATS, whatever stores them, wherever the device is connected.
     *
     * @returns a function that ends it; or why it cannot be.
     */
    open(
      { id, type }: { readonly id: string; readonly type: string },
      listener: PeekListener,
    ): (() => void) | PeekRefusal {
      const { connection } = link;
      if (connection === undefined || !link.open) return 'away';
      const subject = deviceSubject(templateOf(type), id);
      if (subject === undefined) return 'shared';
      if (open >= maxPeeks) return 'many';
      open += 1;
      let left = maxPerSecond;
      let missed = 0;
      let ended = false;
      const timer = setInterval(() => {
        left = maxPerSecond;
        if (missed > 0) listener.missed(missed);
        missed = 0;
      }, tellMissedMs);
      const end = (): void => {
        if (ended) return;
        ended = true;
        open -= 1;
        clearInterval(timer);
        others.delete(fail);
        if (!connection.isClosed()) subscription.unsubscribe();
      };
      const fail = (reason: string): void => {
        if (ended) return;
        end();
        listener.ended(reason);
      };
      const subscription = connection.subscribe(subject, {
        callback(error, message) {
          if (ended) return;
          if (error !== null) return fail(`NATS refuses it: ${messageOf(error)}`);
          if (left <= 0) {
            missed += 1;
            return;
          }
          left -= 1;
          listener.message(toPassing(message));
        },
      });
      const others = lookersOf(connection);
      others.add(fail);
      return end;
    },
  };
}

function toPassing(message: Msg) {
  const { subject, data } = message;
  const headers = headerTextOf(message);
  return {
    atMs: Date.now(),
    subject,
    /** The MQTT topic; undefined: it did not come from a gateway. */
    topic: readTopicHeader((name) => findHeader(headers, name)),
    /** Bytes of the whole payload. */
    size: data.length,
    /** Its beginning. */
    payload: cut(data),
  };
}

/** The beginning of a payload; of text, whole characters. */
function cut(data: Uint8Array): Uint8Array {
  if (data.length <= maxShownBytes) return data;
  let end = maxShownBytes;
  // At most three bytes of UTF-8 follow the first one of a character.
  while (end > maxShownBytes - 3 && ((data[end] as number) & 0xc0) === 0x80) end -= 1;
  return data.subarray(0, end);
}
