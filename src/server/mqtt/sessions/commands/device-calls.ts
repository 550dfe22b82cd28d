import { randomBytes } from 'node:crypto';
import { withFastGetters } from '../../../fast-getters.js';
import type { Call, Calls } from '../../../forward/commands/calls.js';
import type { MessageProperties } from '../../../message-properties.js';
import { isTopic } from '../../protocol/topics.js';
import type { Message } from '../delivery/message.js';

/** What a client is asked. */
export interface Question {
  /** Its acknowledgement is the answer, so the subscription has to have QoS 1. */
  readonly wantsAck: boolean;
  /** As its version has it. @param explains of MQTT 5, whose clients are told where to answer. */
  messageFor(explains: boolean): Message;
  /** The client has acknowledged it; false: it refused it, or takes none so large. */
  onSettled(taken: boolean): void;
}

/** A client that may be asked. */
export interface Callee {
  readonly session: { ask(question: Question): 'asked' | 'busy' | 'not subscribed' } | undefined;
}

export type DeviceCalls = ReturnType<typeof openDeviceCalls>;

/** Without its payload, so that what waits is small. */
type Asked = Pick<Call, 'deviceId' | 'answer' | 'fail'>;

interface Pending {
  readonly call: Asked;
  readonly timer: NodeJS.Timeout;
}

/** Most questions that wait, of all devices and of one. */
const maxPending = 10_000;
const maxPendingPerDevice = 64;
const tokenBytes = 9;

/**
 * Devices that are asked by services, and what they answer.
 *
 * @param options.clientsOf those of a device that have a connection here.
 */
export function openDeviceCalls(options: { calls: Calls; clientsOf(deviceId: string): readonly Callee[] }) {
  /** By token, which nobody can guess. */
  const pending = new Map<string, Pending>();
  const perDevice = new Map<string, number>();

  /** Notes a question. In a function of its own: the timer would keep all that stands around it. */
  function note({ deviceId, answer, fail }: Asked, timeoutMs: number): string {
    const token = randomBytes(tokenBytes).toString('base64url');
    const timer = setTimeout(
      () => settle(token)?.fail(408, `the device did not answer within ${timeoutMs / 1_000} s`),
      timeoutMs,
    );
    pending.set(token, { call: { deviceId, answer, fail }, timer });
    perDevice.set(deviceId, (perDevice.get(deviceId) ?? 0) + 1);
    return token;
  }

  function settle(token: string): Asked | undefined {
    const found = pending.get(token);
    if (found === undefined) return undefined;
    clearTimeout(found.timer);
    pending.delete(token);
    const { deviceId } = found.call;
    const left = (perDevice.get(deviceId) ?? 1) - 1;
    if (left === 0) perDevice.delete(deviceId);
    else perDevice.set(deviceId, left);
    return found.call;
  }

  options.calls.onCall = (call) => {
    const { deviceId, what, payload, qos, properties, wantsAck, timeoutMs } = call;
    const topic = `cmd/${deviceId}/call/${what}`;
    if (!isTopic(topic)) return call.fail(400, 'the subject of the call is no topic');
    if (pending.size >= maxPending || (perDevice.get(deviceId) ?? 0) >= maxPendingPerDevice)
      return call.fail(429, 'too many calls wait for an answer');
    const token = note(call, timeoutMs);
    const replyTopic = `raw/${deviceId}/reply/${token}`;
    const expiresAtMs = Date.now() + timeoutMs;
    const question: Question = {
      wantsAck,
      messageFor: (explains) => ({
        topic: explains ? topic : `cmd/${deviceId}/call/${token}/${what}`,
        payload,
        qos,
        retain: false,
        expiresAtMs,
        properties: { ...properties, responseTopic: replyTopic, correlationData: Buffer.from(token) },
      }),
      onSettled(taken) {
        if (!taken)
          settle(token)?.fail(413, 'the device does not take the call: it refused it, or it is too large');
        else if (wantsAck) settle(token)?.answer('ack', new Uint8Array(), undefined);
      },
    };
    const outcomes = options
      .clientsOf(deviceId)
      .map((client) => client.session?.ask(question) ?? 'not subscribed');
    if (outcomes.includes('asked')) return;
    const isBusy = outcomes.includes('busy');
    settle(token)?.fail(
      isBusy ? 503 : 404,
      isBusy
        ? 'the device takes no more messages now'
        : `no client of the device has subscribed to ${topic}${wantsAck ? ' with QoS 1' : ''}`,
    );
  };

  return withFastGetters({
    /** Questions that wait for their answer. */
    get pending() {
      return pending.size;
    },
    /** A device has published something: it may be the answer. */
    onPublish(
      deviceId: string,
      topic: string,
      payload: Uint8Array,
      properties: MessageProperties | undefined,
    ): void {
      const prefix = `raw/${deviceId}/reply/`;
      if (!topic.startsWith(prefix)) return;
      const token = topic.slice(prefix.length);
      // A device answers for itself only.
      if (pending.get(token)?.call.deviceId !== deviceId) return;
      settle(token)?.answer('reply', payload, properties);
    },
    close(): void {
      for (const token of [...pending.keys()]) settle(token)?.fail(503, 'the gateway stops');
    },
  });
}
