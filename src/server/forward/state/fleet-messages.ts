import { randomBytes } from 'node:crypto';
import { DiscardPolicy, type Msg, nanos } from '../connection/nats-library.js';
import { findSizeProblem, type NatsWire, noWire } from '../connection/nats-wire.js';
import type { Forwarder } from '../forwarder.js';
import { topicToTokens } from '../subject.js';
import type { FleetInterest } from './fleet-interest.js';
import { encodeStateHeaders, readStateMessage, readTopic, type StateMessage } from './state-message.js';
import { openStateStream, type StateContext } from './state-stream.js';

/** A message that a client of one replica published, for the clients of others. */
export interface FleetMessage extends StateMessage {
  /** As its publisher said. */
  readonly retain: boolean;
}

/** The replica that gives a message to a shared subscription, `<name>/<filter>`. */
export type ShareTaker = readonly [share: string, replica: string];

/** What passes between the clients of different replicas. */
export interface FleetMessages {
  /** Devices may reach each other from now on. Idempotent. */
  start(): void;
  readonly started: boolean;
  /** Why messages do not pass; undefined: they do, as far as is known. */
  readonly problem: string | undefined;
  readonly interest: FleetInterest;
  /** Messages given to other replicas and taken from them. */
  readonly counts: { readonly passed: number; readonly taken: number };
  /** Who gives the clients of this replica what comes from others; set before the start. @param shares those that are to take it here. */
  deliver: (message: FleetMessage, shares: ReadonlySet<string>) => void;
  /**
   * Gives a message to the other replicas: those of QoS 1 and 2 in the order in which they are given, stored until each has
   * read them; one of QoS 0 once, to whoever is there.
   *
   * @param takers who gives it to shared subscriptions.
   * @param onStored called when it is stored, or NATS does not take it.
   */
  pass(message: FleetMessage, takers: readonly ShareTaker[], onStored: (refusal?: string) => void): void;
  ready(timeoutMs: number): Promise<void>;
  close(): void;
}

export const messagesStream = 'SVC_MQTT_MESSAGES';
const prefix = 'svc-mqtt.message.';
export const messagesSubjects = `${prefix}>`;
/** Core NATS, in no stream. */
const passingPrefix = 'svc-mqtt.passing.';
/** A replica that is away for longer, or for more, has missed the rest. */
const keptForMs = 3_600_000;
const keptBytes = 268_435_456;

export function openFleetMessages(
  context: StateContext,
  parts: { writer: Forwarder; interest: FleetInterest; replica: string },
): FleetMessages {
  const { writer, interest, replica } = parts;
  const lane = writer.openLane();
  const idPrefix = randomBytes(9).toString('base64url');
  let ids = 0;
  let wire: NatsWire = noWire;
  /** The last that was read; undefined: nothing was. */
  let position: number | undefined;
  let passed = 0;
  let taken = 0;
  /** Given while the writer was full. */
  let waiting: (() => void)[] = [];

  function take(subjectPrefix: string, subject: string, message: Msg, storedAtMs: number): void {
    const { headers } = message;
    const topic = readTopic(subject.slice(subjectPrefix.length));
    if (topic === undefined || headers?.get('Mqtt-Replica') === replica) return;
    taken += 1;
    const shares = readTakers(headers?.get('Mqtt-Shares')).flatMap(([share, taker]) =>
      taker === replica ? share : [],
    );
    const retain = headers?.get('Mqtt-Retain') === '1';
    fleet.deliver({ ...readStateMessage(topic, message, storedAtMs), retain }, new Set(shares));
  }

  const stream = openStateStream({
    ...context,
    name: messagesStream,
    subject: messagesSubjects,
    config: {
      allow_msg_ttl: true,
      discard: DiscardPolicy.Old,
      max_age: nanos(keptForMs),
      max_bytes: keptBytes,
    },
    without: 'messages between devices stay on the replica to which they were published',
    startsLater: true,
    begin({ lastSequence, anew }) {
      // What came before the start was for replicas that were there; a stream that was made anew has only what is new.
      if (anew) position = 0;
      position ??= lastSequence;
      return position + 1;
    },
    onMessage({ subject, sequence, storedAtMs, message }) {
      position = sequence;
      take(prefix, subject, message, storedAtMs);
    },
    onCaughtUp() {},
  });

  function listen(): void {
    context.link.listen({
      connected(connection, newWire) {
        wire = newWire;
        connection.subscribe(`${passingPrefix}>`, {
          callback(error, message) {
            if (error === null) take(passingPrefix, message.subject, message, Date.now());
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

  const fleet: FleetMessages = {
    start() {
      if (stream.started) return;
      stream.start();
      listen();
      interest.start();
    },
    get started() {
      return stream.started;
    },
    get problem() {
      return stream.problem;
    },
    interest,
    get counts() {
      return { passed, taken };
    },
    deliver: () => {},
    pass(message, takers, onStored) {
      passed += 1;
      const tokens = topicToTokens(message.topic);
      const headers = encodeStateHeaders(message, [
        `Mqtt-Replica: ${replica}`,
        ...(message.retain ? ['Mqtt-Retain: 1'] : []),
        ...(takers.length === 0 ? [] : [`Mqtt-Shares: ${encodeURIComponent(JSON.stringify(takers))}`]),
      ]);
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
        onStored: () => onStored(),
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
    ready: (timeoutMs) => stream.ready(timeoutMs),
    close() {
      interest.close();
      stream.close();
    },
  };
  return fleet;
}

function readTakers(header: string | undefined): ShareTaker[] {
  if (!header) return [];
  try {
    const json: unknown = JSON.parse(decodeURIComponent(header));
    return Array.isArray(json) ? json.filter((each): each is ShareTaker => Array.isArray(each)) : [];
  } catch {
    return [];
  }
}
