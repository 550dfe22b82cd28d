import type { Log } from '../../log.js';
import type { NatsLink } from './connection/nats-link.js';
import type { Forwarder } from './forwarder.js';
import { type ForwarderLimits, startForwarding } from './forwarding.js';

/** What was sent between two PINGs. */
interface Round {
  /** Messages whose confirmation is wanted. */
  readonly tokens: number[];
  /** The last mark among the others. */
  mark: number;
  /** The subject of the last message. */
  subject: Uint8Array | undefined;
}

const newRound = (): Round => ({ tokens: [], mark: 0, subject: undefined });

/**
 * Starts a forwarder to core NATS: a message counts as stored when the server has taken it, that is, when it has
 * answered a PING sent behind it and refused nothing before. One PING confirms everything sent since the one before.
 *
 * A server that refuses does not say which message, and the subject that it names can be another one where the account
 * maps subjects. So the whole round counts as refused, and from then on, for as long as the connection lasts, there is a
 * PING wherever the subject changes: who may not publish holds nobody else up.
 */
export function startCoreForwarder(options: {
  link: NatsLink;
  limits: ForwarderLimits;
  log: Log;
}): Forwarder {
  const { link } = options;
  return startForwarding({
    ...options,
    confirmation({ confirmed, unconfirmed }) {
      let sent = newRound();
      let asked: Round[] = [];
      /** This server has refused something. */
      let refuses = false;

      /** Ends the round where it would have two subjects. */
      function join(subject: Uint8Array): void {
        if (refuses && sent.subject !== undefined && sent.subject !== subject) link.ping();
        sent.subject = subject;
      }

      return {
        connected() {},
        disconnected() {
          sent = newRound();
          asked = [];
          refuses = false;
        },
        send(wire, message, token) {
          join(message.subject);
          wire.publish(message);
          sent.tokens.push(token);
          link.requestPing();
          return true;
        },
        sendPlain(wire, message, mark) {
          join(message.subject);
          wire.publish(message);
          if (mark === 0) return;
          sent.mark = mark;
          link.requestPing();
        },
        pinged() {
          asked.push(sent);
          sent = newRound();
        },
        ponged(denied) {
          const read = asked.shift() ?? newRound();
          const [subject] = denied;
          if (subject === undefined) {
            for (const token of read.tokens) confirmed.settleStored(token);
          } else {
            refuses = true;
            const detail = `the user may not publish to ${subject}`;
            for (const token of read.tokens) {
              confirmed.settleRefused(token, { cause: 'publish_denied', detail, permanent: false });
            }
          }
          unconfirmed.settleMark(read.mark, true);
        },
        groupOf: () => 0,
        maxMessageBytes: Number.POSITIVE_INFINITY,
        ingest: undefined,
        standstill: undefined,
      };
    },
  });
}
