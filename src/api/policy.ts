import type { Static } from 'typebox';
import type { DevicePolicy } from '../db/policies.js';
import { defaultRules, toRulesJson } from '../policy.js';
import type * as schema from './policy-schema.js';

export type PolicyJson = Static<typeof schema.PolicyResponse>;
export type PolicyPageJson = Static<typeof schema.PolicyPage>;
/** A policy just set, with warnings. */
export type SetPolicyJson = Static<typeof schema.SetPolicyResponse>;

export function toPolicyJson(policy: DevicePolicy): PolicyJson {
  return {
    type: policy.type,
    ...toRulesJson(policy),
    created_at: policy.createdAt.toISOString(),
    updated_at: policy.updatedAt.toISOString(),
  };
}

/** What holds for a type without a policy, in the same form, and marked. */
export function toDefaultPolicyJson(type: string) {
  return { type, ...toRulesJson(defaultRules), created_at: null, updated_at: null, default: true };
}
