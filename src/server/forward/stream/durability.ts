import { type AckLevel, ackLevels } from '../../../ack-level.js';
import type { SyncVerdict } from './server-sync.js';
import type { StreamKeeping } from './stream-config.js';

/** Why an acknowledgement cannot be worth what was promised. */
export interface Breach {
  readonly reason: string;
  readonly remedy: string;
  readonly mayPass?: boolean;
}

/** What an acknowledgement is worth. */
export interface Durability {
  /** The strongest level that holds. */
  readonly level: AckLevel;
  readonly why: string;
  /** Of each level; undefined where it holds. */
  readonly breaches: Readonly<Record<AckLevel, Breach | undefined>>;
}

const leastReplicas = 3;

/** Holds every level against what is known. */
export function judgeDurability(keeping: StreamKeeping, sync: SyncVerdict): Durability {
  const breaches = {
    stored: undefined,
    replicated: findMemory(keeping) ?? findReplicas(keeping),
    synced: findMemory(keeping) ?? findLateWrites(keeping) ?? findSync(sync),
  };
  const level = [...ackLevels].reverse().find((each) => breaches[each] === undefined) ?? 'stored';
  const { replicas } = keeping;
  const where = replicas === 1 ? 'on 1 server' : `on ${replicas} servers`;
  if (level === 'synced')
    return { level, why: `${where}, synced to disk before the answer (${sync.why})`, breaches };
  return { level, why: `${where}; ${breaches.synced?.reason}`, breaches };
}

function findMemory({ stream, inMemory }: StreamKeeping): Breach | undefined {
  if (!inMemory) return undefined;
  return { reason: `stream ${stream} is kept in memory`, remedy: 'Make it anew with file storage' };
}

function findLateWrites({ stream, writtenLate }: StreamKeeping): Breach | undefined {
  if (!writtenLate) return undefined;
  const reason = `stream ${stream} has persist_mode: async and confirms before it writes`;
  return { reason, remedy: 'Make it anew without persist_mode: async' };
}

function findReplicas({ stream, replicas }: StreamKeeping): Breach | undefined {
  if (replicas >= leastReplicas) return undefined;
  const reason = `stream ${stream} is kept on ${replicas} server${replicas === 1 ? '' : 's'}, and a majority that survives the loss of one needs ${leastReplicas}`;
  return {
    reason,
    remedy: `In a cluster of three or more servers, run: nats stream edit ${stream} --replicas ${leastReplicas}`,
  };
}

function findSync({ syncs, why, remedy, mayPass = false }: SyncVerdict): Breach | undefined {
  return syncs === true ? undefined : { reason: why, remedy, mayPass };
}
