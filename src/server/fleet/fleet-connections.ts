import {
  type ConnectionDetailsJson,
  type ConnectionJson,
  type ConnectionPageJson,
  type ReplicaJson,
  replicaOf,
  toConnectionDetailsJson,
  toConnectionJson,
  toConnectionPageJson,
} from '../../api/connection.js';
import { SvcMqttError } from '../../errors.js';
import type { FleetLink } from '../forward/fleet/fleet-link.js';
import type { FleetConnectionRequest, FleetConnections, LiveConnections } from '../live.js';
import type { Member, Members } from './members.js';
import { type KeyList, mergeKeys } from './merge-keys.js';
import { answers, type KeysAnswer, maxDepth } from './wire.js';

interface Validator<T> {
  Check(value: unknown): value is T;
}

/** What a replica has answered, or why it has not. */
type Told<T> =
  | { readonly ok: true; readonly answer: T }
  | { readonly ok: false; readonly detail: string; readonly absent: boolean };

/**
 * The connections of the fleet: those of this replica at once, those of the others by asking them. One that does
 * not answer in time is said to, and is not waited for again until it has answered.
 */
export function openFleetConnections(options: {
  own: Omit<Member, 'missing'>;
  local: LiveConnections;
  members: Members;
  link: FleetLink;
}): FleetConnections {
  const { own, local, members, link } = options;

  /** The other replicas, with one by one what is known of them. */
  function others(): readonly Member[] {
    if (link.open) members.refresh();
    return members.list();
  }

  async function askNow<T>(
    replica: string,
    question: string,
    request: unknown,
    validator: Validator<T>,
  ): Promise<Told<T>> {
    const told = await link.ask(replica, question, request);
    if ('answer' in told) {
      if (validator.Check(told.answer)) {
        members.heard(replica);
        return { ok: true, answer: told.answer };
      }
      return { ok: false, detail: 'answered in a form that is not understood', absent: false };
    }
    const { failed, detail } = told;
    if (failed === 'absent') members.forget(replica);
    else if (failed === 'silent') members.missed(replica, detail);
    else members.heard(replica);
    return { ok: false, detail, absent: failed === 'absent' || told.code === 404 };
  }

  async function ask<T>(
    { replica, missing }: Member,
    question: string,
    request: unknown,
    validator: Validator<T>,
  ): Promise<Told<T>> {
    const asked = askNow(replica, question, request, validator);
    return missing === undefined ? await asked : { ok: false, detail: missing, absent: false };
  }

  const present = ({ replica, host, version }: Omit<Member, 'missing'>): ReplicaJson => ({
    replica,
    host,
    version,
    ok: true,
    detail: null,
  });
  const away = (member: Member, detail: string): ReplicaJson => ({ ...present(member), ok: false, detail });
  /** One that is not there any more is no replica. */
  const show = (member: Member, told: Told<unknown>): ReplicaJson[] => {
    if (told.ok) return [present(member)];
    return told.absent ? [] : [away(member, told.detail)];
  };

  async function listOf(replica: string, request: FleetConnectionRequest): Promise<ConnectionPageJson> {
    const none = { at: new Date().toISOString(), total: 0, matching: 0, connections: [] };
    const member = members.find(replica);
    if (member === undefined) return { ...none, replicas: [] };
    const { text: q, device, type, sort, descending, offset, limit } = request;
    const query = { q, device, type, sort, order: descending ? 'desc' : 'asc', offset, limit };
    const told = await ask(member, 'connections', query, answers.connections);
    if (!told.ok) return { ...none, replicas: show(member, told) };
    const { at, total, matching, connections } = told.answer;
    return { at, total, matching, connections: ownOf(replica, connections), replicas: [present(member)] };
  }

  async function listAll(
    request: FleetConnectionRequest,
    asked: readonly Member[],
    take: <T>(work: () => T) => Promise<T>,
  ): Promise<ConnectionPageJson> {
    const { offset, limit, text, device, type, sort, descending } = request;
    const wanted = { text, device, type, sort, descending, limit: offset + limit };
    if (wanted.limit > maxDepth) throw tooDeep();
    const [ownKeys, told] = await Promise.all([
      take(() => local.keys({ ...wanted, offset: 0 })),
      Promise.all(asked.map((member) => ask(member, 'connection.keys', wanted, answers.keys))),
    ]);
    const lists: (KeyList & Pick<KeysAnswer, 'total' | 'matching'>)[] = [{ ...ownKeys, whole: true }];
    for (const [at, each] of told.entries())
      if (each.ok) lists.push({ ...each.answer, keys: ownKeysOf(asked[at] as Member, each.answer.keys) });
    const ids = mergeKeys(lists, { descending, offset, limit });
    if (ids === undefined) throw tooDeep();
    const rows = await readRows(ids);
    return {
      at: new Date().toISOString(),
      total: sum(lists.map(({ total }) => total)),
      matching: sum(lists.map(({ matching }) => matching)),
      connections: ids.flatMap((id) => rows.get(id) ?? []),
      replicas: [present(own), ...told.flatMap((each, at) => show(asked[at] as Member, each))],
    };
  }

  /** Those that are still there. */
  async function readRows(ids: readonly string[]): Promise<Map<string, ConnectionJson>> {
    const byReplica = new Map<string, string[]>();
    for (const id of ids) {
      const replica = replicaOf(id);
      const some = byReplica.get(replica);
      if (some === undefined) byReplica.set(replica, [id]);
      else some.push(id);
    }
    const read = await Promise.all(
      [...byReplica].map(([replica, some]) =>
        replica === own.replica ? local.rows(new Set(some)).map(toConnectionJson) : readRowsOf(replica, some),
      ),
    );
    return new Map(read.flat().map((row) => [row.id, row]));
  }

  async function readRowsOf(replica: string, ids: readonly string[]): Promise<ConnectionJson[]> {
    const rows: ConnectionJson[] = [];
    for (let left = ids.length; left > 0; ) {
      const told = await askNow(replica, 'connection.rows', { ids: ids.slice(-left) }, answers.rows);
      if (!told.ok || told.answer.left >= left) break;
      rows.push(...ownOf(replica, told.answer.rows));
      left = told.answer.left;
    }
    return rows;
  }

  /** Asks the replica of a connection; undefined: there is none, or not this connection. */
  async function askOwner<T>(
    id: string,
    question: string,
    request: unknown,
    validator: Validator<T>,
  ): Promise<T | undefined> {
    const replica = replicaOf(id);
    if (!isReplica.test(replica)) return undefined;
    if (!link.open && members.find(replica) === undefined) return undefined;
    const told = await askNow(replica, question, request, validator);
    if (told.ok) return told.answer;
    if (told.absent) return undefined;
    throw new SvcMqttError(
      'REPLICA_UNAVAILABLE',
      `Replica ${replica}, which has the connection: ${told.detail}`,
      {
        suggestion: 'Try again, or ask that replica itself',
        mayPass: true,
      },
    );
  }

  return {
    async list(request, take) {
      const { replica: only } = request;
      const asked = others();
      if (only !== undefined && only !== own.replica) return await listOf(only, request);
      if (only === undefined && link.open && asked.length > 0) return await listAll(request, asked, take);
      const unasked = only === undefined ? asked.map((member) => away(member, 'NATS is away')) : [];
      return await take(() => toConnectionPageJson(local.list(request), [present(own), ...unasked]));
    },

    async find(id): Promise<ConnectionDetailsJson | undefined> {
      if (replicaOf(id) !== own.replica) return await askOwner(id, 'connection', { id }, answers.connection);
      const found = local.find(id);
      return found && toConnectionDetailsJson(found);
    },

    async kick(id, actor) {
      if (replicaOf(id) === own.replica) return local.kick(id, actor) !== undefined;
      const { kind, name, address } = actor;
      const request = { id, actor: { kind, name, address } };
      return (await askOwner(id, 'kick', request, answers.kick)) !== undefined;
    },
  };
}

const isReplica = /^[0-9a-f]{6}$/;

/** A replica answers for its own connections only, whatever it says. */
function ownOf(replica: string, rows: readonly ConnectionJson[]): ConnectionJson[] {
  return rows.filter(({ id }) => replicaOf(id) === replica).map((row) => ({ ...row, replica }));
}

function ownKeysOf({ replica }: Member, keys: KeysAnswer['keys']): KeysAnswer['keys'] {
  return keys.filter(([, , id]) => replicaOf(id) === replica);
}

function tooDeep(): SvcMqttError {
  return new SvcMqttError(
    'INPUT_INVALID',
    'offset goes too far into the connections of all replicas to sort them together',
    { suggestion: 'Filter, or ask for the connections of one replica with replica=' },
  );
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
