import { randomBytes } from 'node:crypto';
import { isNoResponders } from './nats-headers.js';
import { subjectBytesOf } from './nats-internals.js';
import type { Msg } from './nats-library.js';
import type { NatsLink } from './nats-link.js';
import { findSizeProblem, findSubjectProblem, type NatsWire, noWire } from './nats-wire.js';

export type NatsRequests = ReturnType<typeof openNatsRequests>;

/** Why a request was not answered. */
export class RequestError extends Error {
  /** NATS is away or silent, or nobody is there to answer: another attempt may be answered. */
  readonly mayPass: boolean;
  readonly noResponders: boolean;

  constructor(message: string, options: { mayPass: boolean; noResponders?: boolean }) {
    super(message);
    this.mayPass = options.mayPass;
    this.noResponders = options.noResponders === true;
  }
}

interface Waiting {
  readonly subject: string;
  /** The time for an answer is counted in turns of the sweeper: while this process is held up none passes. */
  sweepsLeft: number;
  readonly isLast: ((answer: Msg) => boolean) | undefined;
  resolve(answer: Msg): void;
  reject(error: RequestError): void;
}

const sweepMs = 250;
const answerWithinSweeps = 12;
const noHeaders = Buffer.from('NATS/1.0\r\n\r\n');
const zero = 48;

/**
 * Opens requests beside the library's own, which makes an error with its stack, a timer and a handful of promises for each: with
 * thousands of them a second that costs more than what they are made for. Those of a turn leave in one write.
 */
export function openNatsRequests(link: NatsLink, inboxPrefix: string) {
  const inbox = `${inboxPrefix}.${randomBytes(12).toString('hex')}`;
  /** One object for all: nothing keeps it. */
  const replyTo = { prefix: Buffer.from(`${inbox}.`), token: 0, suffix: new Uint8Array() };
  /** Oldest first. */
  const waiting = new Map<number, Waiting>();
  /** Many go to the same subject. */
  let lastSubject: string | undefined;
  let lastSubjectBytes = Buffer.from('');
  let wire: NatsWire = noWire;
  let sweeper: NodeJS.Timeout | undefined;

  function take(token: number): Waiting | undefined {
    const found = waiting.get(token);
    waiting.delete(token);
    return found;
  }

  function fail(matches: (request: Waiting) => boolean, message: string, mayPass: boolean): void {
    for (const [token, request] of waiting)
      if (matches(request)) take(token)?.reject(new RequestError(message, { mayPass }));
  }

  function sweep(): void {
    for (const [token, request] of waiting) {
      request.sweepsLeft -= 1;
      if (request.sweepsLeft < 0)
        take(token)?.reject(new RequestError('NATS did not answer in time', { mayPass: true }));
    }
    if (waiting.size > 0) return;
    clearInterval(sweeper);
    sweeper = undefined;
  }

  function onAnswer(error: Error | null, answer: Msg): void {
    // Without the right to its inbox no request is answered.
    if (error !== null) {
      fail(() => true, error.message, false);
      return;
    }
    const token = tokenOf(answer, replyTo.prefix.length);
    const request = waiting.get(token);
    if (request === undefined) return;
    if (request.isLast?.(answer) === false) {
      request.sweepsLeft = answerWithinSweeps;
      return;
    }
    waiting.delete(token);
    if (isNoResponders(answer))
      request.reject(new RequestError('nobody answers', { mayPass: true, noResponders: true }));
    else request.resolve(answer);
  }

  link.listen({
    connected(connection, newWire) {
      wire = newWire;
      connection.subscribe(`${inbox}.*`, { callback: onAnswer });
    },
    disconnected() {
      wire = noWire;
      fail(() => true, 'the connection to NATS was lost', true);
    },
    ponged(denied) {
      if (denied.size > 0)
        for (const subject of denied)
          fail(
            (request) => request.subject === subject,
            `NATS does not let the user publish to ${subject}`,
            false,
          );
    },
  });

  return {
    /**
     * @param headers an encoded header block.
     * @param isLast given each answer in turn, until it says so; undefined: there is one answer. Must not throw.
     * @returns the last answer. @throws RequestError
     */
    ask: (
      subject: string,
      payload: Uint8Array | string,
      headers: Uint8Array = noHeaders,
      isLast?: (answer: Msg) => boolean,
    ): Promise<Msg> =>
      new Promise((resolve, reject) => {
        if (subject !== lastSubject) {
          const unfit = findSubjectProblem(subject);
          if (unfit !== undefined) {
            reject(new RequestError(unfit, { mayPass: false }));
            return;
          }
          lastSubject = subject;
          lastSubjectBytes = Buffer.from(subject);
        }
        const message = {
          subject: lastSubjectBytes,
          headers,
          payload: typeof payload === 'string' ? Buffer.from(payload) : payload,
          messageId: undefined,
        };
        const problem = wire === noWire ? 'NATS is away' : findSizeProblem(message, wire.maxMessageBytes);
        if (problem !== undefined) {
          reject(new RequestError(problem, { mayPass: wire === noWire }));
          return;
        }
        replyTo.token += 1;
        try {
          wire.publish(message, replyTo);
        } catch {
          reject(new RequestError('the connection to NATS has ended', { mayPass: true }));
          return;
        }
        waiting.set(replyTo.token, { subject, sweepsLeft: answerWithinSweeps, isLast, resolve, reject });
        sweeper ??= setInterval(sweep, sweepMs).unref();
      }),
  };
}

function tokenOf(answer: Msg, from: number): number {
  const subject = subjectBytesOf(answer) ?? Buffer.from(answer.subject);
  let token = 0;
  for (let at = from; at < subject.length; at += 1) token = token * 10 + ((subject[at] as number) - zero);
  return token;
}
