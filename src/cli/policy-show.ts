import type { Config } from '../config.js';
import { type DevicePolicy, findPolicy } from '../db/policies.js';
import { toPolicyJson } from '../db/policy-json.js';
import { SvcMqttError } from '../errors.js';
import { requireSchema, withDatabase } from './database.js';
import { type CommandIo, write } from './io.js';
import { escapeControls, formatBlock, formatTime, toJsonLine } from './text.js';

/**
 * Shows the policy of a device type.
 *
 * @throws SvcMqttError POLICY_NOT_FOUND, DATABASE_*.
 */
export async function showPolicy(
  config: Config,
  options: { readonly type: string; readonly json?: boolean | undefined },
  io: CommandIo,
): Promise<void> {
  const policy = await withDatabase(config, io, async (db) => {
    await requireSchema(db);
    return findPolicy(db, options.type);
  });
  if (policy === undefined) throw policyNotFound(options.type);
  await write(
    io.stdout,
    options.json === true ? toJsonLine(toPolicyJson(policy)) : formatBlock(toPolicyRows(policy)),
  );
}

/** A policy as names and values for people. */
export function toPolicyRows(policy: DevicePolicy): [string, string][] {
  const { publishRate, maxPacketBytes, natsSubject } = policy;
  const bySetting = (setting: string) => `as the server's ${setting}`;
  return [
    ['type', policy.type],
    ...toRows('publish', policy.publish),
    ...toRows('subscribe', policy.subscribe),
    ['publish rate', publishRate === null ? bySetting('setting') : `${publishRate} messages/s`],
    ['max packet', maxPacketBytes === null ? bySetting('MAX_PACKET_BYTES') : `${maxPacketBytes} bytes`],
    ['nats subject', natsSubject ?? bySetting('NATS_SUBJECT')],
    ['created', formatTime(policy.createdAt)],
    ['updated', formatTime(policy.updatedAt)],
  ];
}

function toRows(name: string, templates: readonly string[]): [string, string][] {
  if (templates.length === 0) return [[name, 'nothing']];
  return templates.map((template, index) => [index === 0 ? name : '', template]);
}

/** The error for a type without a policy. */
export function policyNotFound(type: string): SvcMqttError {
  return new SvcMqttError('POLICY_NOT_FOUND', `The type ${escapeControls(type)} has no policy of its own`, {
    suggestion: 'Its devices have the default; `svc-mqtt policy list` shows every policy',
  });
}
