import { randomBytes } from 'node:crypto';
import { headerTextOf } from '../connection/nats-headers.js';
import type { Forwarder } from '../forwarder.js';
import { readPlace } from '../pub-ack.js';
import type { FollowedMessage } from '../stream/stream-follower.js';
import { topicToTokens } from '../subject.js';
import { encodeStateHeaders, readStateMessage, readTopic, type StateMessage } from './state-message.js';
import { openStateStream, type StateContext } from './state-stream.js';

/** What became of a message that was to be stored. */
export type SaveOutcome =
  | { readonly kind: 'stored'; readonly sequence: number }
  /** There was another one than expected. */
  | { readonly kind: 'superseded' }
  /** NATS does not take it, and why. */
  | { readonly kind: 'refused'; readonly reason: string };

/** Who keeps in memory what the stream holds. */
export interface RetainedReader {
  /**
   * All that the stream holds comes next.
   *
   * @param anew it is another stream than before, and lacks what that one held.
   * @param lastSequence the last that it has given. One that NATS has lost the latest of gives the sequences behind it once more.
   */
  begin(anew: boolean, lastSequence: number): void;
  /** One of the stream, in its order; without payload: there is none of its topic any more. */
  take(message: StateMessage, sequence: number): void;
  /** All has come. */
  caughtUp(): void;
}

export type RetainedStore = ReturnType<typeof openRetainedStore>;

export const retainedStream = 'SVC_MQTT_RETAINED';
const prefix = 'svc-mqtt.retained.';
export const retainedSubjects = `${prefix}>`;
/**
 * So long the stream remembers that there is no message any more: for longer than it knows what it is sent again for what it
 * has. Replicas that are connected hear of it at once, and the others read everything when they are back.
 */
const removalTtlSec = 300;
/** A server of NATS that dies is replaced in less. */
const upToDateWithinMs = 10_000;

/** The retained messages of the fleet, in JetStream: one a topic. */
export function openRetainedStore(context: StateContext, writer: Forwarder) {
  const idPrefix = randomBytes(9).toString('base64url');
  let ids = 0;

  const stream = openStateStream({
    ...context,
    name: retainedStream,
    subject: retainedSubjects,
    startsLater: true,
    config: { max_msgs_per_subject: 1, allow_msg_ttl: true },
    without: 'retained messages are those of each replica, in its memory',
    begin({ anew, lastSequence }) {
      store.reader.begin(anew, lastSequence);
      return 1;
    },
    onMessage({ subject, sequence, storedAtMs, message }: FollowedMessage) {
      const topic = readTopic(subject.slice(prefix.length));
      if (topic === undefined) return;
      const headers = headerTextOf(message);
      store.reader.take(readStateMessage(topic, { headers, data: message.data }, storedAtMs), sequence);
    },
    onCaughtUp: () => store.reader.caughtUp(),
  });

  const store = {
    /** Set before anything is saved. */
    reader: { begin() {}, take() {}, caughtUp() {} } as RetainedReader,
    /** Messages may be retained from now on. Idempotent. */
    start: stream.start,
    get started(): boolean {
      return stream.started;
    },
    /** Why nothing can be stored; undefined: it can, as far as is known. */
    get problem(): string | undefined {
      return stream.problem;
    },
    get caughtUp(): boolean {
      return stream.caughtUp;
    },
    ready: stream.ready,
    /**
     * Stores a message in place of the one before; without payload, removes that. Tried until NATS has answered; those of one
     * topic are to be given one after the other.
     *
     * @param expected only when this is the last that the stream has of the topic; 0: when it has none; undefined: whichever it has.
     */
    save(
      message: StateMessage,
      expected: number | undefined,
      onSettled: (outcome: SaveOutcome) => void,
    ): void {
      ids += 1;
      const isRemoval = message.payload.length === 0;
      const lines = [
        ...(isRemoval ? [`Nats-TTL: ${removalTtlSec}s`] : []),
        ...(expected === undefined ? [] : [`Nats-Expected-Last-Subject-Sequence: ${expected}`]),
      ];
      writer.openLane().publish({
        subject: Buffer.from(`${prefix}${topicToTokens(message.topic)}`),
        headers: encodeStateHeaders(isRemoval ? { ...message, properties: undefined } : message, lines),
        payload: message.payload,
        confirm: true,
        messageId: `${idPrefix}.${ids.toString(36)}`,
        batchable: false,
        tellsRefusal: true,
        renew: () => stream.problem,
        compact() {},
        onStored: (ack) =>
          onSettled(
            ack === undefined
              ? { kind: 'superseded' }
              : { kind: 'stored', sequence: readPlace(ack).sequence },
          ),
        onRefused(reason, cause) {
          if (cause === 'publish_denied') stream.deny(reason);
          onSettled({ kind: 'refused', reason });
        },
      });
    },
    /** When the reader has all that is stored now, whoever stored it; undefined: that cannot be known. Bounded, never rejects. */
    upToDate: () => stream.upToDate(upToDateWithinMs),
    /** Has the reader given everything again. */
    readAgain: stream.readAgain,
    close: stream.close,
  };
  return store;
}
