import type { AckLevel } from '../../ack-level.js';
import { defaultRules, type PolicyRules, type RefusalRule } from '../../policy.js';
import { usageError } from '../command/usage-error.js';

/** What `policy set` is asked to change; what is left out stays. */
export interface PolicySetOptions {
  /** False: nothing. */
  readonly publish?: readonly string[] | false;
  readonly subscribe?: readonly string[] | false;
  readonly publishRate?: number;
  readonly maxPacketBytes?: number;
  readonly natsSubject?: string;
  readonly ackLevel?: AckLevel;
  readonly onRefusal?: RefusalRule;
  readonly receipts?: boolean;
  /** Fields that are to be as without a policy. */
  readonly default?: readonly ResettableField[];
}

/** The fields of a policy, named as their options are. */
const fields = {
  publish: 'publish',
  subscribe: 'subscribe',
  'publish-rate': 'publishRate',
  'max-packet-bytes': 'maxPacketBytes',
  'nats-subject': 'natsSubject',
  'ack-level': 'ackLevel',
  'on-refusal': 'onRefusal',
  receipts: 'receipts',
} as const satisfies Record<string, keyof PolicyRules>;

export type ResettableField = keyof typeof fields;
export const resettableFields = Object.keys(fields) as ResettableField[];

/** A parser of templates for an option that may be repeated, and that its `--no-` form contradicts. */
export function collectTemplates(name: string): (value: string, before: unknown) => readonly string[] {
  return (value, before) => {
    if (before === false) throw contradiction(`--${name}`, `--no-${name}`);
    return [...(Array.isArray(before) ? before : []), value];
  };
}

/** The parser of the `--no-` form. */
export function refuseTemplates(name: string): (value: unknown, before: unknown) => false {
  return (_value, before) => {
    if (Array.isArray(before)) throw contradiction(`--${name}`, `--no-${name}`);
    return false;
  };
}

/** A parser of fields for an option that may be repeated. */
export function collectFields(value: string, before: readonly string[] = []): readonly string[] {
  if (Object.hasOwn(fields, value)) return [...before, value];
  throw usageError(`--default cannot be "${value}": it must be one of ${resettableFields.join(', ')}`);
}

/**
 * What the options change of a policy.
 *
 * @throws SvcMqttError USAGE when they change nothing or contradict each other.
 */
export function toPolicyChanges(options: PolicySetOptions): Partial<PolicyRules> {
  const changes: Partial<Record<keyof PolicyRules, unknown>> = {};
  for (const name of resettableFields) {
    const field = fields[name];
    const given = options[field];
    const reset = options.default?.includes(name) === true;
    if (reset && given !== undefined) {
      throw contradiction(`--default ${name}`, given === false ? `--no-${name}` : `--${name}`);
    }
    if (reset) changes[field] = defaultRules[field];
    else if (given !== undefined) changes[field] = given === false ? [] : given;
  }
  if (Object.keys(changes).length > 0) return changes as Partial<PolicyRules>;
  throw usageError(
    'policy set needs something to change, such as --publish-rate 10',
    '`svc-mqtt policy show TYPE` shows what holds, `svc-mqtt policy remove TYPE` gives the type the default again',
  );
}

function contradiction(one: string, other: string) {
  return usageError(`${one} and ${other} contradict each other`, 'Give one of them');
}
