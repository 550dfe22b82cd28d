import type { Config } from '../config.js';
import { type DevicePolicy, listPolicies } from '../db/policies.js';
import { toPolicyJson } from '../db/policy-json.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { columnWidths, escapeControls, formatRow, toJsonLine } from './text.js';

/**
 * Lists all policies in order of type.
 *
 * @throws SvcMqttError DATABASE_*.
 */
export async function listAllPolicies(
  config: Config,
  options: { readonly json?: boolean | undefined },
  io: CommandIo,
): Promise<void> {
  const policies = await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    return listPolicies(db);
  });
  if (options.json === true) {
    for (const policy of policies) await write(io.stdout, toJsonLine(toPolicyJson(policy)));
    return;
  }
  if (policies.length === 0) {
    await write(io.stderr, 'No policies: every device has the default.\n');
    return;
  }
  const header = ['TYPE', 'RATE', 'MAX PACKET', 'NATS SUBJECT', 'PUBLISH', 'SUBSCRIBE'];
  const rows = policies.map(toCells);
  const widths = columnWidths([header, ...rows]);
  await write(io.stdout, formatRow(header, widths));
  for (const row of rows) await write(io.stdout, formatRow(row, widths));
}

function toCells(policy: DevicePolicy): string[] {
  const listed = (templates: readonly string[]) =>
    templates.length === 0 ? 'nothing' : templates.map(escapeControls).join(' ');
  return [
    escapeControls(policy.type),
    policy.publishRate === null ? '-' : `${policy.publishRate}/s`,
    policy.maxPacketBytes === null ? '-' : String(policy.maxPacketBytes),
    escapeControls(policy.natsSubject ?? '-'),
    listed(policy.publish),
    listed(policy.subscribe),
  ];
}
