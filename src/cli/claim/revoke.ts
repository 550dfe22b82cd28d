import type { Config } from '../../config.js';
import { SvcMqttError } from '../../errors.js';
import { usageError } from '../command/usage-error.js';
import { withStore } from '../store/open.js';
import { confirm } from '../terminal/ask.js';
import { type CommandIo, write } from '../terminal/io.js';
import { escapeControls, toJsonLine } from '../terminal/text.js';

/**
 * Revokes a claim, after asking on a terminal; devices that it has made stay.
 *
 * @returns the exit status: 1 when the question was answered with no.
 * @throws SvcMqttError USAGE, CLAIM_NOT_FOUND, DATABASE_*.
 */
export async function revokeDeviceClaim(
  config: Config,
  options: { readonly id: string; readonly yes?: boolean; readonly json?: boolean },
  io: CommandIo,
): Promise<number> {
  const { id } = options;
  if (id.startsWith('svcmqttclaim_')) {
    const suggestion = 'Give its id; the text is a secret, and arguments can be read by others';
    throw usageError('claim revoke takes the id of a claim, not its text', suggestion);
  }
  const question = {
    doing: 'Revoking',
    text: `Revoke claim ${escapeControls(id)}? No device can use it any more; those that it has made stay.`,
    declined: 'Nothing was revoked.',
  };
  if (!(await confirm(question, options.yes, io))) return 1;
  const outcome = await withStore(config, io, ({ claims }) => claims.revoke(id));
  if (outcome === 'unknown') {
    throw new SvcMqttError('CLAIM_NOT_FOUND', `There is no claim with the id ${escapeControls(id)}`, {
      suggestion: '`svc-mqtt claim list --all` shows every id',
    });
  }
  const json = { id, outcome: outcome.replace(' ', '_') };
  await write(io.stdout, options.json === true ? toJsonLine(json) : `${id}: ${outcome}\n`);
  return 0;
}
