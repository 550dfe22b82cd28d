import { mkdir } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileReasonOf, SvcMqttError } from '../../../errors.js';
import { distrustOf } from '../../../file-trust.js';
import type { Environment } from './child-environment.js';

/**
 * Where obtained programs lie: of the user, so that every checkout and version of svc-mqtt finds them. A user without a
 * home, or with one that another user could write to, has a directory among the temporary ones.
 */
export function natsServerCacheDir(env: Environment = process.env): string {
  const home = env.HOME ?? homedir();
  const base = env.XDG_CACHE_HOME?.startsWith('/')
    ? env.XDG_CACHE_HOME
    : home.startsWith('/') && home !== '/'
      ? join(home, '.cache')
      : undefined;
  const ofUser = base === undefined ? undefined : join(base, 'svc-mqtt');
  if (ofUser !== undefined && distrustOf(ofUser) === undefined) return ofUser;
  return join(tmpdir(), `svc-mqtt-cache-${process.getuid?.() ?? 'user'}`);
}

/**
 * Makes the directory, for this user only.
 *
 * @throws SvcMqttError NATS_EMBEDDED when it cannot be made, or somebody else could put programs there.
 */
export async function makeNatsServerCache(directory: string): Promise<void> {
  let reason: string | undefined;
  let cause: unknown;
  try {
    reason = distrustOf(directory);
    if (reason === undefined) await mkdir(directory, { recursive: true, mode: 0o700 });
    reason ??= distrustOf(directory);
  } catch (error) {
    reason = fileReasonOf(error);
    cause = error;
  }
  if (reason === undefined) return;
  throw new SvcMqttError('NATS_EMBEDDED', `A nats-server cannot be kept in ${directory}: ${reason}`, {
    suggestion:
      'Set XDG_CACHE_HOME to a directory of this user that no other may write to, name a nats-server in NATS_SERVER_BIN, or set NATS_URL',
    cause,
  });
}
