import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { obtainNatsServer } from '../../src/server/forward/embedded/nats-server-program.js';
import { cleanEnv, jsonLines, projectDir, runCli } from './support.js';

test('setup prints where the nats-server program is, and nothing else on stdout', async () => {
  const program = await obtainNatsServer({ program: process.env.NATS_SERVER_BIN, onProgress: () => {} });
  const { status, stdout } = await runCli(['setup', '--nats-server-bin', program.path]);
  expect({ status, stdout }).toEqual({ status: 0, stdout: `${program.path}\n` });
  const json = await runCli(['setup', '--json'], { NATS_SERVER_BIN: program.path });
  expect(jsonLines(json.stdout)).toEqual([{ path: program.path, version: program.version }]);
});

test('setup with a program that is none is one line and status 1', async () => {
  const { status, stdout, stderr } = await runCli(['setup'], { NATS_SERVER_BIN: '/nonexistent/nats-server' });
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toMatch(/^svc-mqtt: .*\/nonexistent\/nats-server.*\n$/);
});

test.skipIf(!existsSync('/dev/full'))('results that cannot be written are a failure', async () => {
  const full = openSync('/dev/full', 'w');
  const child = spawn(process.execPath, [join(projectDir, 'dist', 'cli', 'main.js'), '--version'], {
    env: cleanEnv(),
    stdio: ['ignore', full, 'pipe'],
  });
  closeSync(full);
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const status = await new Promise((resolve) => child.on('close', resolve));
  expect(status).toBe(1);
  expect(stderr).toMatch(/^svc-mqtt: The results could not be written: ENOSPC.*\n$/);
});
