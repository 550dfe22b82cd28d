import { randomBytes } from 'node:crypto';
import type { Msg } from 'nats';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import { isBatchReply } from './batch-answer.js';
import { openFastIngest } from './fast-ingest.js';
import type { Forwarder, IngestMode, IngestSetting, UplinkMessage } from './forwarder.js';
import { type ForwarderLimits, startForwarding } from './forwarding.js';
import type { NatsLink } from './nats-connection.js';
import type { NatsWire } from './nats-wire.js';
import { type Refusal, readPubAck, readToken } from './pub-ack.js';
import { slotSpan } from './slots.js';
import type { StreamWatch } from './stream-watch.js';

/**
 * Starts a forwarder to JetStream: a message counts as stored when a stream has answered so.
 *
 * All answers come to one inbox with one subscription; the last token of the reply subject says which message is meant.
 * The inbox outlives a connection, so that answers to what an earlier one carried are still understood. Where the stream
 * takes fast-ingest batches, it is asked for one answer for many messages (`fast-ingest.ts`).
 *
 * At a new connection messages are sent at once, on what was known of the stream: the watch, which looks at the same time,
 * stops them when it does not confirm them any more.
 */
export function startJetStreamForwarder(options: {
  link: NatsLink;
  limits: ForwarderLimits;
  watch: StreamWatch;
  inboxPrefix: string;
  ingest: IngestSetting;
  log: Log;
}): Forwarder {
  const { link, limits, log, watch, ingest } = options;
  const inbox = `${options.inboxPrefix}.${randomBytes(12).toString('hex')}`;
  /** One object for all messages: nothing keeps it. */
  const replyTo = { prefix: Buffer.from(`${inbox}.`), token: 0, suffix: new Uint8Array() };

  return startForwarding({
    link,
    limits,
    log,
    confirmation({ confirmed, unconfirmed }) {
      /** Of the connection at hand, once something was sent on it. */
      let wire: NatsWire | undefined;
      let mode: IngestMode = 'plain';
      /** Whether messages of this connection go through `batches`, which keeps their order whatever the mode becomes. */
      let held = false;
      /** A message that the stream never takes: its limit is another one than was known. */
      function settleRefused(token: number, refusal: Refusal): void {
        if (refusal.permanent) watch.lookSoon();
        confirmed.settleRefused(token, refusal);
      }

      const batches = openFastIngest({
        inbox,
        confirmed: { settleStored: confirmed.settleStored, settleRefused },
        outlet: {
          sendSingly(message, token) {
            if (wire !== undefined) sendSingly(wire, message, token);
          },
          sendPlain(message, mark) {
            if (wire !== undefined) sendPlain(wire, message, mark);
          },
          sendBatched: (message, reply) => wire?.publish(message, reply),
          flush: () => wire?.flush(),
        },
        onUnavailable(reason) {
          choose('plain', reason);
        },
      });

      function sendSingly(current: NatsWire, message: UplinkMessage, token: number): void {
        replyTo.token = token;
        current.publish(message, replyTo);
      }

      function sendPlain(current: NatsWire, message: UplinkMessage, mark: number): void {
        replyTo.token = mark;
        current.publish(message, mark === 0 ? undefined : replyTo);
      }

      function choose(chosen: IngestMode, reason: string): void {
        mode = chosen;
        log.info({ event: 'nats_ingest_mode', mode, reason }, 'how the stream is asked to confirm messages');
        if (ingest === 'batch' && mode === 'plain') {
          log.warn(
            { event: 'nats_batches_unavailable', reason },
            'NATS_INGEST=batch, and the stream is asked to confirm each message',
          );
        }
      }

      function chooseByStream(): void {
        const { name, batchProblem } = watch.stream;
        const problem = ingest === 'plain' ? 'NATS_INGEST=plain' : batchProblem;
        // Messages that went through `batches` keep doing so: they notice when the stream takes none.
        if (held && problem !== undefined) return;
        held = problem === undefined;
        choose(held ? 'batches' : 'plain', problem ?? `stream ${name} has allow_batched`);
      }

      function onAnswer(error: Error | null, answer: Msg): void {
        // A throw in here would end the library's reader and with it every further answer.
        try {
          if (error !== null) throw error;
          if (isBatchReply(answer)) {
            batches.settle(answer);
            return;
          }
          const ack = readPubAck(answer);
          if (ack.kind === 'other') return;
          const token = readToken(answer);
          if (token < slotSpan) unconfirmed.settleMark(token, ack.kind === 'stored');
          else if (ack.kind === 'stored') confirmed.settleStored(token);
          else {
            batches.noteRefusal();
            settleRefused(token, ack);
          }
        } catch (failure) {
          log.error(
            { event: 'nats_answer_failed', reason: messageOf(failure) },
            'an answer of NATS was not handled',
          );
        }
      }
      return {
        connected(connection) {
          held = false;
          mode = 'plain';
          connection.subscribe(`${inbox}.>`, { callback: onAnswer });
          chooseByStream();
          watch.connected(connection, chooseByStream);
        },
        disconnected() {
          wire = undefined;
          batches.reset();
          watch.disconnected();
        },
        send(current, message, token) {
          wire = current;
          const problem = watch.findProblem(message.subject);
          if (problem !== undefined) {
            confirmed.settleRefused(token, { cause: 'stream_unusable', detail: problem, permanent: false });
            return;
          }
          if (held) batches.add(message, token);
          else sendSingly(current, message, token);
        },
        groupOf: (message) => (held && message.batchable ? batches.next : 0),
        sendPlain(current, message, mark) {
          if (batches.holding) batches.add(message, mark);
          else sendPlain(current, message, mark);
        },
        get maxMessageBytes() {
          return watch.stream.maxMessageBytes;
        },
        get ingest() {
          return mode;
        },
        get standstill() {
          return watch.standstill;
        },
        ponged(denied) {
          if (denied.size === 0) return;
          batches.noteRefusal();
          confirmed.settleDenied(denied);
        },
      };
    },
  });
}
