import { setTimeout as delay } from 'node:timers/promises';
import type { Msg, Subscription } from '../connection/nats-library.js';
import type { NatsLink } from '../connection/nats-link.js';
import { type NatsRequests, openNatsRequests, type RequestError } from '../connection/nats-requests.js';
import { topicToTokens } from '../subject.js';
import type { FleetInterest } from './fleet-interest.js';
import type { StateMessage } from './state-message.js';

/** The replica that gives a message to a shared subscription, `<name>/<filter>`. */
export type ShareTaker = readonly [share: string, replica: string];

/** `none`: it takes nothing for the share, any more. `silent`: it has not answered in time. `unknown`: it must not be asked. */
type Outcome = 'there' | 'none' | 'absent' | 'silent' | 'unknown';

/**
 * Core NATS, in no stream: `<replica>` asks whether it is there for a share, `<replica>.<topic>` gives it a message. An answer that is not
 * empty says that it takes it not.
 */
const prefix = 'svc-mqtt.taker.';
/** Who may hear what replicas tell each other may hear these answers. */
const answersPrefix = 'svc-mqtt.answer';
const refusal = 'none';
const lookEveryMs = 250;
/** A replica that is between two connections to NATS has one again by then. */
const reconnectsWithinMs = 3_000;

/** Sees to it that a message which shared subscriptions take on another replica is taken by one that is there. */
export function openShareTakers<M extends StateMessage>(options: {
  link: NatsLink;
  interest: FleetInterest;
  replica: string;
  encode(message: M, takers: readonly ShareTaker[]): Uint8Array;
  /** The share has members here. */
  hasShare(share: string): boolean;
  /** Another replica gives a message. @param tokens its topic. @returns false: the share has no members here. */
  onGiven(tokens: string, message: Msg): boolean;
  /** @returns false: no member of the share is connected here. */
  giveHere(message: M, share: string): boolean;
}) {
  const { link, interest, replica } = options;
  const own = `${prefix}${replica}`;
  /** About to be asked. */
  const asking = new Map<string, Promise<Outcome>>();
  const confirming = new Set<Promise<unknown>>();
  let requests: NatsRequests | undefined;
  let subscriptions: Subscription[] = [];
  let hasLeft = false;
  let isClosed = false;
  let turn = 0;

  /** @param mayRepeat it is asked again when the connection to NATS ends before the answer. */
  async function request(
    taker: string,
    subject: string,
    message: { payload: Uint8Array | string; headers?: Uint8Array; mayRepeat: boolean },
  ): Promise<Outcome> {
    while (!isClosed) {
      const { connection } = link;
      if (link.open && connection?.isClosed() === false) {
        try {
          const answer = await requests?.ask(subject, message.payload, message.headers);
          return answer?.data.length ? 'none' : 'there';
        } catch (error) {
          const { noResponders, mayPass } = error as RequestError;
          if (!mayPass) return 'unknown';
          const isOver = noResponders || !message.mayRepeat || (link.open && !connection.isClosed());
          if (isOver) {
            interest.miss(taker);
            return noResponders ? 'absent' : 'silent';
          }
        }
      }
      await pause();
    }
    return 'there';
  }

  /** One question for all messages that NATS says together are stored. */
  function ask(taker: string, share: string): Promise<Outcome> {
    const key = `${taker} ${share}`;
    let asked = asking.get(key);
    if (asked === undefined) {
      asked = Promise.resolve().then(() => {
        asking.delete(key);
        return request(taker, `${prefix}${taker}`, { payload: share, mayRepeat: true });
      });
      asking.set(key, asked);
    }
    return asked;
  }

  /** Whether it takes the message, as far as is known. With QoS 2 it is left to it in doubt: another would have it a second time. */
  async function isTaken(share: string, taker: string, { qos }: M): Promise<boolean> {
    const endMs = performance.now() + reconnectsWithinMs;
    let outcome = await ask(taker, share);
    // It may have died with the question.
    if (outcome === 'silent' && qos === 2) outcome = await ask(taker, share);
    while (outcome === 'absent' && qos === 2 && performance.now() < endMs) {
      await pause();
      outcome = await ask(taker, share);
    }
    return outcome === 'there' || outcome === 'unknown' || (outcome === 'silent' && qos === 2);
  }

  async function passAgain(message: M, share: string, absent: string): Promise<void> {
    const { payload, qos } = message;
    const tried = new Set([absent]);
    while (!options.giveHere(message, share)) {
      const left = (interest.shares.get(share) ?? []).filter(
        (each) => !tried.has(each) && interest.answers(each),
      );
      turn += 1;
      const next = left[turn % left.length];
      if (next === undefined) return;
      tried.add(next);
      const outcome = await request(next, `${prefix}${next}.${topicToTokens(message.topic)}`, {
        payload,
        headers: options.encode(message, [[share, next]]),
        mayRepeat: qos === 1,
      });
      if (outcome === 'there' || (outcome === 'silent' && qos === 2)) return;
    }
  }

  return {
    /** Answers the others, and can ask them, from now on. */
    start(): void {
      requests = openNatsRequests(link, answersPrefix);
      link.listen({
        connected(connection) {
          if (isClosed) return;
          subscriptions = [
            connection.subscribe(own, {
              callback(error, message) {
                if (error !== null) return;
                message.respond(hasLeft || !options.hasShare(message.string()) ? refusal : '');
              },
            }),
            connection.subscribe(`${own}.>`, {
              callback(error, message) {
                if (error !== null) return;
                const isTaken = !hasLeft && options.onGiven(message.subject.slice(own.length + 1), message);
                message.respond(isTaken ? '' : refusal);
              },
            }),
          ];
        },
        disconnected() {
          subscriptions = [];
        },
      });
    },
    /**
     * Asks those who are to take a message that is stored whether they are there, and gives it to others in the place of those who
     * are not. Never rejects.
     */
    async confirm(message: M, takers: readonly ShareTaker[]): Promise<void> {
      const all = Promise.all(
        takers.map(async ([share, taker]) => {
          if (!(await isTaken(share, taker, message))) await passAgain(message, share, taker);
        }),
      );
      confirming.add(all);
      await all.finally(() => confirming.delete(all));
    },
    /** Waits until all are confirmed, at most until `timeoutMs`; answers how many messages are not. */
    async drain(timeoutMs: number): Promise<number> {
      const patience = new AbortController();
      const { signal } = patience;
      await Promise.race([
        Promise.all(confirming),
        delay(Math.max(0, timeoutMs), undefined, { signal }).catch(() => {}),
      ]);
      patience.abort();
      return confirming.size;
    },
    /** From now on it takes nothing from the others. */
    leave(): void {
      hasLeft = true;
    },
    /** Leaves, and waits for nobody. */
    close(): void {
      hasLeft = true;
      isClosed = true;
      if (link.connection?.isClosed() === false)
        for (const subscription of subscriptions) subscription.unsubscribe();
    },
  };
}

const pause = (): Promise<void> => delay(lookEveryMs, undefined, { ref: false });
