import {
  closeSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { toLogText } from '../../src/cli/top/log-text.js';
import { openLog } from '../../src/log.js';
import { openLogFile } from '../../src/log-file.js';

function makeFile(): string {
  const directory = mkdtempSync(join(tmpdir(), 'svc-mqtt-log-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, 'made', 'serve.log');
}

test('a log file is its owner’s, goes on where it was, and gives way to a new one at its limit', () => {
  const path = makeFile();
  const first = openLogFile(path, 100);
  const log = openLog({ level: 'info', format: 'json', destination: first });
  log.info({ event: 'one' }, 'the first line');
  first.close();
  expect(statSync(path).mode & 0o777).toBe(0o600);

  const second = openLogFile(path, 100);
  second.write(`${'x'.repeat(60)}\n`);
  second.write('new\n');
  expect(readFileSync(`${path}.1`, 'utf8')).toMatch(/the first line"}\nx{60}\n$/);
  expect(readFileSync(path, 'utf8')).toBe('new\n');
  expect(second.recent()).toEqual(['x'.repeat(60), 'new']);
  second.close();
});

test('goes on in its place when it cannot give way, and touches nothing else', () => {
  const path = makeFile();
  const file = openLogFile(path, 100);
  mkdirSync(join(`${path}.1`, 'in the way'), { recursive: true });
  const line = `${'x'.repeat(120)}\n`;
  file.write(line);
  file.write(line);
  // Takes the number of a file that is closed.
  const other = openSync(`${path}.other`, 'w');
  file.write(line);
  expect(() => fstatSync(other)).not.toThrow();
  expect(readFileSync(`${path}.other`, 'utf8')).toBe('');
  expect(readFileSync(path, 'utf8')).toBe(line.repeat(3));
  closeSync(other);
  file.close();
});

test('keeps so many lines in memory and no more', () => {
  const file = openLogFile(makeFile());
  for (let line = 0; line < 1_000; line += 1) file.write(`${line}\n`);
  expect([file.recent().length, file.recent()[0], file.recent().at(-1)]).toEqual([500, '500', '999']);
  file.close();
});

test('a line is shown in words, with the fields that say what it is about', () => {
  const line =
    '{"level":40,"time":"2026-01-31T12:00:00.000Z","event":"slow","device":"d1","x":1,"msg":"It is slow"}';
  expect(toLogText(line)).toMatch(/^\d\d:\d\d:\d\d {2}WARN {3}slow {2}It is slow {2}device=d1$/);
  expect(toLogText('not JSON')).toBe('not JSON');
});
