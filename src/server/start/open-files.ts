import { readFileSync } from 'node:fs';
import type { Config } from '../../config.js';
import { defaultHttpLimits } from '../http/limits.js';

/** How many of the files that a replica may have open go to connections, each of which is one. */
export interface OpenFileShares {
  /** Most connections of devices, those that have not logged in included. */
  readonly mqtt: number;
  /** Most connections of the HTTP API. */
  readonly http: number;
}

/**
 * Files of a replica beside its connections and those of the database's pool: some 30 when it rests (Node.js itself, NATS,
 * pipes to the processes that it started), 16 of each port for devices, and the others for what it opens now and then.
 */
const ownFiles = 128;
/** Connections to the database beside the pool. */
const databaseConnectionsBeside = 3;
/** The API has an eighth of what is left, so that a replica full of devices still says how it is; a probe needs one. */
const leastHttp = 8;

/** Shares out the files that a replica may have open, so that neither devices nor the API take what the others need. */
export function shareOpenFiles(
  limit: number,
  { databasePoolSize }: Pick<Config, 'databasePoolSize'>,
): OpenFileShares {
  const left = limit - ownFiles - databasePoolSize - databaseConnectionsBeside;
  const http = Math.min(defaultHttpLimits.maxConnections, Math.max(leastHttp, Math.floor(left / 8)));
  return { mqtt: Math.max(0, left - http), http };
}

/**
 * How many files this process may have open, of which Linux alone tells. It is the hard limit, to which Node.js raises its
 * own when it starts.
 *
 * @returns undefined where the system does not tell; the settings alone are the bounds then.
 */
export function readOpenFilesLimit(): number | undefined {
  let limits: string;
  try {
    limits = readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return undefined;
  }
  const soft = /^Max open files\s+(\S+)/m.exec(limits)?.[1];
  if (soft === undefined) return undefined;
  return soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
}
