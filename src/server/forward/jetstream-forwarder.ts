import { randomBytes } from 'node:crypto';
import type { Log } from '../../log.js';
import { withFastGetters } from '../fast-getters.js';
import { openGroupCommit } from './batches/group-commit.js';
import type { Msg, NatsConnection } from './connection/nats-library.js';
import type { NatsLink } from './connection/nats-link.js';
import { findSizeProblem, noWire, requireSize } from './connection/nats-wire.js';
import {
  type Forwarder,
  type IngestMode,
  type IngestSetting,
  natsBytesOf,
  type UplinkMessage,
} from './forwarder.js';
import { type ForwarderLimits, startForwarding } from './lanes/forwarding.js';
import { slotSpan } from './lanes/slots.js';
import { AnswerSource, type PubAck, readPubAck, readToken } from './pub-ack.js';
import type { StreamWatch } from './stream/stream-watch.js';

/**
 * The last resort: a message that has no answer for so many times its time-out is sent again, although the connection lives, the
 * stream has the same leader, and nothing that was sent later is stored.
 */
const timeoutsUntilLost = 6;

/** That another stream answers is said so often. */
const elsewhereToldEveryMs = 600_000;

/**
 * Starts a forwarder to JetStream: a message counts as stored when a stream has answered so.
 *
 * All answers come to one inbox with one subscription; the last token of the reply subject says which message is meant.
 * The inbox outlives a connection, so that answers to what an earlier one carried are still understood. Where the stream
 * takes atomic batches and is slow, it is asked for one answer for many messages (`group-commit.ts`).
 *
 * At a new connection messages are sent at once, on what was known of the stream: the watch, which looks at the same time,
 * stops them when it does not confirm them any more.
 */
