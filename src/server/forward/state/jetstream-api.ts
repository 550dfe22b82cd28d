import type { Msg } from '../connection/nats-library.js';
import { type NatsRequests, RequestError } from '../connection/nats-requests.js';

/** Why JetStream did not do what it was asked for. */
export class JetStreamError extends Error {
  /** NATS is away or silent: it may be done by now, or when it is asked again. */
  readonly away: boolean;
  /** JetStream's own code; undefined: the error is not JetStream's. */
  readonly apiCode: number | undefined;

  constructor(
    message: string,
    { away = false, apiCode }: { away?: boolean; apiCode?: number | undefined } = {},
  ) {
    super(message);
    this.away = away;
    this.apiCode = apiCode;
  }

  /** NATS does not let the user ask. */
  get isDenied(): boolean {
    return !this.away && this.apiCode === undefined;
  }
}

/** The subjects of JetStream's API. @param domain undefined: that of the server. */
export function apiPrefix(domain: string | undefined): string {
  return domain === undefined ? '$JS.API' : `$JS.${domain}.API`;
}

/** Sends a request and reads the answer. @param headers an encoded block. @throws JetStreamError */
export async function ask(
  requests: NatsRequests,
  subject: string,
  data: Uint8Array | string,
  headers?: Uint8Array,
): Promise<Msg> {
  try {
    return await requests.ask(subject, data, headers);
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    // Nobody answers: there is no such stream, or the cluster has no leader for it.
    const message = error.noResponders ? 'no stream answers' : error.message;
    throw new JetStreamError(message, { away: error.mayPass });
  }
}

/** Sends a request with a JSON answer that may be an error. @throws JetStreamError */
export async function askJson<T>(
  requests: NatsRequests,
  subject: string,
  data: Uint8Array | string,
): Promise<T> {
  return readJson(await ask(requests, subject, data));
}

/** Reads a JSON answer that may be an error. @throws JetStreamError */
export function readJson<T>(message: Msg): T {
  const answer = message.json<T & { error?: { code?: number; err_code?: number; description?: string } }>();
  const { error } = answer;
  if (error === undefined || error === null) return answer;
  const { code, err_code: apiCode, description = 'no description' } = error;
  throw new JetStreamError(description, { away: code === 503, apiCode });
}
