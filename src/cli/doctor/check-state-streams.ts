import type { Config } from '../../config.js';
import type { DevicePolicy } from '../../db/policies.js';
import { isAtLeast } from '../../server/forward/connection/server-version.js';
import { messagesStream, messagesSubjects } from '../../server/forward/state/fleet-messages.js';
import { retainedStream, retainedSubjects } from '../../server/forward/state/retained-store.js';
import type { NatsInspector, StreamInspection } from '../../server/forward/stream/inspect-nats.js';
import { createPolicySet } from '../../server/mqtt/admission/policy-set.js';
import { formatCount } from '../terminal/text.js';
import { type Finding, ok, warning } from './finding.js';

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
  config: Config,
  around: { policies: readonly DevicePolicy[]; serverRuns: boolean },
  inspector: NatsInspector,
  uplink: StreamInspection | undefined,
): Promise<Finding[]> {
  const isShared = createPolicySet(config.acl, around.policies).anyDelivery;
  return [
    ...(await check('sessions', buckets, around, inspector, uplink)),
    ...(isShared ? await check('stream', sharedStreams, around, inspector, uplink) : []),
  ];
}

async function check(
  label: string,
  kinds: readonly StateStreamKind[],
  around: { serverRuns: boolean },
  inspector: NatsInspector,
  uplink: StreamInspection | undefined,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const { name, subjects, what, without } of kinds) {
    const found = (await inspector.findStreams(subjects)).find((stream) => stream.covering);
    if (!isAtLeast(inspector.version, 2, 11)) {
      findings.push(warning(label, `NATS ${inspector.version}: ${without}`, 'Run nats-server 2.11 or later'));
    } else if (found !== undefined) {
      findings.push(checkStateStream(label, found, name, what, uplink));
    } else if (around.serverRuns) {
      const action = `See state_stream_unusable in the log, and let the user of svc-mqtt make ${name} (docs/services.md)`;
      findings.push(warning(label, `There is no stream ${name}: ${without}`, action));
    } else {
      findings.push(ok(label, `serve creates ${name} for ${what}`));
    }
  }
  return findings;
}

function checkStateStream(
  label: string,
  { name, replicas, inMemory, lagging, hasLeader, messages }: StreamInspection,
  expected: string,
  what: string,
  uplink: StreamInspection | undefined,
): Finding {
  const find = (detail: string, action: string) => warning(label, detail, action);
  if (name !== expected)
    return find(
      `Stream ${name} takes the subjects of ${expected}, which cannot be made beside it`,
      `Take them from ${name}, so that svc-mqtt can make ${expected}`,
    );
  if (!hasLeader) return find(`Stream ${name} has no leader`, 'Bring back the servers of its cluster');
  if (lagging.length > 0)
    return find(
      `Replicas of stream ${name} lag or are away: ${lagging.join(', ')}`,
      'Bring them back before another one fails',
    );
  if (uplink !== undefined && replicas < uplink.replicas)
    return find(
      `Stream ${name} is on ${formatCount(replicas, 'server')}, ${uplink.name} on ${uplink.replicas}`,
      `Run: nats stream edit ${name} --replicas ${uplink.replicas}`,
    );
  if (inMemory && uplink?.inMemory === false)
    return find(
      `Stream ${name} keeps ${what} in memory: they are lost when its server ends`,
      'Remove it; svc-mqtt makes it again with file storage',
    );
  return ok(label, `Stream ${name} holds ${formatCount(messages, 'message')}: ${what}`);
}
