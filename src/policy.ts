import { type AckLevel, ackLevels } from './ack-level.js';
import { checkSubjectTemplate } from './subject-template.js';
import { checkTopicTemplate, defaultTemplates, templatesMeet } from './topic-template.js';

/** What a client that can be told learns of a message that NATS refuses: nothing until it is stored, or the reason. */
export type RefusalRule = (typeof refusalRules)[number];
export const refusalRules = ['withhold', 'answer'] as const;

/** What a policy says of the devices of its type. */
export interface PolicyRules {
  /** Templates of the topics to publish to; none: nothing. */
  readonly publish: readonly string[];
  /** Templates of the filters to subscribe to; none: nothing. */
  readonly subscribe: readonly string[];
  /** Messages per second of one device; null: the server's setting. */
  readonly publishRate: number | null;
  /** Largest packet after CONNECT; null: the server's setting, which also holds where it is less. */
  readonly maxPacketBytes: number | null;
  /** Template of the NATS subject; null: the server's setting. */
  readonly natsSubject: string | null;
  /** What an acknowledgement is to be worth; null: the server's setting. */
  readonly ackLevel: AckLevel | null;
  /** Null: `withhold`. */
  readonly onRefusal: RefusalRule | null;
  /** PUBACK and PUBREC tell where a message is stored; null: where the client asks for it. */
  readonly receipts: boolean | null;
}

/** What holds for a type without a policy. */
export const defaultRules: PolicyRules = {
  ...defaultTemplates,
  publishRate: null,
  maxPacketBytes: null,
  natsSubject: null,
  ackLevel: null,
  onRefusal: null,
  receipts: null,
};

/** What is wrong with one field of a policy, in words that follow its name. */
export interface PolicyFault {
  readonly field:
    | 'publish'
    | 'subscribe'
    | 'publish_rate'
    | 'max_packet_bytes'
    | 'nats_subject'
    | 'ack_level'
    | 'on_refusal';
  readonly problem: string;
}

/** Most templates in each of the two lists. */
export const maxTemplates = 16;
export const maxPublishRate = 1_000_000;
/** A packet must be able to carry a subscription and a short message. */
export const minPacketBytes = 128;
/** The largest packet of MQTT 3.1.1 (§2.2.3). */
export const mostPacketBytes = 268_435_460;
export const maxSubjectLength = 256;

/** Checks a policy; answers every fault. */
export function checkPolicy(rules: PolicyRules): PolicyFault[] {
  const faults: PolicyFault[] = [];
  for (const field of ['publish', 'subscribe'] as const) {
    const templates = rules[field];
    if (templates.length > maxTemplates) {
      faults.push({ field, problem: `must not have more than ${maxTemplates} templates` });
    }
    for (const template of templates.slice(0, maxTemplates)) {
      const problem = checkTopicTemplate(template);
      if (problem !== undefined) faults.push({ field, problem: `${JSON.stringify(template)} ${problem}` });
    }
    if (new Set(templates).size < templates.length) faults.push({ field, problem: 'has a template twice' });
  }
  const { publishRate, maxPacketBytes, natsSubject, ackLevel } = rules;
  if (publishRate !== null && !isWholeNumber(publishRate, 1, maxPublishRate)) {
    faults.push({ field: 'publish_rate', problem: `must be a whole number from 1 to ${maxPublishRate}` });
  }
  if (maxPacketBytes !== null && !isWholeNumber(maxPacketBytes, minPacketBytes, mostPacketBytes)) {
    const problem = `must be a whole number from ${minPacketBytes} to ${mostPacketBytes}`;
    faults.push({ field: 'max_packet_bytes', problem });
  }
  const problem = natsSubject === null ? undefined : checkSubject(natsSubject);
  if (problem !== undefined) faults.push({ field: 'nats_subject', problem });
  if (ackLevel !== null && !ackLevels.includes(ackLevel)) {
    faults.push({ field: 'ack_level', problem: `must be one of ${ackLevels.join(', ')}` });
  }
  const { onRefusal } = rules;
  if (onRefusal !== null && !refusalRules.includes(onRefusal)) {
    faults.push({ field: 'on_refusal', problem: `must be one of ${refusalRules.join(', ')}` });
  }
  return faults;
}

function isWholeNumber(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}

function checkSubject(template: string): string | undefined {
  const shown = JSON.stringify(template.slice(0, maxSubjectLength));
  if (template.length > maxSubjectLength) return `must not be longer than ${maxSubjectLength} characters`;
  const problem = checkSubjectTemplate(template);
  return problem === undefined ? undefined : `cannot be ${shown}: ${problem}`;
}

/**
 * What a sound policy allows that its author should know of, each as one sentence: topics that devices of the type
 * share, and a packet size without effect.
 *
 * @param serverMaxPacketBytes MAX_PACKET_BYTES, as far as the caller knows it.
 */
export function describeRisks(rules: PolicyRules, serverMaxPacketBytes: number): string[] {
  const { publish, subscribe, maxPacketBytes } = rules;
  const risks: string[] = [];
  for (const template of publish.filter(isShared)) {
    risks.push(
      `publish ${JSON.stringify(template)} has no {id}: every device of the type may publish to the topics of the others`,
    );
  }
  for (const template of subscribe.filter(isShared)) {
    risks.push(
      `subscribe ${JSON.stringify(template)} has no {id}: every device of the type may read what the others may`,
    );
  }
  const [own, ownRead] = [publish.filter(isOwn), subscribe.filter(isOwn)];
  own.forEach((one, index) => {
    for (const other of own.slice(index + 1)) {
      if (!templatesMeet(one, other)) continue;
      risks.push(
        `publish ${JSON.stringify(one)} of one device can be publish ${JSON.stringify(other)} of another`,
      );
    }
  });
  for (const read of ownRead) {
    for (const written of own) {
      if (!templatesMeet(read, written)) continue;
      risks.push(
        `subscribe ${JSON.stringify(read)} lets a device read what another publishes to ${JSON.stringify(written)}`,
      );
    }
  }
  if (maxPacketBytes !== null && maxPacketBytes > serverMaxPacketBytes) {
    risks.push(`max_packet_bytes is over MAX_PACKET_BYTES (${serverMaxPacketBytes}), which holds`);
  }
  return risks;
}

function isOwn(template: string): boolean {
  return template.includes('{id}');
}

function isShared(template: string): boolean {
  return !isOwn(template);
}

export type RulesJson = ReturnType<typeof toRulesJson>;

/** What a policy says, without its type and times. */
export function toRulesJson(rules: PolicyRules) {
  return {
    publish: [...rules.publish],
    subscribe: [...rules.subscribe],
    publish_rate: rules.publishRate,
    max_packet_bytes: rules.maxPacketBytes,
    nats_subject: rules.natsSubject,
    ack_level: rules.ackLevel,
    on_refusal: rules.onRefusal,
    receipts: rules.receipts,
  };
}

/** The fields of a policy that are given in the form of the API; null: as without a policy. */
export function readRulesJson(json: Readonly<Record<string, unknown>>): Partial<PolicyRules> {
  return Object.fromEntries(
    (Object.keys(defaultRules) as (keyof PolicyRules)[]).flatMap((field) => {
      const given = json[ruleName(field)];
      return given === undefined ? [] : [[field, given ?? defaultRules[field]]];
    }),
  );
}

/** The name of a field in the API: `publishRate` is `publish_rate`. */
export function ruleName(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
