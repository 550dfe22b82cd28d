import type { ApiKeyPageJson, NewApiKeyJson } from '../../api/api-key.js';
import type { AuditPageJson } from '../../api/audit-entry.js';
import type { ClaimPageJson, NewClaimJson } from '../../api/claim.js';
import type { CommandJson, CommandProgressJson, CommandRequestJson } from '../../api/command.js';
import type { ConnectionDetailsJson, ConnectionPageJson } from '../../api/connection.js';
import type {
  DeviceDetailsJson,
  DeviceJson,
  DevicePageJson,
  NewDeviceJson,
  RotatedDeviceJson,
} from '../../api/device.js';
import type { EventJson } from '../../api/event.js';
import type { MeJson } from '../../api/me.js';
import type { PassingMessageJson } from '../../api/passing-message.js';
import type { PolicyJson, PolicyPageJson, SetPolicyJson } from '../../api/policy.js';
import type { SessionPageJson } from '../../api/session.js';
import type { FleetJson } from '../../api/stats.js';
import { ApiError, asApiError, type ShownProblem } from './api-error.js';
import { type Follower, followStream } from './event-stream.js';

/** The API as seen from the page, which lies one below it: so it holds behind a proxy that puts a path before both. */
const api = new URL('../', document.baseURI);

/** How long an answer may take to be there in whole, and that to a change, which nobody should give up lightly. */
const answerMs = 10_000;
const changeMs = 30_000;

/** What a query may name; undefined is left out. */
export type Query = Readonly<Record<string, string | number | readonly string[] | undefined>>;

/** Everything that the console shows and does goes through here. */
export type Source = ReturnType<typeof openSource>;

/**
 * Opens the API for a caller.
 *
 * @param key undefined where the API asks for none. It is kept in memory only and sent as a header, never in an address.
 * @param onRefused called when the key is not, or no longer, taken.
 */
