import { constants, existsSync } from 'node:fs';
import { access, stat, statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Config } from '../../config.js';
import { readOpenFilesLimit, shareOpenFiles } from '../../server/start/open-files.js';
import { type RunningReplica, readReplicaMetric } from './check-server.js';
import { describeBytes } from './check-stream.js';
import type { Check } from './finding.js';

const leastFreeBytes = 1_073_741_824;

/** Whether the data directory can be written, and is nobody else's to read. */
export async function checkDataDirectory({ ok, warning, problem }: Check, config: Config): Promise<void> {
  if (config.databaseUrl !== undefined && config.natsUrl !== undefined)
    return ok('Nothing is kept on this machine: the database and NATS are elsewhere');
  const where = resolve(config.dataDir);
  const nearest = nearestExisting(where);
  try {
    await access(nearest, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch {
    const detail =
      nearest === where
        ? `This user may not write to ${where}`
        : `This user may not make ${where} in ${nearest}`;
    return problem(detail, 'Set DATA_DIR to a directory of this user, or have it given to this user');
  }
  if (nearest === where) {
    const { mode, uid } = await stat(where);
    const self = process.getuid?.();
    if (self !== undefined && self !== 0 && uid !== self)
      warning(
        `${where} belongs to another user`,
        'Run svc-mqtt as one user: files of two users cannot be shared',
      );
    else if ((mode & 0o007) !== 0 && existsSync(resolve(where, 'nats')))
      warning(
        `Every user of this machine can look into ${where}, where messages are kept`,
        `Run: chmod o-rwx '${where}'`,
      );
  }
  const { bavail, blocks, bsize } = await statfs(nearest);
  const free = bavail * bsize;
  if (free < leastFreeBytes || bavail < 0.05 * blocks)
    return warning(
      `Only ${describeBytes(free)} are free where ${where} is`,
      'Make room: NATS stops storing when its disk is full',
    );
  const exists = nearest === where ? 'can be written' : 'can be made';
  ok(`${where} ${exists}; ${describeBytes(free)} are free`);
}

function nearestExisting(path: string): string {
  let nearest = path;
  while (!existsSync(nearest) && dirname(nearest) !== nearest) nearest = dirname(nearest);
  return nearest;
}

/** Whether as many files may be open as there may be connections. */
export async function checkOpenFiles(
  { ok, skipped, warning }: Check,
  config: Config,
  replica: RunningReplica | undefined,
): Promise<void> {
  const ofReplica = replica === undefined ? undefined : await readReplicaMetric(replica, 'process_max_fds');
  // Of a server that is started here it is the same.
  const limit = ofReplica ?? readOpenFilesLimit();
  if (limit === undefined) return skipped('This system does not tell how many files may be open');
  const whose = ofReplica === undefined ? 'This shell lets a process' : 'The server may';
  const shown = Number.isFinite(limit) ? limit.toLocaleString('en-US') : 'any number of';
  const { mqtt } = shareOpenFiles(limit, config);
  if (mqtt >= config.maxConnections)
    return ok(`${whose} have ${shown} files open, enough for MAX_CONNECTIONS`);
  warning(
    `${whose} have ${shown} files open: at most ${mqtt.toLocaleString('en-US')} devices can connect, not ${config.maxConnections.toLocaleString('en-US')} (MAX_CONNECTIONS)`,
    'Raise the limit where svc-mqtt is started (ulimit -n, LimitNOFILE in systemd), or set MAX_CONNECTIONS to less',
  );
}
