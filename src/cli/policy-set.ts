import type { Config } from '../config.js';
import { setPolicy } from '../db/policies.js';
import { toPolicyJson } from '../db/policy-json.js';
import { describeRisks } from '../policy.js';
import { defaultTemplates } from '../topic-template.js';
import { readCliActor } from './actor.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { toPolicyRows } from './policy-show.js';
import { escapeControls, formatBlock, toJsonLine } from './text.js';

export interface PolicySetOptions {
  readonly type: string;
  /** False: nothing; undefined: the default. */
  readonly publish?: readonly string[] | false | undefined;
  readonly subscribe?: readonly string[] | false | undefined;
  readonly publishRate?: number | undefined;
  readonly maxPacketBytes?: number | undefined;
  readonly natsSubject?: string | undefined;
  readonly json?: boolean | undefined;
}

/**
 * Sets the policy of a device type, whole, and warns of what it allows.
 *
 * @throws SvcMqttError INPUT_INVALID, DATABASE_*.
 */
export async function setDevicePolicy(
  config: Config,
  options: PolicySetOptions,
  io: CommandIo,
): Promise<void> {
  const rules = {
    publish: options.publish === false ? [] : (options.publish ?? defaultTemplates.publish),
    subscribe: options.subscribe === false ? [] : (options.subscribe ?? defaultTemplates.subscribe),
    publishRate: options.publishRate ?? null,
    maxPacketBytes: options.maxPacketBytes ?? null,
    natsSubject: options.natsSubject ?? null,
  };
  const policy = await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    return setPolicy(db, readCliActor(), { type: options.type, ...rules });
  });
  const warnings = describeRisks(rules, config.maxPacketBytes);
  if (options.json === true) {
    await write(io.stdout, toJsonLine({ ...toPolicyJson(policy), warnings }));
    return;
  }
  await write(io.stdout, formatBlock(toPolicyRows(policy)));
  for (const warning of warnings) await write(io.stderr, `Warning: ${escapeControls(warning)}\n`);
}
