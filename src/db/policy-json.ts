import { defaultRules, type PolicyRules } from '../policy.js';
import type { DevicePolicy } from './policies.js';

/** The one form in which machines get policies, from the HTTP API and from `--json` alike. */
export interface PolicyJson {
  readonly type: string;
  readonly publish: string[];
  readonly subscribe: string[];
  readonly publish_rate: number | null;
  readonly max_packet_bytes: number | null;
  readonly nats_subject: string | null;
  readonly created_at: string;
  readonly updated_at: string;
}

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

/** What a policy says, without its type and times. */
export function toRulesJson(rules: PolicyRules) {
  return {
    publish: [...rules.publish],
    subscribe: [...rules.subscribe],
    publish_rate: rules.publishRate,
    max_packet_bytes: rules.maxPacketBytes,
    nats_subject: rules.natsSubject,
  };
}