export function openSource(key: string | undefined, onRefused: (error: ApiError) => void) {
  /** How far the clock of the server is ahead of that of this machine. */
  let aheadMs = 0;
  const send = async (
    method: string,
    path: string,
    options: { query?: Query; body?: unknown; headers?: Record<string, string>; signal: AbortSignal },
  ): Promise<Response> => {
    const url = new URL(path, api);
    for (const [name, value] of Object.entries(options.query ?? {}))
      for (const each of [value ?? []].flat()) if (each !== '') url.searchParams.append(name, String(each));
    const headers: Record<string, string> = { ...options.headers };
    if (key !== undefined) headers.authorization = `Bearer ${key}`;
    const answer = await fetch(url, {
      method,
      headers,
      body: options.body === undefined ? null : JSON.stringify(options.body),
      signal: options.signal,
      credentials: 'omit',
      redirect: 'error',
    }).catch(() => {
      throw new ApiError(0, { detail: 'The server does not answer' });
    });
    const date = Date.parse(answer.headers.get('date') ?? '');
    if (!Number.isNaN(date)) aheadMs = date - Date.now();
    if (answer.ok) return answer;
    const error = new ApiError(answer.status, await readProblem(answer));
    if (answer.status === 401) onRefused(error);
    throw error;
  };
  const get = async <T>(path: string, query: Query = {}): Promise<T> =>
    readBody(await send('GET', path, { query, signal: AbortSignal.timeout(answerMs) }));
  const change = async <T = void>(
    method: string,
    path: string,
    body?: unknown,
    options: { query?: Query; withinMs?: number } = {},
  ): Promise<T> => {
    const { query = {}, withinMs = changeMs } = options;
    try {
      const answer = await send(method, path, { body, query, signal: AbortSignal.timeout(withinMs) });
      return answer.status === 204 ? (undefined as T) : await readBody(answer);
    } catch (failure) {
      const error = asApiError(failure);
      // A refusal for too many requests has done nothing.
      const isOpen = error.passes && error.status !== 429;
      throw isOpen ? error.suggesting('It may or may not have been done: look, and try again') : error;
    }
  };
  const of = (collection: string, id: string) => {
    // In an address they are steps, however they are written, and lead elsewhere.
    if (id === '.' || id === '..') throw new ApiError(400, { detail: `No address can name "${id}"` });
    return `${collection}/${encodeURIComponent(id)}`;
  };

  return {
    /** The time on the server, by which things expire. */
    now: () => Date.now() + aheadMs,

    me: () => get<MeJson>('me'),
    fleet: () => get<FleetJson>('fleet'),
    follow: (query: Query, follower: Follower<EventJson>) =>
      followStream((headers, signal) => send('GET', 'events', { query, headers, signal }), follower),

    connections: (query: Query) => get<ConnectionPageJson>('connections', query),
    connection: (id: string) => get<ConnectionDetailsJson>(of('connections', id)),
    kick: (id: string) => change('DELETE', of('connections', id)),

    sessions: (query: Query) => get<SessionPageJson>('sessions', query),
    endSession: (id: string) => change('DELETE', of('sessions', id)),

    devices: (query: Query) => get<DevicePageJson>('devices', query),
    device: (id: string) => get<DeviceDetailsJson>(of('devices', id)),
    addDevice: (body: object) => change<NewDeviceJson>('POST', 'devices', body),
    setDevice: (id: string, body: object) => change<DeviceJson>('PATCH', of('devices', id), body),
    rotateDevice: (id: string, body: object) =>
      change<RotatedDeviceJson>('POST', `${of('devices', id)}/rotate`, body),
    revokeDevice: (id: string, reason: string | undefined) =>
      change('DELETE', of('devices', id), undefined, { query: { reason } }),
    enableDevice: (id: string) => change<DeviceJson>('POST', `${of('devices', id)}/enable`),
    sendCommand: (id: string, body: CommandRequestJson) =>
      change<CommandJson>('POST', `${of('devices', id)}/commands`, body, {
        withinMs: changeMs + (body.wait_seconds ?? 0) * 1_000,
      }),
    command: (id: string, sequence: number) =>
      get<CommandProgressJson>(`${of('devices', id)}/commands/${sequence}`),
    followMessages: (id: string, follower: Follower<PassingMessageJson>) =>
      followStream((_headers, signal) => send('GET', `${of('devices', id)}/messages`, { signal }), follower),
    removeDevice: (id: string) => change('POST', `${of('devices', id)}/remove`),

    policies: (query: Query) => get<PolicyPageJson>('policies', query),
    policy: (type: string) => get<PolicyJson>(of('policies', type)),
    setPolicy: (type: string, body: object) => change<SetPolicyJson>('PUT', of('policies', type), body),
    removePolicy: (type: string) => change('DELETE', of('policies', type)),

    claims: (query: Query) => get<ClaimPageJson>('claims', query),
    createClaim: (body: object) => change<NewClaimJson>('POST', 'claims', body),
    revokeClaim: (id: string) => change('DELETE', of('claims', id)),

    keys: (query: Query) => get<ApiKeyPageJson>('api-keys', query),
    createKey: (body: object) => change<NewApiKeyJson>('POST', 'api-keys', body),
    revokeKey: (id: string) => change('DELETE', of('api-keys', id)),

    audit: (query: Query) => get<AuditPageJson>('audit', query),
  };
}

/** What an answer holds, which can be cut off, or be the page of a proxy. */
function readBody<T>(answer: Response): Promise<T> {
  return answer.json().catch(() => {
    throw new ApiError(0, { detail: 'The answer could not be read' });
  });
}

/** What a refusal says of itself; a proxy in between says it in its own form. */
async function readProblem(answer: Response): Promise<ShownProblem> {
  const said: unknown = await answer.json().catch(() => undefined);
  const texts = Object.entries(said ?? {}).filter(([, value]) => typeof value === 'string');
  return {
    detail: `The answer is ${answer.status} ${answer.statusText}, not from svc-mqtt`,
    ...Object.fromEntries(texts),
  };
}
