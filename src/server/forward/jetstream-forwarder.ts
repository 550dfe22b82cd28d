import { randomBytes } from 'node:crypto';
import type { Msg, NatsConnection } from 'nats';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import type { Forwarder } from './forwarder.js';
import { type ForwarderLimits, startForwarding } from './forwarding.js';
import type { NatsLink } from './nats-connection.js';
import { readPubAck, readToken } from './pub-ack.js';
import { slotSpan } from './slots.js';
import type { UsableStream } from './stream.js';

/**
 * Starts a forwarder to JetStream: a message counts as stored when a stream has answered so.
 *
 * All answers come to one inbox with one subscription; the last token of the reply subject says which message is meant.
 * The inbox outlives a connection, so that answers to what an earlier one carried are still understood.
 *
 * @param options.requireStream looks the stream up and creates it; called at every connection after the first, before
 *   messages are sent, since a NATS server may come back without its data. A stream that is deleted while the
 *   connection lasts was deleted on purpose and is left to whoever did it.
 */
export function startJetStreamForwarder(options: {
  link: NatsLink;
  limits: ForwarderLimits;
  stream: UsableStream;
  requireStream(connection: NatsConnection): Promise<UsableStream>;
  log: Log;
}): Forwarder {
  const { link, limits, log, requireStream } = options;
  const inbox = `_INBOX.${randomBytes(12).toString('hex')}`;
  /** One object for all messages: nothing keeps it. */
  const replyTo = { prefix: Buffer.from(`${inbox}.`), token: 0 };
  let { stream } = options;

  return startForwarding({
    link,
    limits,
    log,
    confirmation({ confirmed, unconfirmed }) {
      function onAnswer(error: Error | null, answer: Msg): void {
        // A throw in here would end the library's reader and with it every further answer.
        try {
          if (error !== null) throw error;
          const ack = readPubAck(answer);
          if (ack.kind === 'other') return;
          const token = readToken(answer);
          if (token < slotSpan) unconfirmed.settleMark(token, ack.kind === 'stored');
          else if (ack.kind === 'stored') confirmed.settleStored(token);
          else confirmed.settleRefused(token, ack);
        } catch (failure) {
          log.error(
            { event: 'nats_answer_failed', reason: messageOf(failure) },
            'an answer of NATS was not handled',
          );
        }
      }
      return {
        async connected(connection, first) {
          connection.subscribe(`${inbox}.*`, { callback: onAnswer });
          if (!first) stream = await requireStream(connection);
        },
        disconnected() {},
        send(wire, message, token) {
          replyTo.token = token;
          wire.publish(message, replyTo);
        },
        sendPlain(wire, message, mark) {
          replyTo.token = mark;
          wire.publish(message, mark === 0 ? undefined : replyTo);
        },
        pinged() {},
        ponged() {},
        get maxMessageBytes() {
          return stream.maxMessageBytes;
        },
      };
    },
  });
}
