import {
  type ConnectionDetailsJson,
  type ConnectionJson,
  type ConnectionPageJson,
  type KeysRequest,
  replicaOf,
} from '../../api/connection.js';
import { SvcMqttError } from '../../errors.js';
import type { FleetConnectionRequest, FleetConnections, LiveConnections } from '../live.js';
import type { Asking, Told, Validator } from './asking.js';
import type { Identity, Member } from './members.js';
import { findWindows, mergeKeys } from './merge-keys.js';
import { answers, type KeysAnswer } from './wire.js';

/** What is asked of one replica's order. */
type Part = Pick<KeysRequest, 'offset' | 'limit' | 'samples'>;

/** A page that ends no later is made of all that is before it. For one further down samples tell where it is. */
const shallow = 500;
const samples = 256;

/**
 * The connections of the fleet: those of this replica at once, those of the others by asking them. One that does
 * not answer in time is said to, and is not waited for again until it has answered.
 */
export function openFleetConnections(options: {
  own: Identity;
  local: LiveConnections;
  asking: Asking;
}): FleetConnections {
  const { own, local, asking } = options;
  const { members, ask, askNow, present, away, show } = asking;

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
    const wanted = { text, device, type, sort, descending };
    const askOwn = (part: Part) => take(() => ({ ...local.keys({ ...wanted, ...part }), whole: true }));
    const askOther = async (member: Member, { offset: from, ...part }: Part) => {
      // Without an offset an older replica understands it, too.
      const question = { ...wanted, ...part, ...(from > 0 && { offset: from }) };
      const told = await ask(member, 'connection.keys', question, answers.keys);
      return told.ok ? { ...told, answer: ownKeysOf(member, told.answer) } : told;
    };
    /** Each is asked for its part, this one for the first. */
    const askAll = async (others: readonly Member[], parts: readonly Part[]) => {
      const [answer, ...told] = await Promise.all([
        askOwn(parts[0] as Part),
        ...others.map((member, at) => askOther(member, parts[at + 1] as Part)),
      ] as const);
      const answering = others.filter((_member, at) => told[at]?.ok);
      const lists = [answer, ...told.flatMap((each) => (each.ok ? [each.answer] : []))];
      return {
        lists,
        answering,
        shown: others.flatMap((member, at) => show(member, told[at] as Told<unknown>)),
      };
    };

    const isDeep = offset + limit > shallow;
    const first: Part = isDeep ? { offset: 0, limit: 0, samples } : { offset: 0, limit: offset + limit };
    let { lists, answering, shown } = await askAll(asked, [first, ...asked.map(() => first)]);
    let before = 0;
    if (isDeep) {
      const windows = findWindows(lists, { samples, descending, offset, limit });
      before = sum(windows.map((window) => window.offset));
      const missing = shown.filter(({ ok }) => !ok);
      ({ lists, shown } = await askAll(answering, windows));
      shown.push(...missing);
    }
    const ids = mergeKeys(lists, { descending, offset: offset - before, limit });
    if (ids === undefined) throw tooDeep();
    const rows = await readRows(ids);
    return {
      at: new Date().toISOString(),
      total: sum(lists.map(({ total }) => total)),
      matching: sum(lists.map(({ matching }) => matching)),
      connections: ids.flatMap((id) => rows.get(id) ?? []),
      replicas: [present(own), ...shown],
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
        replica === own.replica ? local.rows(some) : readRowsOf(replica, some),
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
    if (!asking.open && members.find(replica) === undefined) return undefined;
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
      const asked = asking.others();
      if (only !== undefined && only !== own.replica) return await listOf(only, request);
      if (only === undefined && asking.open && asked.length > 0) return await listAll(request, asked, take);
      const unasked = only === undefined ? asked.map((member) => away(member, 'NATS is away')) : [];
      return await take(() => ({ ...local.list(request), replicas: [present(own), ...unasked] }));
    },

    async find(id): Promise<ConnectionDetailsJson | undefined> {
      if (replicaOf(id) !== own.replica) return await askOwner(id, 'connection', { id }, answers.connection);
      return local.find(id);
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

function ownKeysOf({ replica }: Member, answer: KeysAnswer): KeysAnswer {
  return { ...answer, keys: answer.keys.filter(([, , id]) => replicaOf(id) === replica) };
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
