import type { Config } from '../config.js';
import { type DevicePolicy, listPolicies } from '../db/policies.js';
import { toPolicyJson } from '../db/policy-json.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { writeListing } from './listing.js';
import { escapeControls } from './text.js';

const pageSize = 1_000;
const header = ['TYPE', 'RATE', 'MAX PACKET', 'NATS SUBJECT', 'PUBLISH', 'SUBSCRIBE'];

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
  await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    const found = await writeListing<DevicePolicy>(io, {
      json: options.json,
      header,
      pageSize,
      read: (after) => listPolicies(db, { after: after?.type, limit: pageSize }),
      toJson: toPolicyJson,
      toCells,
    });
    if (!found) await write(io.stderr, 'No policies: every device has the default.\n');
  });
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
