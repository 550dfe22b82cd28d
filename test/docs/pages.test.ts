import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';
import type { Uses } from '../../src/cli/command/command.js';
import { settingSelections } from '../../src/cli/command/setting-options.js';
import { buildProgram } from '../../src/cli/program.js';
import { listLeaves } from '../../src/cli/reference/cli-reference.js';
import { settings } from '../../src/config.js';
import { projectDir } from '../cli/support.js';

const pages = ['.', 'docs', 'deploy', 'examples'].flatMap((directory) =>
  readdirSync(join(projectDir, directory))
    .filter((name) => name.endsWith('.md'))
    .map((name) => normalize(join(directory, name))),
);
const read = (page: string) => readFileSync(join(projectDir, page), 'utf8');

/** The anchors of a page, as GitHub makes them of its headings. */
function anchorsOf(page: string): string[] {
  return [...read(page).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

test.for(pages)('%s links to what is there', (page) => {
  const links = [...read(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target);
  for (const link of links.filter((target) => !/^https?:/.test(target))) {
    const [file = '', anchor] = link.split('#');
    const target = file === '' ? page : join(dirname(page), file);
    expect(existsSync(join(projectDir, target)), `${link} is there`).toBe(true);
    if (anchor !== undefined) expect(anchorsOf(target), link).toContain(anchor);
  }
  const named = [...read(page).matchAll(/`((?:test|bench|deploy|docs|examples)\/[\w./-]+\.\w+)`/g)];
  for (const [, file = ''] of named)
    expect(existsSync(join(projectDir, file)), `${file} is there`).toBe(true);
});

const written = /^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:npx )?svc-mqtt ([a-z].*)$/;
/** The options that a command has for settings. */
function settingFlags(use: Uses | undefined): string[] {
  if (use === undefined || use === 'none') return [];
  return settingSelections[use].map((name) => `--${settings[name].flag}`);
}

/** In a text `device add` is enough. */
const abridged = /^(?:device|policy|claim|api-key|connection) [a-z].*$/;

/** The calls of svc-mqtt in code, each from its command on. */
function callsIn(text: string): string[] {
  const code = text.matchAll(/^```\w*\n(.*?)^```|`([^`\n]+)`/gms);
  return [...code].flatMap(([, block, inline = '']) =>
    block === undefined
      ? (written.exec(inline)?.[1] ?? abridged.exec(inline)?.[0] ?? [])
      : block.split('\n').flatMap((line) => written.exec(line)?.[1] ?? []),
  );
}

// The page on how it is built names things so that are no commands.
const guides = pages.filter((page) => page !== 'docs/architecture.md');
test.for(guides)('%s shows commands and options that exist', (page) => expectCalls(callsIn(read(page))));

test('what the program says names commands and options that exist', () => {
  const sources = readdirSync(join(projectDir, 'src'), { recursive: true, encoding: 'utf8' });
  const calls = sources
    .filter((file) => /\.tsx?$/.test(file))
    // What is put in while it runs is left out.
    .flatMap((file) => [...read(join('src', file)).matchAll(/\\?`svc-mqtt ([a-z][^`\\$]*)/g)])
    .map(([, call = '']) => call.trim());
  expect(calls.length).toBeGreaterThan(20);
  expectCalls(calls);
});

function expectCalls(calls: readonly string[]): void {
  const { program, uses } = buildProgram(() => {});
  const leaves = listLeaves(program);
  for (const call of calls) {
    // What follows in a pipe, or as a comment, is not of the command.
    const words = (call.split(/ [|#] | *[>|]\s/)[0] ?? '').split(' ');
    const commands = leaves.filter(({ path, command }) => {
      const names = path.split(' ').map((name) => [name]);
      names.at(-1)?.push(...command.aliases());
      return names.every((of, index) =>
        (words[index] ?? '…').split('|').some((word) => word === '…' || of.includes(word)),
      );
    });
    expect(commands.length, `svc-mqtt ${call} is a command`).toBeGreaterThan(0);
    const known = commands.flatMap(({ command }) => [
      ...command.options.map(({ long }) => long),
      ...settingFlags(uses.get(command)),
    ]);
    for (const [option] of call.matchAll(/(?<=[\s[|])--[a-z-]+/g))
      expect([...known, '--help'], `svc-mqtt ${call}`).toContain(option);
  }
}
