import { describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import { redeemClaim } from '../../src/db/devices/claims.js';
import type { SvcMqttError } from '../../src/errors.js';
import { kinds } from '../db/databases.js';
import { useDatabase } from './database.js';
import { fakeIo, jsonLines } from './support.js';

describe.each(kinds)('claims on %s', (kind) => {
  const database = useDatabase(kind);
  async function run(...args: string[]) {
    const io = fakeIo({ env: database.env });
    const outcome = await runProgram(args, io).catch((error: SvcMqttError) => error);
    return { outcome, out: io.out(), err: io.err(), lines: () => jsonLines(io.out()) };
  }

  test('are made and shown once, listed without their secret, and revoked', async () => {
    expect(await run('claim', 'list')).toMatchObject({
      outcome: 0,
      out: '',
      err: 'No active claims; --all shows the others.\n',
    });
    const made = await run(
      'claim',
      'create',
      '--type',
      'sensor',
      '--uses',
      '100',
      '--expires',
      '7d',
      '--json',
    );
    const [claim] = made.lines() as { id: string; claim: string; expires_at: string }[];
    expect(claim).toMatchObject({ type: 'sensor', state: 'active', uses: 100, uses_left: 100 });
    const days = (Date.parse(claim?.expires_at ?? '') - Date.now()) / 86_400_000;
    expect(Math.round(days * 100) / 100).toBe(7);
    const { db } = database;
    expect(await redeemClaim(db, { claim: claim?.claim ?? '' })).toMatchObject({ type: 'sensor' });

    const { claim: text, ...shown } = claim ?? {};
    const listed = await run('claim', 'list', '--json');
    expect(listed.lines()).toEqual([{ ...shown, uses_left: 99 }]);
    const table = await run('claim', 'list');
    expect(table.out).toContain('99 of 100');
    expect(table.out + listed.out).not.toContain(text?.split('_')[2]);

    const id = claim?.id ?? '';
    expect((await run('claim', 'revoke', id, '--yes')).out).toBe(`${id}: revoked\n`);
    expect((await run('claim', 'revoke', id, '--yes', '--json')).lines()).toEqual([
      { id, outcome: 'already_revoked' },
    ]);
    expect((await run('claim', 'list')).out).toBe('');
    expect((await run('claim', 'list', '--all')).out).toContain('revoked');
    await expect(redeemClaim(db, { claim: text ?? '' })).rejects.toMatchObject({ code: 'CLAIM_GONE' });
  });

  test('for people', async () => {
    const made = await run('claim', 'create', '--type', 'sensor');
    expect(made.out).toMatch(/^claim {4}svcmqttclaim_[a-z2-7]{16}_[a-z2-7]{32}$/m);
    expect(made.out).toMatch(/^uses {5}1$/m);
    expect(made.err).toBe('Keep the claim: nothing can show it again.\n');
  });

  test('bad input is named', async () => {
    expect((await run('claim', 'create')).outcome).toMatchObject({ code: 'USAGE' });
    for (const args of [
      ['--uses', '0'],
      ['--expires', '7'],
      ['--uses', '1000001'],
      ['--expires', '0d'],
    ]) {
      const { outcome } = await run('claim', 'create', '--type', 'sensor', ...args);
      expect(outcome).toMatchObject({ code: 'USAGE', message: expect.stringContaining(args[0] ?? '') });
    }
    expect((await run('claim', 'create', '--type', '')).outcome).toMatchObject({ code: 'INPUT_INVALID' });
    expect((await run('claim', 'revoke', 'nothing', '--yes')).outcome).toMatchObject({
      code: 'CLAIM_NOT_FOUND',
    });
    const text = `svcmqttclaim_${'a'.repeat(16)}_${'b'.repeat(32)}`;
    const { outcome } = await run('claim', 'revoke', text);
    expect(outcome).toMatchObject({ code: 'USAGE' });
    expect((outcome as SvcMqttError).toLine()).not.toContain('bbbb');
  });
});
