import type { Config } from '../config.js';
import { removePolicy } from '../db/policies.js';
import { readCliActor } from './actor.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { policyNotFound } from './policy-show.js';
import { escapeControls, toJsonLine } from './text.js';

/**
 * Removes the policy of a device type.
 *
 * @throws SvcMqttError POLICY_NOT_FOUND, DATABASE_*.
 */
export async function removeDevicePolicy(
  config: Config,
  options: { readonly type: string; readonly json?: boolean | undefined },
  io: CommandIo,
): Promise<void> {
  const { type } = options;
  const removed = await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    return removePolicy(db, readCliActor(), type);
  });
  if (!removed) throw policyNotFound(type);
  const text = `${escapeControls(type)}: removed; its devices have the default\n`;
  await write(io.stdout, options.json === true ? toJsonLine({ type, outcome: 'removed' }) : text);
}
