import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { findOtherUse } from '../../../subject-template.js';
import type { MessageProperties } from '../../message-properties.js';
import { findHeader, headerTextOf } from '../connection/nats-headers.js';
import type { Msg, Subscription } from '../connection/nats-library.js';
import type { NatsLink } from '../connection/nats-link.js';
import { findSizeProblem, type NatsWire, noWire } from '../connection/nats-wire.js';
import type { WireMessage } from '../forwarder.js';
import { decodeHeaders, encodeProperties, readQos } from '../mqtt-headers.js';
import { escapeToken, subjectToTopic } from '../subject.js';

/** Why a call is not answered, as codes of HTTP, which NATS services use too (ADR-32). */
export type CallFailure = 400 | 404 | 408 | 413 | 429 | 503;

/** A question that somebody asks a device by a NATS request on `call.<device id>.<what>`. */
export type Call = Readonly<ReturnType<typeof toCall>>;

export type Calls = ReturnType<typeof openCalls>;

const defaultTimeoutMs = 5_000;
const maxTimeoutMs = 60_000;

interface Claimed {
  readonly deviceId: string;
  claims: number;
  subscription: Subscription | undefined;
}

/**
 * The calls of devices that are here. NATS has a subscription for each of them and for no other, so that it answers itself, and
 * at once, that nobody responds for one that is nowhere.
 */
export function openCalls(link: NatsLink, log: Log) {
  const devices = new Map<string, Claimed>();
  const changed = new Set<Claimed>();
  let wire: NatsWire = noWire;

  function subscribe(claimed: Claimed): void {
    const { deviceId } = claimed;
    try {
      claimed.subscription = link.connection?.subscribe(`call.${escapeToken(deviceId)}.>`, {
        callback(error, message) {
          // A user that may not subscribe is told by NATS once; there are no calls then.
          if (error === null) receive(deviceId, message);
        },
      });
    } catch (error) {
      // The connection has just ended; all subscriptions are made again on the next one.
      log.debug({ event: 'calls_wait', device: deviceId, reason: messageOf(error) }, 'NATS is away');
    }
  }

  /** At the end of the turn, or before the next PING, in one write for all the clients that came and went in it: a write costs more than all else here. */
  function note(claimed: Claimed): void {
    if (changed.size === 0) setImmediate(applyChanges);
    changed.add(claimed);
  }

  function applyChanges(): void {
    for (const claimed of changed) {
      const { claims, subscription } = claimed;
      if (claims > 0 && subscription === undefined) subscribe(claimed);
      if (claims > 0 || subscription === undefined) continue;
      claimed.subscription = undefined;
      subscription.unsubscribe();
    }
    changed.clear();
  }

  function receive(deviceId: string, message: Msg): void {
    const { reply = '' } = message;
    // Nobody waits for an answer, or it would do what the user of this gateway may do in NATS, and the asker perhaps not.
    if (reply === '' || reply.startsWith('$') || findOtherUse(reply) !== undefined) return;
    const call = toCall(deviceId, message, () => wire);
    if (call.what.search(/[+#*>]/) >= 0) call.fail(400, 'a call must not have wildcards in its subject');
    else if (Number.isNaN(call.timeoutMs))
      call.fail(400, 'Mqtt-Answer-Within is a number of seconds from 0.1 to 60');
    else if (call.wantsAck && call.qos === 0)
      call.fail(400, 'Mqtt-Answer: ack does not go with Mqtt-Qos: 0, which nobody acknowledges');
    else calls.onCall(call);
  }

  link.listen({
    connected(_connection, newWire) {
      wire = newWire;
      for (const claimed of devices.values()) subscribe(claimed);
    },
    pinging: applyChanges,
    disconnected() {
      wire = noWire;
      for (const claimed of devices.values()) claimed.subscription = undefined;
    },
  });

  const calls = {
    /** Who takes them; set before the first claim. */
    onCall: (_call: Call): void => {},
    /** @returns a function that ends it; of several claims of a device the last one does. */
    claim(deviceId: string): () => void {
      const claimed = devices.get(deviceId) ?? { deviceId, claims: 0, subscription: undefined };
      claimed.claims += 1;
      if (claimed.claims === 1) {
        devices.set(deviceId, claimed);
        note(claimed);
      }
      let ended = false;
      return () => {
        if (ended) return;
        ended = true;
        claimed.claims -= 1;
        if (claimed.claims > 0) return;
        devices.delete(deviceId);
        note(claimed);
      };
    },
  };
  return calls;
}

/** @param wireOfNow of the connection of then: nothing is kept of the question, which may be large, while its answer is waited for. */
function toCall(deviceId: string, message: Msg, wireOfNow: () => NatsWire) {
  const headers = headerTextOf(message);
  const respond = answerTo(message.reply ?? '', wireOfNow);
  const within = findHeader(headers, 'Mqtt-Answer-Within');
  const seconds = within === '' ? defaultTimeoutMs / 1_000 : Number(within);
  const timeoutMs = seconds >= 0.1 && seconds * 1_000 <= maxTimeoutMs ? seconds * 1_000 : Number.NaN;
  return {
    deviceId,
    /** What is asked, as a topic: behind `call` and the device. */
    what: subjectToTopic(message.subject.split('.').slice(2).join('.')),
    payload: Buffer.from(message.data),
    properties: decodeHeaders(headers),
    /** The largest with which it is sent. */
    qos: readQos(headers),
    /** `Mqtt-Answer: ack`: that the device has it is answer enough. */
    wantsAck: findHeader(headers, 'Mqtt-Answer').toLowerCase() === 'ack',
    /** `Mqtt-Answer-Within`. */
    timeoutMs,
    /** @param by what the answer is: what the device published, or its acknowledgement. */
    answer(by: 'reply' | 'ack', payload: Uint8Array, properties: MessageProperties | undefined): void {
      const lines = properties === undefined ? '' : encodeProperties(properties, { ttl: false });
      respond(payload, `Mqtt-Answered-By: ${by}\r\n${lines}`);
    },
    fail(code: CallFailure, reason: string): void {
      respond(noBytes, failureLines(code, reason));
    },
  };
}

const noBytes = new Uint8Array();

/** As NATS services answer an error (ADR-32). */
function failureLines(code: CallFailure, reason: string): string {
  return `Nats-Service-Error-Code: ${code}\r\nNats-Service-Error: ${reason.replace(/\p{Cc}/gu, ' ')}\r\n`;
}

/** Answers in one write with what else is published in this turn. */
function answerTo(reply: string, wireOfNow: () => NatsWire): (payload: Uint8Array, lines: string) => void {
  const subject = Buffer.from(reply);
  const answer = (payload: Uint8Array, lines: string): WireMessage => {
    const headers = Buffer.from(`NATS/1.0\r\n${lines}\r\n`);
    return { subject, headers, payload, messageId: undefined };
  };
  return (payload, lines) => {
    const wire = wireOfNow();
    const problemOf = (each: WireMessage) => findSizeProblem(each, wire.maxMessageBytes);
    const message = answer(payload, lines);
    const problem = problemOf(message);
    const sent = problem === undefined ? message : answer(noBytes, failureLines(413, problem));
    try {
      // Not even that goes to a reply subject that is too long.
      if (problemOf(sent) === undefined) wire.publish(sent);
    } catch {
      // The connection has just ended: who asked learns of it by its own time limit.
    }
  };
}
