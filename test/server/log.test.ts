import { expect, test } from 'vitest';
import { openLog } from '../../src/log.js';

/** What a terminal acts on instead of showing it. */
const drivesTerminal = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/u;

test('what a client sent means the same in a line of the log, and cannot drive a terminal', () => {
  const lines: string[] = [];
  const log = openLog({ level: 'info', format: 'json', destination: { write: (line) => lines.push(line) } });
  const client = 'a\u001b[2J\u009b2Jb\u202ec\u007f\u2028';
  log.info({ event: 'test', client }, 'A line');
  log.info({ event: 'test' }, 'Another');
  expect(lines).toHaveLength(2);
  for (const line of lines) expect(line.replace(/\n$/, '')).not.toMatch(drivesTerminal);
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({ client });
});
