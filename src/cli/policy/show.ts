import { type PolicyJson, toDefaultPolicyJson } from '../../api/policy.js';
import type { Config } from '../../config.js';
import { checkDeviceType, requireValid } from '../../db/devices/device-fields.js';
import { SvcMqttError } from '../../errors.js';
import { defaultRules, type RulesJson, toRulesJson } from '../../policy.js';
import { withStore } from '../store/open.js';
import { type CommandIo, write } from '../terminal/io.js';
import { blockTime, type FormatTime } from '../terminal/table.js';
import { escapeControls, formatBlock, toJsonLine } from '../terminal/text.js';

/**
 * Shows the policy of a device type; of a type without one the default, marked as such.
 *
 * @throws SvcMqttError INPUT_INVALID, DATABASE_*.
 */
export async function showPolicy(
  config: Config,
  options: { readonly type: string; readonly json?: boolean | undefined },
  io: CommandIo,
): Promise<void> {
  const { type } = options;
  requireValid('type', checkDeviceType(type));
  const policy = await withStore(config, io, ({ policies }) => policies.find(type), { endsAtOnce: true });
  const json = policy ?? toDefaultPolicyJson(type);
  const rows = policy === undefined ? toDefaultRows(type) : toPolicyRows(policy, blockTime(io));
  await write(io.stdout, options.json === true ? toJsonLine(json) : formatBlock(rows));
}

/** A policy as names and values for people. */
export function toPolicyRows(policy: PolicyJson, time: FormatTime): [string, string][] {
  return [
    ['type', policy.type],
    ...spreadTemplates(policy),
    ['created', time(policy.created_at)],
    ['updated', time(policy.updated_at)],
  ];
}

function toDefaultRows(type: string): [string, string][] {
  return [
    ['type', type],
    ['policy', 'none of its own; the default holds'],
    ...spreadTemplates(toRulesJson(defaultRules)),
  ];
}

/** The rows of `toRuleRows`, with a line for each template. */
function spreadTemplates(rules: RulesJson): [string, string][] {
  return toRuleRows(rules).flatMap(([name, value]): [string, string][] => {
    const templates = name === 'publish' || name === 'subscribe' ? rules[name] : [];
    if (templates.length === 0) return [[name, value]];
    return templates.map((template, index) => [index === 0 ? name : '', template]);
  });
}

/** What a policy says, as names and values for people, each value on one line. */
export function toRuleRows(rules: RulesJson): [string, string][] {
  const {
    publish,
    subscribe,
    publish_rate: rate,
    max_packet_bytes: bytes,
    nats_subject: subject,
    ack_level: level,
    on_refusal: rule,
    receipts,
  } = rules;
  const bySetting = (setting: string) => `as the server's ${setting}`;
  const listed = (templates: readonly string[]) => (templates.length === 0 ? 'nothing' : templates.join(' '));
  return [
    ['publish', listed(publish)],
    ['subscribe', listed(subscribe)],
    ['publish rate', rate === null ? bySetting('setting') : `${rate} messages/s`],
    ['max packet', bytes === null ? bySetting('MAX_PACKET_BYTES') : `${bytes} bytes`],
    ['nats subject', subject ?? bySetting('NATS_SUBJECT')],
    ['ack level', level ?? bySetting('ACK_LEVEL')],
    ['on refusal', rule ?? 'withhold'],
    ['receipts', receipts === true ? 'always' : 'where the client asks for them'],
  ];
}

/** The error for a type without a policy. */
export function policyNotFound(type: string): SvcMqttError {
  return new SvcMqttError('POLICY_NOT_FOUND', `The type ${escapeControls(type)} has no policy of its own`, {
    suggestion: 'Its devices have the default; `svc-mqtt policy list` shows every policy',
  });
}
