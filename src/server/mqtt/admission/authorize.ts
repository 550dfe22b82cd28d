import type { AckLevel } from '../../../ack-level.js';
import type { RefusalRule } from '../../../policy.js';
import { defaultTemplates, fillTemplate } from '../../../topic-template.js';
import { covers, matches } from '../protocol/topics.js';

/** Topics a device may use, as filters with `{id}` and `{type}`. */
export interface PolicyTemplate {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
  /** A subscription could match a publish, so what is published goes to MQTT subscribers too. */
  readonly localDelivery: boolean;
  /** Messages per second of one device; undefined: the server's setting. */
  readonly publishRate?: number | undefined;
  /** Largest packet after CONNECT, where it is less than the server's setting. */
  readonly maxPacketBytes?: number | undefined;
  /** Template of the NATS subject; undefined: the server's setting. */
  readonly natsSubject?: string | undefined;
  /** PUBACK and PUBREC say where a message is stored, for clients that can be told. */
  readonly receipts?: boolean | undefined;
  /** What becomes of a message that NATS refuses; undefined: it is withheld, and sent again until it is stored. */
  readonly onRefusal?: RefusalRule | undefined;
  /** What an acknowledgement is to be worth; undefined: the server's setting. */
  readonly ackLevel?: AckLevel | undefined;
}

/** What one device may do. Everything that is not allowed is denied; the order of the rules has no effect. */
export interface Policy {
  readonly localDelivery: boolean;
  readonly publishRate: number | undefined;
  /** Largest packet after CONNECT; Infinity: the server's setting alone. */
  readonly maxPacketBytes: number;
  readonly natsSubject: string | undefined;
  readonly receipts: boolean;
  readonly onRefusal: RefusalRule;
  readonly ackLevel: AckLevel | undefined;
  mayPublish(topic: string): boolean;
  maySubscribe(filter: string): boolean;
}

/** The default: a device reaches only its own topics. */
export const confinedTemplate: PolicyTemplate = {
  ...defaultTemplates,
  localDelivery: false,
};

/** `ACL=open`: as in the old service, every device may use every topic. */
export const openTemplate: PolicyTemplate = { publish: ['#'], subscribe: ['#'], localDelivery: true };

/** Makes the policy of one device. Topics that begin with `$` are never a device's, whatever the template says. */
export function compilePolicy(template: PolicyTemplate, device: { id: string; type: string }): Policy {
  // Filled when first asked for, which is not before the client publishes or subscribes.
  let publish: readonly string[] | undefined;
  let subscribe: readonly string[] | undefined;
  return {
    localDelivery: template.localDelivery,
    publishRate: template.publishRate,
    maxPacketBytes: template.maxPacketBytes ?? Number.POSITIVE_INFINITY,
    natsSubject: template.natsSubject,
    receipts: template.receipts ?? false,
    onRefusal: template.onRefusal ?? 'withhold',
    ackLevel: template.ackLevel,
    mayPublish(topic) {
      publish ??= fillTemplates(template.publish, device);
      return !topic.startsWith('$') && publish.some((filter) => matches(filter, topic));
    },
    maySubscribe(filter) {
      subscribe ??= fillTemplates(template.subscribe, device);
      return !filter.startsWith('$') && subscribe.some((allowed) => covers(allowed, filter));
    },
  };
}

/** A template that cannot be filled safely is left out. */
function fillTemplates(templates: readonly string[], device: { id: string; type: string }): string[] {
  return templates.flatMap((template) => fillTemplate(template, device) ?? []);
}
