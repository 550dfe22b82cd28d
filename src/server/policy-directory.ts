import type { Database } from '../db/open.js';
import { type DevicePolicy, loadPolicies } from '../db/policies.js';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';
import { checkPolicy } from '../policy.js';
import { checkTopicTemplate } from '../topic-template.js';

/** All policies in memory, loaded again when they may have changed; while the database is away the last known stay. */
export interface PolicyDirectory {
  /** The policies may have changed. */
  reload(): void;
  close(): void;
}

const retryMs = 1_000;

/**
 * Loads the policies and keeps them true.
 *
 * @param options.onLoaded called with all policies after the first and after every further load.
 * @throws SvcMqttError INPUT_INVALID when there are too many, DATABASE_*: when the first load fails.
 */
export async function startPolicyDirectory(options: {
  db: Database;
  log: Log;
  onLoaded(policies: readonly DevicePolicy[]): void;
}): Promise<PolicyDirectory> {
  const { db, log, onLoaded } = options;
  let closed = false;
  let wanted = false;
  let loading = false;
  let lastReason: string | undefined;
  let retry: NodeJS.Timeout | undefined;

  const load = async () => {
    const policies = (await loadPolicies(db)).map((policy) => requireSound(policy, log));
    if (!closed) onLoaded(policies);
  };
  const keepLoading = async () => {
    while (wanted && !closed) {
      wanted = false;
      try {
        await load();
        lastReason = undefined;
      } catch (error) {
        wanted = true;
        const reason = messageOf(error);
        if (reason !== lastReason) {
          log.warn(
            { event: 'policies_not_loaded', reason },
            'Policies could not be loaded; the last known ones stay in force',
          );
        }
        lastReason = reason;
        await new Promise<void>((resolve) => {
          retry = setTimeout(resolve, retryMs);
          retry.unref();
        });
      }
    }
    loading = false;
  };
  await load();
  return {
    reload() {
      wanted = true;
      if (loading || closed) return;
      loading = true;
      void keepLoading();
    },
    close() {
      closed = true;
      clearTimeout(retry);
    },
  };
}

/** A policy written by hand in SQL can be unsound: what is wrong in it allows nothing. */
function requireSound(policy: DevicePolicy, log: Log): DevicePolicy {
  const faults = checkPolicy(policy);
  if (faults.length === 0) return policy;
  const problems = faults.map(({ field, problem }) => `${field} ${problem}`);
  log.warn(
    { event: 'policy_unsound', type: policy.type, problems },
    'A policy in the database is unsound; what is wrong in it allows nothing',
  );
  const sound = (templates: readonly string[]) =>
    templates.filter((template) => checkTopicTemplate(template) === undefined);
  const badSubject = faults.some(({ field }) => field === 'nats_subject');
  return {
    ...policy,
    publish: badSubject ? [] : sound(policy.publish),
    subscribe: sound(policy.subscribe),
    natsSubject: badSubject ? null : policy.natsSubject,
  };
}
