import { type PolicyJson, toDefaultPolicyJson } from '../../api/policy.js';
import { checkDeviceType, requireValid } from '../../db/devices/device-fields.js';
import { SvcMqttError } from '../../errors.js';
import { defaultRules, type RulesJson, toRulesJson } from '../../policy.js';
import type { Call } from '../command/command.js';
import { listStored } from '../store/list.js';
import { readStore, withStore } from '../store/open.js';
import { confirm } from '../terminal/ask.js';
import { write } from '../terminal/io.js';
import type { ListColumn } from '../terminal/listing.js';
import { blockTime, type FormatTime } from '../terminal/table.js';
import { escapeControls, formatBlock, listRows, toJsonLine } from '../terminal/text.js';
import { type PolicySetOptions, toPolicyChanges } from './options.js';

/** Lists all policies in order of type. @throws SvcMqttError DATABASE_*. */
export async function listPolicies(call: Call): Promise<void> {
  await listStored(call, {
    read: ({ policies }, limit) => policies.list({ limit }),
    columns: () => columns,
    none: 'No policies: every device has the default.',
  });
}

const listed = (templates: readonly string[]) => (templates.length === 0 ? 'nothing' : templates.join(' '));

const columns: readonly ListColumn<PolicyJson>[] = [
  { title: 'TYPE', keep: 16, text: ({ type }) => type },
  { title: 'RATE', text: ({ publish_rate: rate }) => (rate === null ? '-' : `${rate}/s`) },
  {
    title: 'MAX PACKET',
    text: ({ max_packet_bytes: bytes }) => (bytes === null ? '-' : `${bytes}`),
  },
  { title: 'NATS SUBJECT', text: ({ nats_subject: subject }) => subject ?? '-' },
  { title: 'ACK', text: ({ ack_level: level }) => level ?? '-' },
  { title: 'PUBLISH', text: ({ publish }) => listed(publish) },
  { title: 'SUBSCRIBE', text: ({ subscribe }) => listed(subscribe) },
];

/**
 * Shows the policy of a device type; of a type without one the default, marked as such.
 *
 * @throws SvcMqttError INPUT_INVALID, DATABASE_*.
 */
export async function showPolicy({ config, options, args: [type = ''], io }: Call): Promise<void> {
  requireValid('type', checkDeviceType(type));
  const policy = await readStore(config, io, ({ policies }) => policies.find(type));
  const json = policy ?? toDefaultPolicyJson(type);
  const rows = policy === undefined ? toDefaultRows(type) : toPolicyRows(policy, blockTime(io));
  await write(io.stdout, options.json === true ? toJsonLine(json) : formatBlock(rows));
}

/** A policy as names and values for people. */
function toPolicyRows(policy: PolicyJson, time: FormatTime): [string, string][] {
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
    return listRows(name, templates.length === 0 ? [value] : templates);
  });
}

/** What a policy says, as names and values for people, each value on one line. */
function toRuleRows(rules: RulesJson): [string, string][] {
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

/**
 * Changes the policy of a device type in the fields that options name, says what is different now, and warns of what
 * the policy allows, and of a subject that no stream covers.
 *
 * @throws SvcMqttError USAGE, INPUT_INVALID, DATABASE_*.
 */
export async function setPolicy(call: Call<PolicySetOptions>): Promise<void> {
  const {
    config,
    options,
    args: [type = ''],
    io,
  } = call;
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

/**
 * Removes the policy of a device type, after asking on a terminal.
 *
 * @returns the exit status: 1 when the question was answered with no.
 * @throws SvcMqttError USAGE without a terminal to ask on, POLICY_NOT_FOUND, DATABASE_*.
 */
export async function removePolicy({ config, options, args: [type = ''], io }: Call): Promise<number> {
  const question = {
    doing: 'Removing',
    text: `Remove the policy of ${escapeControls(type)}? Its devices have the default at once, and nothing brings the policy back.`,
    declined: 'Nothing was removed.',
  };
  if (!(await confirm(question, options.yes, io))) return 1;
  const removed = await withStore(config, io, ({ policies }) => policies.remove(type));
  if (!removed) {
    const detail = `The type ${escapeControls(type)} has no policy of its own`;
    throw new SvcMqttError('POLICY_NOT_FOUND', detail, {
      suggestion: 'Its devices have the default; `svc-mqtt policy list` shows every policy',
    });
  }
  const text = `${escapeControls(type)}: removed; its devices have the default\n`;
  await write(io.stdout, options.json === true ? toJsonLine({ type, outcome: 'removed' }) : text);
  return 0;
}
