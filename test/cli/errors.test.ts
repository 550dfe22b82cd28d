import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { describeFailure } from '../../src/cli/terminal/report.js';
import { errorCodes, SvcMqttError } from '../../src/errors.js';
import { projectDir } from './support.js';

describe('docs/errors.md', () => {
  const rows = readFileSync(join(projectDir, 'docs', 'errors.md'), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    );

  test('documents every code, in the order of the table, with its exit status and HTTP status', () => {
    const documented = rows.map(([code, exit, http]) => [
      code?.replaceAll('`', ''),
      Number(exit),
      Number(http),
    ]);
    expect(documented).toEqual(
      Object.entries(errorCodes).map(([code, { exit, http }]) => [code, exit, http]),
    );
  });

  test('leaves to docs/cli.md what other statuses mean, which has all of the table', () => {
    const page = (name: string) => readFileSync(join(projectDir, 'docs', name), 'utf8');
    const statuses = [...page('cli.md').matchAll(/^\| ([\d +n]+) \|/gm)].map(([, status]) => status);
    const ofErrors = new Set(Object.values(errorCodes).map(({ exit }) => String(exit)));
    expect(statuses).toEqual(['0', ...[...ofErrors].sort(), '128 + n']);
    expect(page('errors.md')).toContain('(cli.md)');
    expect(page('errors.md')).not.toMatch(/\b128\b|\b130\b/);
  });

  test('says of every code what it means and what to do', () => {
    for (const row of rows) {
      expect(row).toHaveLength(5);
      expect(row[3]).toMatch(/\.$/);
      expect(row[4]).toMatch(/\.$/);
    }
  });
});

describe('a failure on stderr', () => {
  test('is one line with what happened and what to do, and the exit status of its code', () => {
    const error = new SvcMqttError('DATABASE_UNREACHABLE', 'Nothing\nanswers', { suggestion: 'Start it' });
    expect(describeFailure(error, { withStack: false })).toEqual({
      text: 'svc-mqtt: Nothing answers. Start it\n',
      exitStatus: 1,
    });
  });

  test('of a defect names it as one and points to the stack, which it shows only when asked to', () => {
    const { text, exitStatus } = describeFailure(new TypeError('x is not a function'), { withStack: false });
    expect(exitStatus).toBe(1);
    expect(text).toMatch(/^svc-mqtt: Internal error: x is not a function\. .*LOG_LEVEL=debug.*\n$/);
    const error = new SvcMqttError('INTERNAL', 'outer', { cause: new Error('inner') });
    const shown = describeFailure(error, { withStack: true }).text;
    expect(shown).toMatch(/\n {4}at /);
    expect(shown).toContain('caused by: Error: inner');
  });

  test('cannot drive the terminal', () => {
    const { text } = describeFailure(new Error('\u001b[2J\u009b0m\u202e'), { withStack: false });
    expect(text).toContain('\\u001b[2J\\u009b0m\\u202e');
  });
});
