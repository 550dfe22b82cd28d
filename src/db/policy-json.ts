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
    publish: [...policy.publish],
    subscribe: [...policy.subscribe],
    publish_rate: policy.publishRate,
    max_packet_bytes: policy.maxPacketBytes,
    nats_subject: policy.natsSubject,
    created_at: policy.createdAt.toISOString(),
    updated_at: policy.updatedAt.toISOString(),
  };
}
