import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openLogOutput } from '../../src/log-output.js';

test('a line that cannot be written is dropped', () => {
  const full = openSync('/dev/full', 'w');
  onTestFinished(() => closeSync(full));
  expect(() => openLogOutput(full).write('a line\n')).not.toThrow();
});

test('with room again lines are whole, whatever was written of the one before', ({ skip }) => {
  const disk = mkdtempSync(join(tmpdir(), 'svc-mqtt-log-'));
  onTestFinished(() => rmSync(disk, { recursive: true, force: true }));
  const mount = (options: string) =>
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', disk], { stdio: 'ignore' });
  try {
    mount('size=16k');
  } catch {
    skip('only root may mount a small file system');
  }
  onTestFinished(() => void execFileSync('umount', ['--lazy', disk]));
  const path = join(disk, 'log');
  const fd = openSync(path, 'a');
  onTestFinished(() => closeSync(fd));
  const output = openLogOutput(fd);
  const line = (number: number) => JSON.stringify({ number, text: 'x'.repeat(1_000) });
  for (let number = 0; number < 20; number += 1) output.write(`${line(number)}\n`);
  const before = readFileSync(path, 'utf8').split('\n');
  mount('remount,size=64k');
  output.write(`${line(20)}\n`);
  const after = readFileSync(path, 'utf8').split('\n');
  expect(before.length).toBeLessThan(20);
  expect(after.slice(0, before.length)).toEqual(before);
  expect(after.slice(-2)).toEqual([line(20), '']);
});