export function startJetStreamForwarder(options: {
  link: NatsLink;
  limits: ForwarderLimits;
  watch: StreamWatch;
  /** NATS_JETSTREAM_DOMAIN. */
  domain: string | undefined;
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
    openOutlet(settle) {
      let wire = noWire;
      let mode: IngestMode | undefined;
      const idPrefix = randomBytes(9).toString('base64url');
      let ids = 0;
      const problemOf = (message: UplinkMessage) => watch.findProblem(message.subject, message.ackLevel);
      const maxMessageBytes = () => Math.min(wire.maxMessageBytes, watch.stream.maxMessageBytes);
      let elsewhereToldAgainAtMs = 0;
      /** As the stream was when its answers were last held against it. */
      let { stream } = watch;
      const source = new AnswerSource({ name: stream.name, domain: stream.domain ?? options.domain });
      const commits = openGroupCommit({
        inbox,
        readAnswer,
        timeoutMs: limits.ackTimeoutMs,
        always: ingest === 'batch',
        settle,
        maxMessageBytes,
        onUnavailable: (reason) => choose('plain', reason),
      });

      function choose(chosen: IngestMode, reason: string): void {
        if (chosen === mode) return;
        mode = chosen;
        log.info({ event: 'nats_ingest_mode', mode, reason }, 'how the stream is asked to confirm messages');
        if (ingest === 'batch' && mode === 'plain') {
          log.warn(
            { event: 'nats_batches_unavailable', reason },
            'NATS_INGEST=batch, and the stream is asked to confirm each message',
          );
        }
      }

      async function measureWay(connection: NatsConnection): Promise<void> {
        try {
          commits.setWay(Math.min(await connection.rtt(), await connection.rtt(), await connection.rtt()));
        } catch {
          // The connection has ended; the next one is measured.
        }
      }

      function chooseByStream(): void {
        const { name, batchProblem } = watch.stream;
        const problem = ingest === 'plain' ? 'NATS_INGEST=plain' : batchProblem;
        commits.restart(problem);
        choose(
          problem === undefined ? 'batches' : 'plain',
          problem ??
            `stream ${name} has allow_atomic${ingest === 'batch' ? '' : ', used where it answers slowly'}`,
        );
      }

      /** A server without JetStream says nothing of the domain that it asks. */
      function expectStream(): void {
        stream = watch.stream;
        const { jetstream, domain } = (link.connection?.info ?? {}) as {
          jetstream?: boolean;
          domain?: string;
        };
        const ofServer = jetstream === true ? (domain ?? '') : undefined;
        source.expect({ name: stream.name, domain: stream.domain ?? options.domain ?? ofServer });
      }

      function readAnswer(answer: Msg): PubAck {
        if (watch.stream !== stream) expectStream();
        return readPubAck(answer, source);
      }

      /** It may be stored there, and that is not what is promised: the answer of the stream itself is waited for. */
      function noteElsewhere(other: string): void {
        const nowMs = performance.now();
        if (nowMs < elsewhereToldAgainAtMs) return;
        elsewhereToldAgainAtMs = nowMs + elsewhereToldEveryMs;
        log.warn(
          { event: 'answer_from_elsewhere', from: other, stream: stream.name },
          'another stream takes the same messages; its answers confirm nothing',
        );
      }

      function onAnswer(error: Error | null, answer: Msg): void {
        if (error !== null) return;
        let ack = readAnswer(answer);
        if (ack.kind === 'other') return;
        const token = readToken(answer);
        if (ack.kind === 'elsewhere') {
          // What a policy sends to its own subject goes to a stream that is not watched.
          if (settle.confirmed.isBatchable(token)) {
            noteElsewhere(ack.stream);
            return;
          }
          ack = ack.said;
        }
        if (token < slotSpan) {
          settle.unconfirmed.settleMark(token, ack.kind === 'stored');
          return;
        }
        if (ack.kind === 'stored') {
          settle.confirmed.settleStored(token, answer.data);
        } else {
          // Its limit is another one than was known.
          if (ack.permanent) watch.lookSoon();
          settle.confirmed.settleRefused(token, ack);
        }
        commits.noteAnswer(token);
      }

      return withFastGetters({
        get open() {
          return link.open;
        },
        connected(connection, newWire) {
          mode = undefined;
          wire = newWire;
          expectStream();
          connection.subscribe(`${inbox}.*`, { callback: onAnswer });
          connection.subscribe(`${inbox}.*.c`, {
            callback(error, answer) {
              if (error === null) commits.settle(answer);
            },
          });
          void measureWay(connection);
          commits.connected(wire);
          chooseByStream();
          watch.connected(connection, chooseByStream);
        },
        disconnected() {
          commits.disconnected();
          watch.disconnected();
        },
        groupOf: commits.groupOf,
        problemOf,
        identify(message) {
          if (message.messageId !== undefined) return;
          ids += 1;
          const id = `${idPrefix}.${ids.toString(36)}`;
          message.messageId = id;
          // One that fits exactly is rather stored twice than refused.
          if (natsBytesOf(message) > maxMessageBytes()) message.messageId = undefined;
        },
        isLost(message, sentAtMs, waitedMs) {
          watch.lookSoon();
          // A stream other than that of NATS_SUBJECT is not watched, and says nothing of how that one keeps up.
          if (!message.batchable) return true;
          commits.noteLate();
          if (watch.changedAtMs >= sentAtMs) return true;
          return waitedMs >= timeoutsUntilLost * limits.ackTimeoutMs;
        },
        send(message, token, group) {
          const tooLarge = findSizeProblem(message, maxMessageBytes());
          if (tooLarge !== undefined) return { cause: 'too_large', detail: tooLarge, permanent: true };
          const problem = problemOf(message);
          if (problem !== undefined) return { cause: 'stream_unusable', detail: problem, permanent: false };
          return commits.send(message, token, group);
        },
        sendPlain(message, mark) {
          requireSize(message, wire.maxMessageBytes);
          replyTo.token = mark;
          wire.publish(message, mark === 0 ? undefined : replyTo);
        },
        tick: commits.tick,
        ponged(denied) {
          if (denied.size > 0) commits.noteDenied(settle.confirmed.settleDenied(denied));
        },
        get takesTtl() {
          return watch.stream.takesTtl;
        },
        get maxMessageBytes() {
          return maxMessageBytes();
        },
        get ingest() {
          return mode;
        },
        get durability() {
          return watch.durability;
        },
        get batching() {
          return commits.gathering;
        },
        get standstill() {
          return watch.standstill;
        },
      });
    },
  });
}
