import { messageOf } from '../../../errors.js';
import { type Msg, type MsgHdrs, type NatsConnection, NatsError } from '../connection/nats-library.js';

/** JetStream's code for a stream that does not exist. */
export const noStreamFound = 10_059;

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
}

const requestTimeoutMs = 3_000;

/** The subjects of JetStream's API. @param domain undefined: that of the server. */
export function apiPrefix(domain: string | undefined): string {
  return domain === undefined ? '$JS.API' : `$JS.${domain}.API`;
}

/** Sends a request and reads the answer. @throws JetStreamError */
export async function ask(
  connection: NatsConnection | undefined,
  subject: string,
  data: Uint8Array | string,
  headers?: MsgHdrs,
): Promise<Msg> {
  if (connection === undefined) throw new JetStreamError('NATS is away', { away: true });
  try {
    const options = { timeout: requestTimeoutMs, ...(headers === undefined ? {} : { headers }) };
    return await connection.request(subject, data, options);
  } catch (error) {
    const { permissionContext } = error as { permissionContext?: { operation: string; subject: string } };
    if (permissionContext !== undefined) {
      const { operation, subject: denied } = permissionContext;
      throw new JetStreamError(`NATS does not let the user ${operation} to ${denied}`);
    }
    const code = error instanceof NatsError ? error.code : undefined;
    // Nobody answers: there is no such stream, or the cluster has no leader for it.
    if (code === '503') throw new JetStreamError('no stream answers', { away: true });
    throw new JetStreamError(messageOf(error), { away: true });
  }
}

/** Sends a request with a JSON answer that may be an error. @throws JetStreamError */
export async function askJson<T>(
  connection: NatsConnection | undefined,
  subject: string,
  data: Uint8Array | string,
  headers?: MsgHdrs,
): Promise<T> {
  const answer = (await ask(connection, subject, data, headers)).json<
    T & { error?: { code?: number; err_code?: number; description?: string } }
  >();
  const { error } = answer;
  if (error === undefined || error === null) return answer;
  const { code, err_code: apiCode, description = 'no description' } = error;
  throw new JetStreamError(description, { away: code === 503, apiCode });
}
