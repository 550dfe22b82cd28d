import type { Config } from '../../config.js';
import type { DevicePolicy } from '../../db/policies.js';
import { isAtLeast } from '../../server/forward/connection/server-version.js';
import { messagesStream, messagesSubjects } from '../../server/forward/state/fleet-messages.js';
import { retainedStream, retainedSubjects } from '../../server/forward/state/retained-store.js';
import type { NatsInspector, StreamInspection } from '../../server/forward/stream/inspect-nats.js';
import { createPolicySet } from '../../server/mqtt/admission/policy-set.js';
import { formatCount } from '../terminal/text.js';
import type { Check } from './finding.js';

interface StateStreamKind {
  readonly name: string;
  readonly subjects: string;
  /** What it holds. */
  readonly what: string;
  /** What becomes of that without it. */
  readonly without: string;
}

/** Streams that svc-mqtt makes for itself once a policy lets devices reach each other. */
const sharedStreams: readonly StateStreamKind[] = [
  {
    name: retainedStream,
    subjects: retainedSubjects,
    what: 'retained messages',
    without: 'retained messages are those of each replica and end with it',
  },
  {
    name: messagesStream,
    subjects: messagesSubjects,
    what: 'messages between devices, for other replicas and for sessions that are away',
    without: 'messages between devices stay on the replica to which they were published',
  },
];

/** Buckets that svc-mqtt makes for itself. */
const buckets: readonly StateStreamKind[] = [
  {
    name: 'KV_svc-mqtt-sessions',
    subjects: '$KV.svc-mqtt-sessions.>',
    what: 'sessions',
    without: 'sessions are in the memory of each replica and end with it',
  },
  {
    name: 'KV_svc-mqtt-replicas',
    subjects: '$KV.svc-mqtt-replicas.>',
    what: 'which replicas live',
    without: 'sessions of a replica that died do not expire before their client is back',
  },
];

/** Looks whether sessions, and what replicas share where there is anything to share, can be kept. */
export async function checkStateStreams(
  check: Check,
  config: Config,
  around: { policies: readonly DevicePolicy[]; serverRuns: boolean },
  inspector: NatsInspector,
  uplink: StreamInspection | undefined,
): Promise<void> {
  const isShared = createPolicySet(config.acl, around.policies).anyDelivery;
  const look = async ({ ok, warning }: Check, kind: StateStreamKind) => {
    const { name, subjects, what, without } = kind;
    const found = (await inspector.findStreams(subjects)).find((stream) => stream.covering);
    if (!isAtLeast(inspector.version, 2, 11))
      warning(`NATS ${inspector.version}: ${without}`, 'Run nats-server 2.11 or later');
    else if (found !== undefined) checkStateStream({ ok, warning }, found, kind, uplink);
    else if (around.serverRuns)
      warning(
        `There is no stream ${name}: ${without}`,
        `See state_stream_unusable in the log, and let the user of svc-mqtt make ${name} (docs/services.md)`,
      );
    else ok(`serve creates ${name} for ${what}`);
  };
  for (const kind of buckets) await look(check.named('sessions'), kind);
  for (const kind of isShared ? sharedStreams : []) await look(check, kind);
}

function checkStateStream(
  { ok, warning }: Pick<Check, 'ok' | 'warning'>,
  { name, replicas, inMemory, lagging, hasLeader, messages }: StreamInspection,
  { name: expected, what }: StateStreamKind,
  uplink: StreamInspection | undefined,
): void {
  if (name !== expected)
    warning(
      `Stream ${name} takes the subjects of ${expected}, which cannot be made beside it`,
      `Take them from ${name}, so that svc-mqtt can make ${expected}`,
    );
  else if (!hasLeader) warning(`Stream ${name} has no leader`, 'Bring back the servers of its cluster');
  else if (lagging.length > 0)
    warning(
      `Replicas of stream ${name} lag or are away: ${lagging.join(', ')}`,
      'Bring them back before another one fails',
    );
  else if (uplink !== undefined && replicas < uplink.replicas)
    warning(
      `Stream ${name} is on ${formatCount(replicas, 'server')}, ${uplink.name} on ${uplink.replicas}`,
      `Run: nats stream edit ${name} --replicas ${uplink.replicas}`,
    );
  else if (inMemory && uplink?.inMemory === false)
    warning(
      `Stream ${name} keeps ${what} in memory: they are lost when its server ends`,
      'Remove it; svc-mqtt makes it again with file storage',
    );
  else ok(`Stream ${name} holds ${formatCount(messages, 'message')}: ${what}`);
}
