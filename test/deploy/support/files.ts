import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';

export const root = fileURLToPath(new URL('../../../', import.meta.url));

export function readText(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

export function isInRepository(path: string): boolean {
  return existsSync(join(root, path));
}

/** The YAML files of deploy, by name. */
export function listDeployYaml(): string[] {
  return readdirSync(join(root, 'deploy')).filter((name) => /\.ya?ml$/.test(name));
}

/** Every document of a YAML text. Anything the parser merely warns of counts as an error. */
export function parseYaml(text: string): unknown[] {
  return parseAllDocuments(text, { merge: true, strict: true, uniqueKeys: true }).map((document) => {
    const problem = document.errors[0] ?? document.warnings[0];
    if (problem !== undefined) throw problem;
    return document.toJS() as unknown;
  });
}
