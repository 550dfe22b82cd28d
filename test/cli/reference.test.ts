import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { examples } from '../../src/cli/command/examples.js';
import { addSettingOptions, settingSelections } from '../../src/cli/command/setting-options.js';
import { buildProgram } from '../../src/cli/program.js';
import { listLeaves, renderCliReference } from '../../src/cli/reference/cli-reference.js';
import { projectDir, runCli } from './support.js';

test('docs/cli.md says what the commands say; `npm run docs:cli` rewrites it', () => {
  const { program, uses } = buildProgram(() => {});
  expect(readFileSync(join(projectDir, 'docs', 'cli.md'), 'utf8')).toBe(renderCliReference(program, uses));
});

test('every command has examples, and no example is of another command', () => {
  const { program } = buildProgram(() => {});
  expect(Object.keys(examples).sort()).toEqual(
    listLeaves(program)
      .map(({ path }) => path)
      .sort(),
  );
});

test('every example is a command line that the program takes', async () => {
  for (const line of Object.values(examples).flat()) {
    const called: string[][] = [];
    const { program, uses } = buildProgram((_run, command) => void called.push([...command.args]));
    for (const { command } of listLeaves(program)) {
      command.exitOverride().configureOutput({ writeErr: () => {}, outputError: () => {} });
      const settings = uses.get(command) ?? 'none';
      if (settings !== 'none') addSettingOptions(command, settingSelections[settings]);
    }
    const calls = [...line.matchAll(/svc-mqtt ((?:'[^']*'|[^|>)'])+)/g)];
    expect(calls.length, line).toBeGreaterThan(0);
    for (const [, words] of calls) {
      const args = [...(words ?? '').matchAll(/'([^']*)'|(\S+)/g)].map(
        ([, quoted, plain]) => quoted ?? plain ?? '',
      );
      await expect(program.parseAsync(args, { from: 'user' }), line).resolves.toBeDefined();
    }
    expect(called, line).toHaveLength(calls.length);
  }
});

test('no example has a word that a shell takes for the pattern of file names', () => {
  for (const line of Object.values(examples).flat()) {
    expect(line.replace(/'[^']*'/g, ''), line).not.toMatch(/[[\]{}*?]/);
  }
});

test('no page shows an example twice', () => {
  const { program, uses } = buildProgram(() => {});
  const page = renderCliReference(program, uses);
  for (const line of Object.values(examples).flat()) {
    const shown = page.split('\n').filter((each) => each.trim().replace(/^Example: /, '') === line);
    expect(shown, line).toHaveLength(1);
  }
});

test('the help of a command ends with its examples', async () => {
  const { stdout } = await runCli(['device', 'rotate', '--help']);
  expect(stdout).toMatch(/\nExamples:\n {2}svc-mqtt device rotate roof-7\n/);
});
