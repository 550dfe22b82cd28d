import type { Config } from '../../config.js';
import { withStore } from '../store/open.js';
import { confirm } from '../terminal/ask.js';
import { type CommandIo, write } from '../terminal/io.js';
import { escapeControls, toJsonLine } from '../terminal/text.js';
import { policyNotFound } from './show.js';

/**
 * Removes the policy of a device type, after asking on a terminal.
 *
 * @returns the exit status: 1 when the question was answered with no.
 * @throws SvcMqttError USAGE without a terminal to ask on, POLICY_NOT_FOUND, DATABASE_*.
 */
export async function removeDevicePolicy(
  config: Config,
  options: { readonly type: string; readonly yes?: boolean; readonly json?: boolean },
  io: CommandIo,
): Promise<number> {
  const { type } = options;
  const question = {
    doing: 'Removing',
    text: `Remove the policy of ${escapeControls(type)}? Its devices have the default at once, and nothing brings the policy back.`,
    declined: 'Nothing was removed.',
  };
  if (!(await confirm(question, options.yes, io))) return 1;
  const removed = await withStore(config, io, ({ policies }) => policies.remove(type));
  if (!removed) throw policyNotFound(type);
  const text = `${escapeControls(type)}: removed; its devices have the default\n`;
  await write(io.stdout, options.json === true ? toJsonLine({ type, outcome: 'removed' }) : text);
  return 0;
}
