import { chmodSync, lstatSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { SvcMqttError } from '../../errors.js';
import { distrustOf } from '../../file-trust.js';
import type { CommandIo } from '../terminal/io.js';
import { openOutputFile } from '../terminal/output-file.js';

/** The logins of a user: APIs with their keys, and which of them commands use. */
export interface Contexts {
  readonly current?: string;
  readonly contexts: readonly { readonly name: string; readonly url: string; readonly key?: string }[];
}

const maxFileBytes = 1_048_576;

/** Where they are kept; undefined: this user has no home. */
function contextsPath(env: CommandIo['env']): string | undefined {
  const { XDG_CONFIG_HOME: xdg = '', HOME: home = '' } = env;
  // An XDG path that is relative is to be ignored (XDG Base Directory Specification).
  const base = isAbsolute(xdg) ? xdg : isAbsolute(home) ? join(home, '.config') : undefined;
  return base === undefined ? undefined : join(base, 'svc-mqtt', 'contexts.json');
}

/**
 * Reads the logins of this user.
 *
 * @throws SvcMqttError CONFIG_INVALID when others may read or write the file, or it is none of ours.
 */
export function readContexts(env: CommandIo['env']): Contexts {
  const path = contextsPath(env);
  const text = path === undefined ? undefined : readPrivately(path);
  if (path === undefined || text === undefined) return { contexts: [] };
  try {
    const value: unknown = JSON.parse(text);
    if (areContexts(value)) return value;
  } catch {
    // Told below.
  }
  throw refuse(`${path} is not the file that svc-mqtt login writes`, 'Remove it, and log in again');
}

function areContexts(value: unknown): value is Contexts {
  const isText = (each: unknown) => typeof each === 'string';
  const { current = '', contexts } = (value ?? {}) as Record<string, unknown>;
  return (
    isText(current) &&
    Array.isArray(contexts) &&
    contexts.every(({ name, url, key = '' }) => isText(name) && isText(url) && isText(key))
  );
}

function readPrivately(path: string): string | undefined {
  try {
    const stats = lstatSync(path);
    const distrust = distrustOf(path, { sharedParents: true });
    if (distrust !== undefined) throw refuse(`${path} holds keys, and ${distrust}`, 'Put that right first');
    if (process.getuid !== undefined && (stats.mode & 0o077) !== 0)
      throw refuse(`${path} holds keys, and others may read it`, `Run \`chmod 600 ${path}\``);
    if (!stats.isFile() || stats.size > maxFileBytes)
      throw refuse(`${path} is not the file that svc-mqtt login writes`, 'Remove it, and log in again');
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (error instanceof SvcMqttError) throw error;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw refuse(`${path} cannot be read (${code ?? 'unknown'})`, 'Put that right, or remove it');
  }
}

/** Keeps the logins of this user, where nobody else may read them. Answers where. */
export async function writeContexts(contexts: Contexts, env: CommandIo['env']): Promise<string> {
  const path = contextsPath(env);
  if (path === undefined) {
    throw refuse('There is no directory to remember a login in', 'Set HOME or XDG_CONFIG_HOME');
  }
  const directory = dirname(path);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    chmodSync(directory, 0o700);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw refuse(
      `${directory} cannot be made (${code ?? 'unknown'})`,
      'Set XDG_CONFIG_HOME to another place',
    );
  }
  const file = await openOutputFile(path, { force: true });
  try {
    await file.write(`${JSON.stringify(contexts, undefined, 2)}\n`);
    await file.keep();
  } finally {
    await file.discard();
  }
  return path;
}

function refuse(detail: string, suggestion: string): SvcMqttError {
  return new SvcMqttError('CONFIG_INVALID', detail, { suggestion });
}
