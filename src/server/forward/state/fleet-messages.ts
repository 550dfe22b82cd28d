import { randomBytes } from 'node:crypto';
import { findHeader, headerTextOf } from '../connection/nats-headers.js';
import { DiscardPolicy, nanos } from '../connection/nats-library.js';
import { findSizeProblem, type NatsWire, noWire } from '../connection/nats-wire.js';
import type { Forwarder } from '../forwarder.js';
import type { RawMessage } from '../stored/stored-messages.js';
import { topicToTokens } from '../subject.js';
import type { FleetInterest } from './fleet-interest.js';
import { type KeptMessage, type KeptMessages, openKeptMessages } from './kept-messages.js';
import { openShareTakers, type ShareTaker } from './share-takers.js';
import { encodeStateHeaders, readStateMessage, readTopic, type StateMessage } from './state-message.js';
import { openStateStream, type StateContext } from './state-stream.js';

/** A message that a client of one replica published, for the clients of others. */
export interface FleetMessage extends StateMessage {
  /** As its publisher said. */
  readonly retain: boolean;
}

/** How a message came back from NATS. */
export interface FleetDelivery {
  /** A client of this replica published it: those here have it, but sessions, which take it from the stream. */
  readonly isOwn: boolean;
  /** Shared subscriptions that are to take it here. */
  readonly shares: ReadonlySet<string>;
  /** It is only for these: the others have it. */
  readonly isAgain: boolean;
}

export type FleetMessages = ReturnType<typeof openFleetMessages>;

export const messagesStream = 'SVC_MQTT_MESSAGES';
const prefix = 'svc-mqtt.message.';
export const messagesSubjects = `${prefix}>`;
/** Core NATS, in no stream. */
const passingPrefix = 'svc-mqtt.passing.';
/** What it is made with. A session or replica that is away for longer, or for more, has missed the rest. */
const keptForMs = 7 * 86_400_000;
const keptBytes = 268_435_456;

