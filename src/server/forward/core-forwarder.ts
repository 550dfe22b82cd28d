import type { Log } from '../../log.js';
import { withFastGetters } from '../fast-getters.js';
import type { NatsLink } from './connection/nats-link.js';
import { findSizeProblem, noWire, requireSize } from './connection/nats-wire.js';
import type { Forwarder } from './forwarder.js';
import { type ForwarderLimits, startForwarding } from './lanes/forwarding.js';

type Round = ReturnType<typeof newRound>;

/** What was sent between two PINGs. */
const newRound = () => ({
  /** Messages whose confirmation is wanted. */
  tokens: [] as number[],
  /** The last mark among the others. */
  mark: 0,
  /** The subject of the last message. */
  subject: undefined as Uint8Array | undefined,
});

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
  /** What a policy promises of acknowledgements does not hold, and is not held to. */
  warns?: boolean;
}): Forwarder {
  const { link, warns = false } = options;
  return startForwarding({
    ...options,
    openOutlet(settle) {
      let wire = noWire;
      let sent = newRound();
      let asked: Round[] = [];
      /** This server has refused something. */
      let refuses = false;

      /** Ends the round where it would have two subjects. */
      function join(subject: Uint8Array): void {
        if (refuses && sent.subject !== undefined && sent.subject !== subject) link.ping();
        sent.subject = subject;
      }

      return withFastGetters({
        get open() {
          return link.open;
        },
        connected(_connection, newWire) {
          wire = newWire;
        },
        disconnected() {
          sent = newRound();
          asked = [];
          refuses = false;
        },
        groupOf: () => 0,
        identify() {},
        isLost: () => true,
        send(message, token) {
          const problem = findSizeProblem(message, wire.maxMessageBytes);
          if (problem !== undefined) return { cause: 'too_large', detail: problem, permanent: true };
          if (message.ackLevel !== undefined && !warns) {
            const detail = `ack_level ${message.ackLevel} of the policy does not hold: ENABLE_JETSTREAM=false`;
            return { cause: 'stream_unusable', detail, permanent: false };
          }
          join(message.subject);
          wire.publish(message);
          sent.tokens.push(token);
          link.requestPing();
          return true;
        },
        sendPlain(message, mark) {
          requireSize(message, wire.maxMessageBytes);
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
            for (const token of read.tokens) settle.confirmed.settleStored(token);
          } else {
            refuses = true;
            const detail = `the user may not publish to ${subject}`;
            for (const token of read.tokens) {
              settle.confirmed.settleRefused(token, { cause: 'publish_denied', detail, permanent: false });
            }
          }
          settle.unconfirmed.settleMark(read.mark, true);
        },
        takesTtl: false,
        get maxMessageBytes() {
          return wire.maxMessageBytes;
        },
      });
    },
  });
}
