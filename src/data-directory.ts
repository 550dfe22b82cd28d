import { mkdirSync } from 'node:fs';
import { distrustOf } from './file-trust.js';

/**
 * Makes a directory for files of this user, with those above it, unless it is there.
 *
 * @throws Error of the file system, or one saying who else could put files there: they would be read, and run, as ours.
 */
export function makeOwnDirectory(directory: string): void {
  requireOwnDirectory(directory);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  requireOwnDirectory(directory);
}

/** @throws Error when somebody else could put files into the directory. */
export function requireOwnDirectory(directory: string): void {
  const reason = distrustOf(directory, { sharedParents: true });
  if (reason !== undefined) throw new Error(`${reason}, so what lies there is not trusted`);
}
