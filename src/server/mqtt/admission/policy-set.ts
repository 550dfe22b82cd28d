import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../../../config.js';
import type { DevicePolicy } from '../../../db/policies.js';
import { filtersOverlap, widenTemplate } from '../../../topic-template.js';
import { confinedTemplate, openTemplate, type PolicyTemplate } from './authorize.js';

/** The templates of all device types. */
export interface PolicySet {
  /** What some type publishes can reach subscribers. */
  readonly anyDelivery: boolean;
  templateOf(type: string): PolicyTemplate;
}

/**
 * Makes the templates of all device types from what the database holds.
 *
 * What a type publishes goes to MQTT subscribers where any type's subscriptions could match it, so a policy of one
 * type can change the template of another. A template that stays the same stays the same object.
 *
 * With `ACL=open` topics are open whatever policies say; their rates, packet sizes and subjects hold.
 */
export function createPolicySet(
  acl: Config['acl'],
  policies: readonly DevicePolicy[],
  before?: PolicySet,
): PolicySet {
  const base = acl === 'open' ? openTemplate : confinedTemplate;
  const drafts = new Map(policies.map((policy) => [policy.type, draftOf(policy, base, acl)]));
  const subscribed = [base, ...drafts.values()].flatMap(({ subscribe }) => subscribe.map(widenTemplate));
  const uniqueSubscribed = [...new Set(subscribed)];
  const finish = (draft: PolicyTemplate, previous: PolicyTemplate | undefined): PolicyTemplate => {
    const template = { ...draft, localDelivery: reachesSubscribers(draft, uniqueSubscribed) };
    return previous !== undefined && isSame(template, previous) ? previous : template;
  };
  // No type is the empty text, so that its template is the default.
  const fallback = finish(base, before?.templateOf(''));
  const templates = new Map(
    [...drafts].map(([type, draft]) => [type, finish(draft, before?.templateOf(type))]),
  );
  return {
    anyDelivery: [fallback, ...templates.values()].some(({ localDelivery }) => localDelivery),
    templateOf: (type) => templates.get(type) ?? fallback,
  };
}

function draftOf(policy: DevicePolicy, base: PolicyTemplate, acl: Config['acl']): PolicyTemplate {
  return {
    publish: acl === 'open' ? base.publish : policy.publish,
    subscribe: acl === 'open' ? base.subscribe : policy.subscribe,
    localDelivery: false,
    publishRate: policy.publishRate ?? undefined,
    maxPacketBytes: policy.maxPacketBytes ?? undefined,
    natsSubject: policy.natsSubject ?? undefined,
    onRefusal: policy.onRefusal ?? undefined,
    receipts: policy.receipts ?? undefined,
    ackLevel: policy.ackLevel ?? undefined,
  };
}

function reachesSubscribers({ publish }: PolicyTemplate, subscribed: readonly string[]): boolean {
  return publish.some((template) => {
    const filter = widenTemplate(template);
    return subscribed.some((other) => filtersOverlap(filter, other));
  });
}

/** What a template leaves out is the same as what it has undefined. */
function isSame(one: PolicyTemplate, other: PolicyTemplate): boolean {
  const names = Object.keys({ ...one, ...other }) as (keyof PolicyTemplate)[];
  return names.every((name) => isDeepStrictEqual(one[name], other[name]));
}
