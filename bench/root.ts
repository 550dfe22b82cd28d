import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The directory of the repository, wherever below it this file was compiled to. */
export const root = findRoot(path.dirname(fileURLToPath(import.meta.url)));

function findRoot(directory: string): string {
  return existsSync(path.join(directory, 'package.json')) ? directory : findRoot(path.dirname(directory));
}

/** The built program, as a user runs it. */
export const programFile = path.join(root, 'dist/cli/main.js');

export function readProgramVersion(): string {
  const text = readFileSync(path.join(root, 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
