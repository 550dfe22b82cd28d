import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import type { Msg, NatsConnection, NatsError, Service, ServiceMsg } from '../connection/nats-library.js';
import type { NatsLink } from '../connection/nats-link.js';
import { parseTold } from './fleet-telling.js';

/** What a replica answers another one, or a person with the `nats` program. */
export interface Question {
  /** What it is, for `nats micro info`. */
  readonly description: string;
  /**
   * @param request as JSON has it; not to be trusted.
   * @param room most bytes of the answer, as JSON.
   * @throws QuestionRefused.
   */
  answer(request: unknown, room: number): Promise<unknown>;
}

/** Why a question is not answered, with a code as in HTTP. */
export class QuestionRefused extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** What became of a question. */
export type Answer =
  | { readonly answer: unknown }
  /** `absent`: nobody of this name listens. `silent`: no answer in time. `refused`: why in words. */
  | { readonly failed: 'absent' | 'silent' | 'refused'; readonly detail: string; readonly code?: number };

/** Between the replicas of the fleet, by NATS. */
export type FleetLink = ReturnType<typeof openFleetLink>;

const serviceName = 'svc-mqtt';
const prefix = 'svc-mqtt.fleet';
/** A replica that takes longer is shown as one that does not answer. */
const answerTimeoutMs = 500;
/** The longest that NATS is waited for at the end. */
const closeWithinMs = 1_000;
const maxRequestBytes = 64 * 1024;
const maxAnswerBytes = 1024 * 1024;
/** Of an answer, for headers and what NATS adds. */
const spareBytes = 4_096;

/**
 * Offers this replica by the services API of NATS (ADR-32), so that `nats micro ls` lists it, and asks others. Each question
 * has the subject `svc-mqtt.fleet.<replica>.<question>`.
 *
 * @param options.onConnected called when this replica can be asked, on every new connection.
 */
export function openFleetLink(options: {
  link: NatsLink;
  replica: string;
  host: string;
  version: string;
  questions: Readonly<Record<string, Question>>;
  onConnected(): void;
  log: Log;
}) {
  const { link, replica, host, version, questions, log } = options;
  let service: Service | undefined;
  let current: NatsConnection | undefined;
  let closed = false;

  async function offer(connection: NatsConnection): Promise<void> {
    const offered = await connection.services.add({
      name: serviceName,
      version,
      description: 'MQTT device gateway',
      metadata: { replica, host },
    });
    service = offered;
    void offered.stopped.then((error) => {
      if (error !== null && !closed && !connection.isClosed())
        log.info(
          { event: 'fleet_not_offered', reason: messageOf(error) },
          'NATS does not let this replica be asked by the others',
        );
    });
    for (const [name, question] of Object.entries(questions)) {
      offered.addEndpoint(name.replaceAll('.', '-'), {
        subject: `${prefix}.${replica}.${name}`,
        metadata: { description: question.description },
        handler: (error, message) => {
          if (error === null)
            reply(question, message, connection).catch((failure: unknown) =>
              log.error({ event: 'fleet_answer_failed', err: failure }, 'Another replica got no answer'),
            );
        },
      });
    }
  }

  async function reply(question: Question, message: ServiceMsg, connection: NatsConnection): Promise<void> {
    try {
      const room = Math.min(maxAnswerBytes, connection.info?.max_payload ?? maxAnswerBytes) - spareBytes;
      const answer = Buffer.from(JSON.stringify(await question.answer(readRequest(message.data), room)));
      if (answer.length > room) throw new QuestionRefused(413, 'the answer is too large; ask for less');
      message.respond(answer);
    } catch (error) {
      if (connection.isClosed()) return;
      const known = error instanceof QuestionRefused;
      if (!known)
        log.error(
          { event: 'fleet_answer_failed', err: error },
          'A question of another replica was not answered',
        );
      message.respondError(
        known ? error.code : 500,
        // A header has no line ends, and the asker's words in it are of any length.
        known ? error.message.replace(/\p{Cc}/gu, ' ').slice(0, 500) : 'the replica failed; its log says why',
      );
    }
  }

  link.listen({
    connected(connection) {
      if (closed) return;
      current = connection;
      offer(connection).then(
        () => {
          if (!closed && current === connection) options.onConnected();
        },
        (error: unknown) =>
          log.debug({ event: 'fleet_not_told', reason: messageOf(error) }, 'The connection has just ended'),
      );
    },
    disconnected() {
      current = undefined;
      service = undefined;
    },
  });

  return {
    /** NATS answers. */
    get open(): boolean {
      return link.open && !closed;
    },
    /** Asks a replica; rejects never. */
    async ask(other: string, question: string, request: unknown): Promise<Answer> {
      const connection = link.connection;
      if (connection === undefined || !link.open || closed)
        return { failed: 'silent', detail: 'NATS is away' };
      return await askReplica(connection, other, question, request);
    },
    async close(): Promise<void> {
      if (closed) return;
      closed = true;
      if (current?.isClosed() !== false) return;
      // It waits for NATS, which may be silent.
      const patience = delay(closeWithinMs, undefined, { ref: false });
      await Promise.race([service?.stop().catch(() => undefined), patience]);
    },
  };
}

/** Asks a replica; rejects never. */
export async function askReplica(
  connection: NatsConnection,
  replica: string,
  question: string,
  request: unknown,
): Promise<Answer> {
  try {
    const subject = `${prefix}.${replica}.${question}`;
    return readAnswer(
      await connection.request(subject, JSON.stringify(request), { timeout: answerTimeoutMs }),
    );
  } catch (error) {
    if ((error as Partial<NatsError>).code === noResponders)
      return { failed: 'absent', detail: 'is not connected to NATS' };
    return { failed: 'silent', detail: `did not answer within ${answerTimeoutMs} ms` };
  }
}

/** The code of the library for a request that reached nobody. */
const noResponders = '503';

function readRequest(data: Uint8Array): unknown {
  if (data.length === 0) return {};
  if (data.length > maxRequestBytes) throw new QuestionRefused(413, `more than ${maxRequestBytes} bytes`);
  const request = parseTold(data);
  if (request === undefined) throw new QuestionRefused(400, 'the request is not JSON');
  return request;
}

function readAnswer(message: Msg): Answer {
  const code = message.headers?.get('Nats-Service-Error-Code') ?? '';
  if (code !== '') {
    const detail = message.headers?.get('Nats-Service-Error') ?? '';
    return { failed: 'refused', detail: detail.slice(0, 500), code: Number(code) };
  }
  const answer = parseTold(message.data);
  return answer === undefined
    ? { failed: 'refused', detail: 'answered in a form that is not understood' }
    : { answer };
}
