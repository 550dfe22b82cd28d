import { randomBytes } from 'node:crypto';
import { findHeader, headerTextOf } from '../connection/nats-headers.js';
import {
  AckPolicy,
  DeliverPolicy,
  type JetStreamManager,
  type Msg,
  type NatsConnection,
  nanos,
} from '../connection/nats-library.js';
import { apiCodeOf, noMessageFound } from '../jetstream-codes.js';

/** A message as the stream sends it. */
export interface FollowedMessage {
  readonly sequence: number;
  readonly subject: string;
  /** `Date.now()` of the NATS server that stored it. */
  readonly storedAtMs: number;
  /** Headers and payload; with `headersOnly` no payload. */
  readonly message: Msg;
}

export interface FollowOptions {
  readonly stream: string;
  readonly filter: string;
  /** First sequence wanted. */
  readonly from: number;
  /** The last one that the stream's leader has given; what follows is not asked for. 0: none. */
  readonly upTo: number;
  readonly headersOnly: boolean;
  /** What the connection's inboxes begin with. */
  readonly inboxPrefix: string;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Must not throw. */
  onMessage(message: FollowedMessage): void;
  /** All up to `upTo` has been given to `onMessage`, and all that the stream had when it was asked; called once. */
  onCaughtUp(): void;
}

const heartbeatMs = 1_000;
/** Heartbeats that may be missing. */
const missedHeartbeats = 4;
/** So often the leader is asked in vain, by a user that may not read single messages perhaps. */
const maxUnanswered = 3;
/** NATS ends a consumer that nobody listens to after so long. */
const forgottenAfterMs = 10_000;
/** `$JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>`. */
const ackPrefix = '$JS.ACK.';
const shortAckTokens = 9;

/**
 * Reads a stream in order over one connection, by a consumer that acknowledges nothing and that NATS forgets by itself: one a
 * replica. NATS sends no more than is read (flow control). The consumer may be on a server that is behind the stream's leader and
 * takes what it has for all there is; so it has caught up when it has come to the last message that the leader has.
 *
 * @returns why it came to its end: it was told to, messages are missing, or NATS is silent. It is for the caller to begin anew
 *   behind the last message.
 * @throws NatsError when the consumer could not be made.
 */
export async function followStream(
  connection: NatsConnection,
  manager: JetStreamManager,
  options: FollowOptions,
): Promise<'told' | 'gap' | 'silent'> {
  const { stream, signal, onMessage } = options;
  const deliver = `${options.inboxPrefix}.${randomBytes(12).toString('hex')}`;
  let end: (why: 'told' | 'gap' | 'silent') => void = () => {};
  const ended = new Promise<'told' | 'gap' | 'silent'>((resolve) => {
    end = resolve;
  });
  let expected = 1;
  let isCaughtUp = false;
  let heardAtMs = performance.now();
  /** Nothing is missing up to here. */
  let reached = options.from - 1;
  let isAsking = false;
  let unanswered = 0;
  let isOver = false;

  function caughtUp(): void {
    if (isCaughtUp || isOver || signal.aborted) return;
    isCaughtUp = true;
    options.onCaughtUp();
  }

  /** The server of the consumer has nothing more. Called again with each heartbeat: what is missing may be removed meanwhile. */
  async function compare(): Promise<void> {
    if (reached >= options.upTo || unanswered === maxUnanswered) return caughtUp();
    if (isCaughtUp || isAsking) return;
    isAsking = true;
    try {
      if ((await findLast(manager, stream, options.filter)) <= reached) caughtUp();
    } catch {
      unanswered += 1;
    }
    isAsking = false;
  }

  function onControl(message: Msg): void {
    const headers = headerTextOf(message);
    // NATS waits for the answer before it sends more.
    if (message.reply) message.respond();
    const stalled = findHeader(headers, 'Nats-Consumer-Stalled');
    if (stalled !== '') connection.publish(stalled);
    const last = findHeader(headers, 'Nats-Last-Consumer');
    if (last !== '' && Number(last) >= expected) end('gap');
    // What was pending behind the last message may have been removed since: NATS has nothing more to send.
    else if (last !== '' && stalled === '' && !message.reply) void compare();
  }

  const subscription = connection.subscribe(deliver, {
    callback(error, message) {
      heardAtMs = performance.now();
      if (signal.aborted) return;
      if (error !== null) {
        end('silent');
        return;
      }
      const place = readPlace(message.reply);
      if (place === undefined) {
        onControl(message);
        return;
      }
      if (place.number !== expected) {
        end('gap');
        return;
      }
      expected += 1;
      const { sequence, storedAtMs, pending } = place;
      reached = sequence;
      onMessage({ sequence, subject: message.subject, storedAtMs, message });
      if (pending === 0 && !isCaughtUp) void compare();
    },
  });
  const watch = setInterval(() => {
    if (performance.now() - heardAtMs > heartbeatMs * missedHeartbeats) end('silent');
  }, heartbeatMs);
  watch.unref();
  const tell = () => end('told');
  signal.addEventListener('abort', tell, { once: true });
  try {
    const { num_pending, delivered } = await manager.consumers.add(stream, {
      name: `svc-mqtt-${randomBytes(6).toString('hex')}`,
      description: 'svc-mqtt follows the stream',
      deliver_subject: deliver,
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: Math.max(1, options.from),
      filter_subject: options.filter,
      headers_only: options.headersOnly,
      ack_policy: AckPolicy.None,
      max_deliver: 1,
      flow_control: true,
      idle_heartbeat: nanos(heartbeatMs),
      inactive_threshold: nanos(forgottenAfterMs),
      mem_storage: true,
      num_replicas: 1,
    });
    heardAtMs = performance.now();
    if (num_pending === 0 && delivered.consumer_seq === 0) void compare();
    if (signal.aborted) return 'told';
    return await ended;
  } finally {
    isOver = true;
    clearInterval(watch);
    signal.removeEventListener('abort', tell);
    subscription.unsubscribe();
  }
}

/** The last message that the leader has, or 0. @throws NatsError when it does not say. */
export async function findLast(manager: JetStreamManager, stream: string, filter: string): Promise<number> {
  try {
    return (await manager.streams.getMessage(stream, { last_by_subj: filter })).seq;
  } catch (error) {
    if (apiCodeOf(error) === noMessageFound) return 0;
    throw error;
  }
}

/** Where a message is, by its reply subject; undefined: it is none of the stream. */
function readPlace(
  reply: string | undefined,
): { sequence: number; number: number; storedAtMs: number; pending: number } | undefined {
  if (reply?.startsWith(ackPrefix) !== true) return undefined;
  const tokens = reply.split('.');
  // A longer form has the domain and the account in front of the stream.
  const at = tokens.length > shortAckTokens ? 7 : 5;
  return {
    sequence: Number(tokens[at]),
    number: Number(tokens[at + 1]),
    storedAtMs: Math.floor(Number(tokens[at + 2]) / 1e6),
    pending: Number(tokens[at + 3]),
  };
}
