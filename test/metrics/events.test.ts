import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readProjectFile } from './replica.js';

/** Events in the source, with the levels at which they are logged as far as the text of one call shows them. */
function readSource(): Map<string, Set<string>> {
  const events = new Map<string, Set<string>>();
  const note = (event: string | undefined, level: string | undefined) => {
    if (event === undefined) return;
    const levels = events.get(event) ?? new Set();
    events.set(event, levels);
    if (level !== undefined) levels.add(level);
  };
  const folder = fileURLToPath(new URL('../../src', import.meta.url));
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!/\.tsx?$/.test(name)) continue;
    const text = readFileSync(join(folder, name), 'utf8');
    for (const [, event] of text.matchAll(/\bevent: '([a-z_]+)'/g)) note(event, undefined);
    const call = String.raw`\.(debug|info|warn|error|fatal)\(\s*`;
    for (const [, level, event] of text.matchAll(new RegExp(`${call}\\{\\s*event: '([a-z_]+)'`, 'g'))) {
      note(event, level);
    }
    // A limited log takes the event as its first argument.
    const names = String.raw`(?:\w+ \? )?'([a-z]+(?:_[a-z]+)+)'(?: : '([a-z_]+)')?,\s*(?:\{|[a-zA-Z]+,)`;
    for (const [, level, one, other] of text.matchAll(new RegExp(call + names, 'g'))) {
      note(one, level);
      note(other, level);
    }
  }
  return events;
}

const rows = [
  ...readProjectFile('docs/events.md').matchAll(/^\| `([a-z_]+)` \| (\w+) \|([^|]*)\| (.+) \|$/gm),
];
const source = readSource();

describe('docs/events.md', () => {
  it('has every event of the source once, and none besides', () => {
    const documented = rows.map(([, event]) => event);
    expect(documented.toSorted()).toEqual([...source.keys()].toSorted());
  });

  it.each(rows.map(([, event = '', level = '', , meaning = '']) => ({ event, level, meaning })))(
    'gives $event the level of the source, and says what it means',
    ({ event, level, meaning }) => {
      const levels = source.get(event);
      if (levels !== undefined && levels.size > 0) expect([...levels]).toContain(level);
      expect(meaning).toMatch(/^[A-Z`].*\.$/);
    },
  );
});
