import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { root } from './root.js';

const begin = '<!-- bench:start -->';
const end = '<!-- bench:end -->';

/** Replaces the latest table in docs/performance.md. */
export function writeDocs(text: string): void {
  const file = path.join(root, 'docs/performance.md');
  const page = readFileSync(file, 'utf8');
  const [before, rest] = page.split(begin);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined)
    throw new Error(`docs/performance.md lacks the lines ${begin} and ${end}`);
  writeFileSync(file, `${before}${begin}\n\n${text.trim()}\n\n${end}${after}`);
}
