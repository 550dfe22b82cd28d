import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { requireOwnDirectory } from '../../../data-directory.js';
import type { EmbeddedNatsFiles } from './embedded-nats-config.js';
import { isAlive, type ProcessIdentity, readProcessBirth } from './process-identity.js';

/** Written beside the store, so that whoever starts next knows a server that goes on without its gateway. */
interface EmbeddedNatsState {
  /** The gateway, and the server; a process number alone is no name, as it is used again. */
  readonly owner: ProcessIdentity;
  readonly server: ProcessIdentity;
  readonly port: number;
}

export function writeState(files: EmbeddedNatsFiles, server: ProcessIdentity, port: number): void {
  const owner = { pid: process.pid, birth: readProcessBirth(process.pid) ?? '' };
  writeFileSync(files.state, JSON.stringify({ owner, server, port } satisfies EmbeddedNatsState));
}

/** Of a directory that somebody else could write to nothing is believed: a server named there would be ended. */
function readState(files: EmbeddedNatsFiles): EmbeddedNatsState | undefined {
  try {
    requireOwnDirectory(files.dir);
    const state = JSON.parse(readFileSync(files.state, 'utf8')) as EmbeddedNatsState;
    return typeof state.server?.pid === 'number' && typeof state.owner?.pid === 'number' ? state : undefined;
  } catch {
    return undefined;
  }
}

/** The same while its server lives. */
export function readRunning(files: EmbeddedNatsFiles): EmbeddedNatsState | undefined {
  const state = readState(files);
  return state !== undefined && isAlive(state.server) ? state : undefined;
}

/** Removes what is written of a server that has ended; of another, or one that cannot be ended, it stays. */
export function removeState(files: EmbeddedNatsFiles, server: ProcessIdentity): void {
  const written = readState(files)?.server;
  if (written?.pid !== server.pid || written.birth !== server.birth || isAlive(server)) return;
  rmSync(files.state, { force: true });
}
