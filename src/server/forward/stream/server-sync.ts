import { messageOf } from '../../../errors.js';
import { type NatsConnection, RequestStrategy } from '../connection/nats-library.js';
import { isAtLeast } from '../connection/server-version.js';
import type { StreamKeeping } from './stream-config.js';

/** Whether the servers of a stream sync to disk before they answer. */
export interface SyncVerdict {
  /** Undefined: not known. */
  readonly syncs: boolean | undefined;
  /** In words, without a full stop. */
  readonly why: string;
  /** What to do when it has to be true. */
  readonly remedy: string;
  /** It may be known soon, without anybody changing something. */
  readonly mayPass?: boolean;
}

export type ServerSync = ReturnType<typeof openServerSync>;

interface ServerFacts {
  readonly version: string;
  readonly always: boolean;
  readonly intervalSec: number;
  readonly readAtMs: number;
}

/** What a server says of itself (`/varz`, `$SYS.REQ.SERVER.PING.VARZ`), as far as it is read. */
interface Varz {
  readonly server_name?: unknown;
  readonly version?: unknown;
  readonly jetstream?: {
    readonly config?: { readonly sync_always?: unknown; readonly sync_interval?: unknown };
  };
}

/** Servers answer it in their system account, and where the gateway's account imports it. */
export const varzSubject = '$SYS.REQ.SERVER.PING.VARZ';

const freshMs = 10_000;
const knownMs = 60_000;
const answerWithinMs = 2_000;
const maxAnswerBytes = 1_048_576;
const maxServers = 1_000;

const learnRemedy = `Set NATS_MONITOR_URL to the monitoring ports of all NATS servers (http://host:8222), let the account import ${varzSubject}, or, if you are sure that each of them has sync_interval: always, set NATS_SYNC_ALWAYS=true`;
const syncRemedy =
  'Set sync_interval: always in the jetstream block of every NATS server, and start it again';

/**
 * What is known of how NATS servers sync.
 *
 * @param options.embedded whether the server of our own syncs before it answers; undefined: it is not our own.
 * @param options.monitorUrls of the monitoring ports of the servers.
 * @param options.asserted the operator says that all of them do, where they cannot be asked.
 */
