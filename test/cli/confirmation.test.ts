import { describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import type { SvcMqttError } from '../../src/errors.js';
import { fakeIo, fakeTerminal, makeTempDir, until } from './support.js';

/** Nothing is opened before the question is answered: there is no database here. */
describe.each([
  [['policy', 'remove', 'sensor'], 'Removing', 'Remove the policy of sensor?', 'Nothing was removed.'],
  [['claim', 'revoke', '4kq2m7xw'], 'Revoking', 'Revoke claim 4kq2m7xw?', 'Nothing was revoked.'],
  [
    ['device', 'rotate', 'roof-7'],
    'Rotating without --grace',
    'End the secret of device roof-7 now?',
    'Nothing was changed.',
  ],
])('before it ends something, %j', (args, doing, question, declined) => {
  test('asks on a terminal, and takes everything but yes for a no', async () => {
    const dir = makeTempDir();
    try {
      for (const [answer, outcome] of [
        ['n', 1],
        ['', 1],
        ['y', { code: 'DATABASE_EMBEDDED' }],
      ] as const) {
        const [stdin, stderr] = [fakeTerminal(), fakeTerminal()];
        let asked = '';
        stderr.on('data', (chunk) => {
          asked += String(chunk);
        });
        const io = { ...fakeIo({ env: { DATA_DIR: dir.path } }), stdin, stderr };
        const ended = runProgram(args, io).catch((error: SvcMqttError) => error);
        await until('the question is asked', () => asked.includes('[y/N]'));
        expect(asked).toContain(question);
        stdin.write(`${answer}\r`);
        if (typeof outcome === 'number') expect(await ended).toBe(outcome);
        else expect(await ended).toMatchObject(outcome);
        expect(asked.includes(declined)).toBe(outcome === 1);
      }
    } finally {
      dir.remove();
    }
  });

  test('wants --yes where there is no terminal', async () => {
    const dir = makeTempDir();
    try {
      const run = (more: readonly string[]) =>
        runProgram([...args, ...more], fakeIo({ env: { DATA_DIR: dir.path } })).catch((error) => error);
      expect(await run([])).toMatchObject({
        code: 'USAGE',
        message: `${doing} needs a yes, and there is no terminal to ask on`,
        suggestion: 'Add --yes',
      });
      expect(await run(['--yes'])).toMatchObject({ code: 'DATABASE_EMBEDDED' });
    } finally {
      dir.remove();
    }
  });
});
