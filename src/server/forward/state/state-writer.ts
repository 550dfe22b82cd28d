import { randomBytes } from 'node:crypto';
import type { Log } from '../../../log.js';
import { withFastGetters } from '../../fast-getters.js';
import type { Msg } from '../connection/nats-library.js';
import type { NatsLink } from '../connection/nats-link.js';
import { findSizeProblem, noWire, requireSize } from '../connection/nats-wire.js';
import type { Forwarder } from '../forwarder.js';
import { wrongLastSequence } from '../jetstream-codes.js';
import { type ForwarderLimits, startForwarding } from '../lanes/forwarding.js';
import { slotSpan } from '../lanes/slots.js';
import { readPubAck, readToken } from '../pub-ack.js';

/** How the cause of a refusal begins when a message that was to be written only where nothing is met something. */
const superseded = `${wrongLastSequence} `;

/**
 * Starts a forwarder to the streams of svc-mqtt itself, beside that of the uplink and with bounds of its own, so that neither
 * waits for the other. Every message is confirmed by itself and has an identifier from the beginning: one that is sent again
 * must not come behind what another replica has written since.
 *
 * `onStored` has no answer when the message was to be written only where nothing is, and something is there.
 */
export function startStateWriter(options: {
  link: NatsLink;
  limits: ForwarderLimits;
  inboxPrefix: string;
  log: Log;
}): Forwarder {
  const { link, log } = options;
  const inbox = `${options.inboxPrefix}.${randomBytes(12).toString('hex')}`;
  /** One object for all messages: nothing keeps it. */
  const replyTo = { prefix: Buffer.from(`${inbox}.`), token: 0, suffix: new Uint8Array() };
  return startForwarding({
    link,
    limits: options.limits,
    log: log.child({ of: 'state' }),
    sharesLink: true,
    openOutlet(settle) {
      let wire = noWire;

      function onAnswer(error: Error | null, answer: Msg): void {
        if (error !== null) return;
        const ack = readPubAck(answer);
        const token = readToken(answer);
        if (ack.kind === 'other' || ack.kind === 'elsewhere') return;
        if (token < slotSpan) settle.unconfirmed.settleMark(token, ack.kind === 'stored');
        else if (ack.kind === 'stored') settle.confirmed.settleStored(token, answer.data);
        else if (ack.cause.startsWith(superseded)) settle.confirmed.settleStored(token);
        else settle.confirmed.settleRefused(token, ack);
      }

      return withFastGetters({
        get open() {
          return link.open;
        },
        connected(connection, newWire) {
          wire = newWire;
          connection.subscribe(`${inbox}.*`, { callback: onAnswer });
          // The library keeps it until the turn is over; what is sent now goes past it, and its answer would find nobody.
          void connection.flush().catch(() => {});
        },
        disconnected() {},
        groupOf: () => 0,
        identify() {},
        isLost: () => true,
        send(message, token) {
          const problem = findSizeProblem(message, wire.maxMessageBytes);
          if (problem !== undefined) return { cause: 'too_large', detail: problem, permanent: true };
          replyTo.token = token;
          wire.publish(message, replyTo);
          return true;
        },
        sendPlain(message, mark) {
          requireSize(message, wire.maxMessageBytes);
          replyTo.token = mark;
          wire.publish(message, mark === 0 ? undefined : replyTo);
        },
        ponged(denied) {
          if (denied.size > 0) settle.confirmed.settleDenied(denied);
        },
        takesTtl: true,
        get maxMessageBytes() {
          return wire.maxMessageBytes;
        },
      });
    },
  });
}
