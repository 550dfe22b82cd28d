import { messageOf, SvcMqttError } from '../../../errors.js';
import {
  type MsgHdrs,
  type NatsConnection,
  type NatsError,
  headers as newHeaders,
} from '../connection/nats-library.js';
import type { NatsLink } from '../connection/nats-link.js';
import { messageTooLarge } from '../jetstream-codes.js';
import { qosHeader } from '../mqtt-headers.js';
import { escapeToken, topicToTokens } from '../subject.js';

/** What is sent to a device. */
export interface OutgoingCommand {
  readonly deviceId: string;
  /** What follows `cmd/<device id>/`, or `cmd/<device id>/call/`. */
  readonly topic: string;
  readonly payload: Uint8Array;
  /** The largest with which it is sent; undefined: 1. */
  readonly qos?: 0 | 1 | undefined;
}

/** What a device answered. */
export interface CommandAnswer {
  /** What it published, or its acknowledgement. */
  readonly by: 'reply' | 'ack';
  readonly payload: Uint8Array;
}

/** Why a device did not answer: the code and the words of the reply (`calls.ts`), 503 when NATS says that it is nowhere. */
export interface CommandFailure {
  readonly code: number;
  readonly reason: string;
}

export type CommandSender = ReturnType<typeof openCommandSender>;

/** nats-server ends a connection that sends a longer command line, with a reply subject and numbers. */
const maxSubjectBytes = 3_500;
const storedWithinMs = 5_000;
/** NATS and the gateways have so long beside the device. */
const marginMs = 1_000;

/** Sends commands as services do. @param isStored a stream takes commands. */
export function openCommandSender(link: NatsLink, isStored: () => boolean) {
  function requireConnection(): NatsConnection {
    const { connection } = link;
    if (connection === undefined || !link.open) throw unreachable('NATS is away');
    return connection;
  }

  return {
    /**
     * @returns where it is stored; undefined: nowhere, it reaches the clients that are connected.
     * @throws SvcMqttError INPUT_INVALID, BODY_TOO_LARGE, NATS_UNREACHABLE, NATS_STREAM.
     */
    async send(
      { deviceId, topic, payload, qos }: OutgoingCommand,
      expirySec: number | undefined,
    ): Promise<{ readonly stream: string; readonly sequence: number } | undefined> {
      const connection = requireConnection();
      const subject = subjectOf('cmd', deviceId, topic);
      requireRoom(connection, payload);
      const headers = headersOf(qos);
      if (expirySec !== undefined) headers.set('Mqtt-Message-Expiry', String(expirySec));
      try {
        if (!isStored()) {
          connection.publish(subject, payload, { headers });
          await connection.flush();
          return undefined;
        }
        const answer = await connection.request(subject, payload, { headers, timeout: storedWithinMs });
        const { stream, seq, error } = answer.json<{
          stream: string;
          seq: number;
          error?: { err_code?: number; description?: string };
        }>();
        if (error?.err_code === messageTooLarge)
          throw new SvcMqttError('BODY_TOO_LARGE', `Stream ${stream} takes no command so large`);
        if (error !== undefined)
          throw new SvcMqttError('NATS_STREAM', `The command is not stored. NATS: ${error.description}`);
        return { stream, sequence: seq };
      } catch (error) {
        if (error instanceof SvcMqttError) throw error;
        const { code } = error as NatsError;
        if (code === '503')
          throw new SvcMqttError('NATS_STREAM', `No stream takes ${subject}`, { mayPass: true });
        if (code === 'TIMEOUT')
          throw unreachable(`no answer within ${storedWithinMs / 1_000} s; the command may be stored`);
        throw unreachable(messageOf(error));
      }
    },

    /** @throws SvcMqttError INPUT_INVALID, BODY_TOO_LARGE, NATS_UNREACHABLE. */
    async ask(
      { deviceId, topic, payload, qos }: OutgoingCommand,
      { withinMs, ack }: { readonly withinMs: number; readonly ack: boolean },
    ): Promise<CommandAnswer | CommandFailure> {
      const connection = requireConnection();
      const subject = subjectOf('call', deviceId, topic);
      requireRoom(connection, payload);
      const headers = headersOf(qos);
      headers.set('Mqtt-Answer-Within', String(withinMs / 1_000));
      if (ack) headers.set('Mqtt-Answer', 'ack');
      try {
        const answer = await connection.request(subject, payload, { headers, timeout: withinMs + marginMs });
        return (
          readFailure(answer.headers) ?? {
            by: answer.headers?.get('Mqtt-Answered-By') === 'ack' ? 'ack' : 'reply',
            payload: answer.data,
          }
        );
      } catch (error) {
        const { code } = error as NatsError;
        if (code === '503')
          return { code: 503, reason: 'no client of the device that takes commands is connected' };
        if (code === 'TIMEOUT')
          return { code: 408, reason: `the device did not answer within ${withinMs / 1_000} s` };
        throw unreachable(messageOf(error));
      }
    },
  };
}

/** @throws SvcMqttError INPUT_INVALID when it is longer than NATS takes. */
function subjectOf(kind: 'cmd' | 'call', deviceId: string, topic: string): string {
  const subject = `${kind}.${escapeToken(deviceId)}.${topicToTokens(topic)}`;
  if (Buffer.byteLength(subject) <= maxSubjectBytes) return subject;
  throw new SvcMqttError(
    'INPUT_INVALID',
    `topic must not be longer: its subject in NATS would have more than ${maxSubjectBytes} bytes`,
    { field: 'topic' },
  );
}

/** What headers and their names take, at most. */
const spareBytes = 1_024;

/** @throws SvcMqttError BODY_TOO_LARGE. */
function requireRoom({ info }: NatsConnection, payload: Uint8Array): void {
  const most = (info?.max_payload ?? Number.POSITIVE_INFINITY) - spareBytes;
  if (payload.length > most)
    throw new SvcMqttError('BODY_TOO_LARGE', `The payload is over the ${most} bytes that NATS takes`);
}

function headersOf(qos: 0 | 1 | undefined): MsgHdrs {
  const headers = newHeaders();
  if (qos !== undefined) headers.set(qosHeader, String(qos));
  return headers;
}

function readFailure(headers: MsgHdrs | undefined): CommandFailure | undefined {
  const code = headers?.get('Nats-Service-Error-Code') ?? '';
  return code === '' ? undefined : { code: Number(code), reason: headers?.get('Nats-Service-Error') ?? '' };
}

function unreachable(reason: string): SvcMqttError {
  return new SvcMqttError('NATS_UNREACHABLE', `NATS: ${reason}`, { mayPass: true });
}
