import { toDatabaseError } from '../../db/connection/database-errors.js';
import type { Database } from '../../db/connection/open.js';
import type { ChangeFeed } from '../../db/feed/change-feed.js';
import { type DevicePolicy, loadPolicies } from '../../db/policies.js';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import { checkPolicy } from '../../policy.js';
import { checkTopicTemplate } from '../../topic-template.js';
import { openLiveTable } from './live-table.js';

/** There are few policies and each is in force all the time: to the live table all of them are one row. */
const all = 'all';

/**
 * Loads the policies, and again when they have changed; while the database is away the last known stay.
 *
 * @param options.onLoaded called with all policies after the first and after every further load.
 * @throws SvcMqttError INPUT_INVALID when there are too many, DATABASE_*: when the first load fails.
 */
export async function startPolicyDirectory(options: {
  db: Database;
  feed: ChangeFeed;
  log: Log;
  onLoaded(policies: readonly DevicePolicy[]): void;
}) {
  const { db, feed, log, onLoaded } = options;
  let started = false;
  let lastReason: string | undefined;
  const table = openLiveTable({
    feed,
    table: 'policies',
    limit: 1,
    rowsPerSweep: 0,
    fetch: async () => [{ id: all, policies: await loadPolicies(db) }],
    rowsInUse: () => [all],
    makeNote: () => undefined,
    onLoaded({ row }) {
      lastReason = undefined;
      onLoaded((row?.policies ?? []).map((policy) => requireSound(policy, log)));
    },
    onFailed(error) {
      const reason = messageOf(error);
      if (started && reason !== lastReason) {
        log.warn(
          { event: 'policies_not_loaded', reason },
          'Policies could not be loaded; the last known ones stay in force',
        );
      }
      lastReason = reason;
    },
  });
  const first = await table.load(all);
  if ('error' in first) {
    table.close();
    throw toDatabaseError(first.error, db.where);
  }
  started = true;
  return { close: () => table.close() };
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