export function openServerSync(options: {
  embedded(): boolean | undefined;
  monitorUrls: readonly string[];
  asserted: boolean;
  /** The JetStream domain of the streams; undefined: that of the server. */
  domain: string | undefined;
}) {
  const { monitorUrls, asserted } = options;
  const known = new Map<string, ServerFacts>();
  let askedOn: NatsConnection | undefined;
  let failure = '';

  function factsOf(server: string, maxAgeMs: number): ServerFacts | undefined {
    const facts = known.get(server);
    return facts !== undefined && performance.now() - facts.readAtMs < maxAgeMs ? facts : undefined;
  }

  function note(varz: Varz | undefined): string | undefined {
    const { server_name: name, version, jetstream } = varz ?? {};
    const { sync_always, sync_interval } = jetstream?.config ?? {};
    if (typeof name !== 'string' || jetstream?.config === undefined) return undefined;
    known.delete(name);
    known.set(name, {
      version: String(version),
      always: sync_always === true,
      intervalSec: typeof sync_interval === 'number' ? Math.round(sync_interval / 1e9) : 0,
      readAtMs: performance.now(),
    });
    // The one that was not heard of for longest.
    for (const oldest of known.keys()) if (known.size > maxServers) known.delete(oldest);
    return name;
  }

  /** Without a cluster, and with JetStream of its own, it is the server of the connection. */
  function namesAlone({ info }: NatsConnection): string[] {
    return info?.jetstream === true && options.domain === undefined ? [info.server_name] : [];
  }

  async function askMonitors(): Promise<void> {
    const failures = await Promise.all(
      monitorUrls.map(async (url) => {
        try {
          note(await readVarz(url));
          return [];
        } catch (error) {
          return [`${url}: ${messageOf(error)}`];
        }
      }),
    );
    failure = failures.flat()[0] ?? 'no monitoring port in NATS_MONITOR_URL is of that server';
  }

  async function askOverNats(connection: NatsConnection, servers: readonly string[]): Promise<void> {
    failure = `the account is not let to ask ${varzSubject}`;
    const missing = new Set(servers);
    try {
      const answers = await connection.requestMany(varzSubject, '', {
        strategy: RequestStrategy.Timer,
        maxWait: answerWithinMs,
      });
      for await (const answer of answers) {
        failure = 'it does not answer';
        if (answer.data.length > maxAnswerBytes) continue;
        const name = note(answer.json<{ data?: Varz }>().data);
        if (name !== undefined) missing.delete(name);
        if (missing.size === 0) break;
      }
    } catch {
      // Nobody answers, or the user may not ask; `failure` says so.
    }
  }

  return {
    /**
     * Never rejects. What a server said holds for a minute, and is asked anew after 10 seconds and on each new connection.
     *
     * @param ask a promise depends on it: the servers are asked over NATS too.
     */
    async read(
      connection: NatsConnection,
      stored: Pick<StreamKeeping, 'servers' | 'replicas'>,
      ask: boolean,
    ): Promise<SyncVerdict> {
      const own = options.embedded();
      if (own !== undefined) {
        return own
          ? { syncs: true, why: 'the embedded NATS server has sync_interval: always', remedy: '' }
          : {
              syncs: false,
              why: 'the embedded nats-server is older than 2.15 and syncs every second',
              remedy: 'Run svc-mqtt setup to get a newer nats-server',
            };
      }
      const servers = stored.servers ?? namesAlone(connection);
      const isStale =
        connection !== askedOn || servers.some((server) => factsOf(server, freshMs) === undefined);
      const mayAsk = monitorUrls.length > 0 || ask;
      if (mayAsk && isStale && servers.length > 0) {
        askedOn = connection;
        if (monitorUrls.length > 0) await askMonitors();
        else await askOverNats(connection, servers);
      }
      const unknown: string[] = [];
      for (const server of servers) {
        const facts = factsOf(server, knownMs);
        if (facts === undefined) {
          unknown.push(server);
        } else if (!facts.always) {
          const why = `NATS server ${server} syncs every ${facts.intervalSec} s and not before it answers`;
          return { syncs: false, why, remedy: syncRemedy };
        } else if (stored.replicas > 1 && !isAtLeast(facts.version, 2, 11)) {
          const why = `NATS server ${server} is older than 2.11 (${facts.version}) and does not sync what it replicates`;
          return { syncs: false, why, remedy: 'Bring every NATS server to 2.15 or later' };
        }
      }
      if (servers.length > 0 && unknown.length === 0) {
        return { syncs: true, why: `${servers.join(', ')} with sync_interval: always`, remedy: '' };
      }
      if (asserted) return { syncs: true, why: 'as NATS_SYNC_ALWAYS says, not checked', remedy: '' };
      const who = unknown.length === 0 ? 'NATS' : `NATS server ${unknown.join(', ')}`;
      const reason = mayAsk
        ? failure || 'it is not known which servers store the stream'
        : 'it was not asked';
      return {
        syncs: undefined,
        why: `whether ${who} syncs before it answers is not known: ${reason}`,
        remedy: learnRemedy,
        mayPass: monitorUrls.length > 0,
      };
    },
  };
}

async function readVarz(monitorUrl: string): Promise<Varz> {
  const url = new URL('varz', monitorUrl.endsWith('/') ? monitorUrl : `${monitorUrl}/`);
  const answer = await fetch(url, { signal: AbortSignal.timeout(answerWithinMs), redirect: 'error' });
  if (!answer.ok || answer.body === null) throw new Error(`answers ${answer.status}`);
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) throw new Error('answers more than a NATS server would');
    chunks.push(chunk);
  }
  return JSON.parse(Buffer.concat(chunks).toString('utf8')) as Varz;
}
