import { execFile } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { completeWords } from '../../src/cli/completion/candidates.js';
import { buildProgram } from '../../src/cli/program.js';
import { cleanEnv, makeTempDir, projectDir, runCli } from './support.js';

const complete = (...words: string[]) => {
  const { program, uses } = buildProgram(() => {});
  return completeWords(program, uses, words).map(({ word }) => word);
};

test('commands, options, values and arguments are completed', () => {
  expect(complete('')).toEqual(expect.arrayContaining(['serve', 'device', 'tail-nats', 'completion']));
  expect(complete('dev')).toEqual(['device']);
  expect(complete('device', 'r')).toEqual(['rotate', 'revoke', 'remove']);
  expect(complete('device', 'rotate', 'roof-7', '--g')).toEqual(['--grace']);
  expect(complete('device', 'ls', '--sort', 'last')).toEqual(['last_seen']);
  expect(complete('serve', '--mqtt-p')).toEqual(expect.arrayContaining(['--mqtt-port']));
  expect(complete('serve', '--acl', '')).toEqual(['confined', 'open']);
  expect(complete('serve', '--acl', 'open', '--log-format', 'p')).toEqual(['pretty']);
  expect(complete('completion', '')).toEqual(['bash', 'zsh', 'fish']);
  expect(complete('api-key', 'create', '--role', 'v')).toEqual(['viewer']);
});

test('where a value is up to the user there are no candidates, nor for what is no command', () => {
  expect(complete('serve', '--config', '')).toEqual([]);
  expect(complete('device', 'show', '')).toEqual([]);
  expect(complete('nonsense', 'x')).toEqual([]);
  expect(complete('device', 'add', '--type', '--')).toEqual([]);
});

test('no option that would take a secret is offered', () => {
  expect(complete('serve', '--api-token')).toEqual(['--api-token-file']);
});

test('an unknown shell is refused', async () => {
  const { status, stderr } = await runCli(['completion', 'tcsh']);
  expect(status).toBe(2);
  expect(stderr).toContain('bash, zsh, fish');
});

describe('the script of', () => {
  let dir: ReturnType<typeof makeTempDir>;
  beforeAll(() => {
    dir = makeTempDir();
    const program = join(dir.path, 'svc-mqtt');
    writeFileSync(program, `#!/bin/sh\nexec "${process.execPath}" "${projectDir}/dist/cli/main.js" "$@"\n`);
    chmodSync(program, 0o755);
  });
  afterAll(() => dir.remove());

  test('bash completes in bash', async () => {
    const script = `
      source <(svc-mqtt completion bash)
      ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _svc_mqtt; echo "\${COMPREPLY[*]}"; }
      ask svc-mqtt device re
      ask svc-mqtt device rotate 'a b' --gr
      ask svc-mqtt serve --config ''`;
    const env = cleanEnv({ PATH: `${dir.path}:${process.env.PATH ?? ''}` });
    const { stdout, stderr } = await promisify(execFile)('bash', ['-c', script], { env });
    expect(stderr).toBe('');
    expect(stdout).toBe('revoke remove\n--grace\n\n');
  });
});
