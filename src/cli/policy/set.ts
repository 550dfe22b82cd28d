import type { PolicyJson } from '../../api/policy.js';
import type { Config } from '../../config.js';
import { defaultRules, toRulesJson } from '../../policy.js';
import { withStore } from '../store/open.js';
import { type CommandIo, write } from '../terminal/io.js';
import { blockTime } from '../terminal/table.js';
import { escapeControls, formatBlock, toJsonLine } from '../terminal/text.js';
import { type PolicySetOptions, toPolicyChanges } from './options.js';
import { toPolicyRows, toRuleRows } from './show.js';

/**
 * Changes the policy of a device type in the fields that options name, says what is different now, and warns of what
 * the policy allows, and of a subject that no stream covers.
 *
 * @throws SvcMqttError USAGE, INPUT_INVALID, DATABASE_*.
 */
export async function setDevicePolicy(
  config: Config,
  options: PolicySetOptions,
  io: CommandIo,
): Promise<void> {
  const { type } = options;
  const changes = toPolicyChanges(options);
  const { before, after, warnings, hasDevices } = await withStore(config, io, (store) =>
    store.policies.change(type, changes),
  );
  if (options.json === true) {
    await write(io.stdout, toJsonLine({ ...after, warnings }));
  } else {
    await write(io.stdout, formatBlock(toPolicyRows(after, blockTime(io))));
    for (const line of describeChange(before, after)) await write(io.stderr, `${line}\n`);
    for (const warning of warnings) await write(io.stderr, `Warning: ${escapeControls(warning)}\n`);
  }
  if (!hasDevices) await write(io.stderr, `No device has the type ${escapeControls(type)} yet.\n`);
}

/** A line for each field that is different now. */
function describeChange(before: PolicyJson | undefined, after: PolicyJson): string[] {
  const old = new Map(toRuleRows(before ?? toRulesJson(defaultRules)));
  const lines = toRuleRows(after)
    .filter(([name, value]) => old.get(name) !== value)
    .map(([name, value]) => `Changed ${name}: ${escapeControls(`${old.get(name)} → ${value}`)}`);
  if (lines.length > 0) return lines;
  return [before === undefined ? 'The policy is the same as the default.' : 'Nothing changed.'];
}