/** What passes between the clients of different replicas. */
export function openFleetMessages(
  context: StateContext,
  parts: { writer: Forwarder; interest: FleetInterest; replica: string; maxIndexed: number },
) {
  const { writer, interest, replica, maxIndexed } = parts;
  const lane = writer.openLane();
  const idPrefix = randomBytes(9).toString('base64url');
  let ids = 0;
  let wire: NatsWire = noWire;
  const counts = { passed: 0, taken: 0 };
  /** Given while the writer was full. */
  let waiting: (() => void)[] = [];

  function toFleetMessage(
    tokens: string,
    message: { readonly headers: string; readonly data: Uint8Array },
    storedAtMs: number,
  ): FleetMessage | undefined {
    const topic = readTopic(tokens);
    if (topic === undefined) return undefined;
    const retain = findHeader(message.headers, 'Mqtt-Retain') === '1';
    return { ...readStateMessage(topic, message, storedAtMs), retain };
  }

  function toKept({ subject, headers, payload, storedAtMs, sequence }: RawMessage): KeptMessage | undefined {
    const message = toFleetMessage(subject.slice(prefix.length), { headers, data: payload }, storedAtMs);
    return message && { ...message, sequence, storedAtMs };
  }

  const isOwn = (headers: string) => findHeader(headers, 'Mqtt-Replica') === replica;

  function give(
    message: FleetMessage | KeptMessage | undefined,
    headers: string,
    own: boolean,
    isAgain = false,
  ): void {
    if (message === undefined) return;
    if (!own) counts.taken += 1;
    const shares = own ? [] : readShares(headers);
    fleet.deliver(message, { isOwn: own, shares: new Set(shares), isAgain });
  }

  function readShares(headers: string): string[] {
    return readTakers(findHeader(headers, 'Mqtt-Shares')).flatMap(([share, taker]) =>
      taker === replica ? share : [],
    );
  }

  function encode(message: FleetMessage, takers: readonly ShareTaker[]): Uint8Array {
    return encodeStateHeaders(message, [
      `Mqtt-Replica: ${replica}`,
      ...(message.retain ? ['Mqtt-Retain: 1'] : []),
      ...(takers.length === 0 ? [] : [`Mqtt-Shares: ${encodeURIComponent(JSON.stringify(takers))}`]),
    ]);
  }

  const shareTakers = openShareTakers<FleetMessage>({
    link: context.link,
    interest,
    replica,
    encode,
    hasShare: (share) => fleet.hasShare(share),
    onGiven(tokens, message) {
      const headers = headerTextOf(message);
      if (!readShares(headers).some(fleet.hasShare)) return false;
      give(toFleetMessage(tokens, { headers, data: message.data }, Date.now()), headers, false, true);
      return true;
    },
    giveHere(message, share) {
      const has = fleet.hasConnected(share);
      if (has) fleet.deliver(message, { isOwn: true, shares: new Set([share]), isAgain: true });
      return has;
    },
  });

  const kept = openKeptMessages({
    link: context.link,
    inboxPrefix: context.inboxPrefix,
    maxIndexed,
    prefix,
    toMessage: toKept,
    onDenied: (reason) => stream.deny(reason),
  });

  const stream = openStateStream({
    ...context,
    name: messagesStream,
    subject: messagesSubjects,
    config: {
      allow_direct: true,
      allow_msg_ttl: true,
      discard: DiscardPolicy.Old,
      max_age: nanos(keptForMs),
      max_bytes: keptBytes,
    },
    without: 'messages between devices stay on the replica to which they were published',
    startsLater: true,
    headersOnly: () => kept.isIndexing,
    begin: (found) => kept.begin(found),
    onMessage(followed) {
      kept.take(followed, () => {
        const { sequence, subject, storedAtMs, message } = followed;
        const headers = headerTextOf(message);
        const own = isOwn(headers);
        if (own && !kept.isFollowed) return;
        give(toKept({ sequence, subject, storedAtMs, headers, payload: message.data }), headers, own);
      });
    },
    onCaughtUp() {
      if (kept.caughtUp()) stream.readAgain();
    },
  });

  function listen(): void {
    context.link.listen({
      connected(connection, newWire) {
        wire = newWire;
        connection.subscribe(`${passingPrefix}>`, {
          callback(error, message) {
            if (error !== null) return;
            const headers = headerTextOf(message);
            if (isOwn(headers)) return;
            const tokens = message.subject.slice(passingPrefix.length);
            give(toFleetMessage(tokens, { headers, data: message.data }, Date.now()), headers, false);
          },
        });
      },
      disconnected() {
        wire = noWire;
      },
    });
  }

  function goOn(): void {
    const given = waiting;
    waiting = [];
    given.forEach((give, index) => {
      if (writer.fullFor(true)) waiting = given.slice(index);
      else if (waiting.length === 0) give();
    });
    if (waiting.length > 0) writer.whenReady(goOn);
  }

  const fleet = {
    /** Devices may reach each other from now on. Idempotent. */
    start(): void {
      if (stream.started) return;
      stream.start();
      listen();
      // Ahead of what tells the others that this replica can be asked.
      shareTakers.start();
      interest.start();
    },
    get started(): boolean {
      return stream.started;
    },
    /** Why messages do not pass; undefined: they do, as far as is known. */
    get problem(): string | undefined {
      return stream.problem;
    },
    interest,
    /** What the stream keeps for sessions. */
    kept: kept as KeptMessages,
    /** Messages given to other replicas and taken from them. */
    counts: counts as Readonly<typeof counts>,
    /** Who gives it to the clients of this replica; set before the start. */
    deliver: (_message: FleetMessage | KeptMessage, _how: FleetDelivery): void => {},
    /** Who knows whether a shared subscription has members here, and one that is connected; set before the start. */
    hasShare: (_share: string): boolean => false,
    hasConnected: (_share: string): boolean => false,
    /**
     * Gives a message to the other replicas: those of QoS 1 and 2 in the order in which they are given, stored until each has
     * read them; one of QoS 0 once, to whoever is there.
     *
     * @param takers who gives it to shared subscriptions.
     * @param onStored called when it is stored and its takers are there, as far as is known; or NATS does not take it.
     */
    pass(message: FleetMessage, takers: readonly ShareTaker[], onStored: (refusal?: string) => void): void {
      counts.passed += 1;
      const tokens = topicToTokens(message.topic);
      const headers = encode(message, takers);
      const { payload } = message;
      if (message.qos === 0) {
        const subject = Buffer.from(`${passingPrefix}${tokens}`);
        const message = { subject, headers, payload, messageId: undefined };
        const problem = findSizeProblem(message, wire.maxMessageBytes);
        try {
          if (problem === undefined) wire.publish(message);
        } catch {
          // NATS is away, and so are the others.
        }
        onStored(problem);
        return;
      }
      ids += 1;
      // One that is known to be absent was chosen because there is no other: it may come back for what is stored.
      const asked = takers.filter(([, taker]) => interest.answers(taker));
      const stored = {
        subject: Buffer.from(`${prefix}${tokens}`),
        headers,
        payload,
        confirm: true,
        messageId: `${idPrefix}.${ids.toString(36)}`,
        batchable: false,
        tellsRefusal: true,
        renew: () => stream.problem,
        compact() {},
        onStored() {
          if (asked.length === 0) onStored();
          else
            shareTakers.confirm(message, asked).then(
              () => onStored(),
              () => onStored(),
            );
        },
        onRefused(reason: string, cause?: string) {
          if (cause === 'publish_denied') stream.deny(reason);
          onStored(reason);
        },
      };
      if (waiting.length === 0 && !writer.fullFor(true)) {
        lane.publish(stored);
        return;
      }
      waiting.push(() => lane.publish(stored));
      if (waiting.length === 1) writer.whenReady(goOn);
    },
    ready: stream.ready,
    /** The shared subscriptions of this replica are to take nothing more from others: its clients are about to go. */
    leave(): void {
      interest.leaveShares();
      shareTakers.leave();
    },
    /** Waits for the takers of what is stored, at most until `timeoutMs`; answers for how many messages in vain. */
    drain: (timeoutMs: number): Promise<number> => shareTakers.drain(timeoutMs),
    close(): void {
      interest.close();
      shareTakers.close();
      stream.close();
      kept.close();
    },
  };
  return fleet;
}

function readTakers(header: string): ShareTaker[] {
  if (header === '') return [];
  try {
    const json: unknown = JSON.parse(decodeURIComponent(header));
    return Array.isArray(json) ? json.filter((each): each is ShareTaker => Array.isArray(each)) : [];
  } catch {
    return [];
  }
}
