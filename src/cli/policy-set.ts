import type { Config } from '../config.js';
import { listDevices } from '../db/devices.js';
import { changePolicy, type PolicyChange } from '../db/policies.js';
import { toPolicyJson } from '../db/policy-json.js';
import { defaultRules, describeRisks } from '../policy.js';
import { type Coverage, readCoverage } from '../server/forward/coverage.js';
import { dialNats } from '../server/forward/nats-dial.js';
import { readNatsTarget } from '../server/forward/nats-settings.js';
import { describeCoverage } from '../server/subject-coverage.js';
import { readCliActor } from './actor.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { chooseNatsUrl } from './nats-url.js';
import { type PolicySetOptions, toPolicyChanges } from './policy-options.js';
import { toPolicyRows, toRuleRows } from './policy-show.js';
import { blockTime } from './table.js';
import { escapeControls, formatBlock, toJsonLine } from './text.js';

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
  const { change, hasDevices } = await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    const change = await changePolicy(db, readCliActor(), type, changes);
    const devices = await listDevices(db, { type, state: 'all', limit: 1 });
    return { change, hasDevices: devices.length > 0 };
  });
  const { natsSubject } = change.after;
  const uncovered =
    natsSubject === null
      ? undefined
      : await describeCoverage(natsSubject, (templates) => askNats(config, templates));
  const warnings = [
    ...describeRisks(change.after, config.maxPacketBytes),
    ...(uncovered === undefined ? [] : [uncovered]),
  ];
  if (options.json === true) {
    await write(io.stdout, toJsonLine({ ...toPolicyJson(change.after), warnings }));
  } else {
    await write(io.stdout, formatBlock(toPolicyRows(change.after, blockTime(io))));
    for (const line of describeChange(change)) await write(io.stderr, `${line}\n`);
    for (const warning of warnings) await write(io.stderr, `Warning: ${escapeControls(warning)}\n`);
  }
  if (!hasDevices) await write(io.stderr, `No device has the type ${escapeControls(type)} yet.\n`);
}

async function askNats(config: Config, templates: readonly string[]): Promise<Coverage | undefined> {
  if (!config.enableJetstream) return undefined;
  const target = readNatsTarget({ ...config, natsUrl: chooseNatsUrl(config) });
  const { connection } = await dialNats(target, target.addresses, 'svc-mqtt');
  try {
    return await readCoverage(connection, config.natsJetstreamDomain, templates);
  } finally {
    await connection.close();
  }
}

/** A line for each field that is different now. */
function describeChange({ before, after }: PolicyChange): string[] {
  const old = new Map(toRuleRows(before ?? defaultRules));
  const lines = toRuleRows(after)
    .filter(([name, value]) => old.get(name) !== value)
    .map(([name, value]) => `Changed ${name}: ${escapeControls(`${old.get(name)} → ${value}`)}`);
  if (lines.length > 0) return lines;
  return [before === undefined ? 'The policy is the same as the default.' : 'Nothing changed.'];
}
