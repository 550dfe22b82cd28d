import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { parseTold } from '../forward/fleet/fleet-telling.js';
import type { NatsInspector } from '../forward/stream/inspect-nats.js';
import type { Identity } from './members.js';
import { answers, type Health, presence } from './wire.js';

/** A replica that was there, and what it says of itself. */
export interface InspectedReplica extends Identity {
  /** Undefined: it has said nothing, or nothing that is understood. */
  readonly health: Health | undefined;
  /** Why it has not. */
  readonly detail: string;
  /** `Date.now()` around the question. */
  readonly askedMs: number;
  readonly answeredMs: number;
}

const subject = 'svc-mqtt.fleet.here';
/** As long as replicas wait for each other. */
const heardWithinMs = 500;

/**
 * Asks all replicas how they are, as one that comes and goes would. One that does not answer is known by what the others
 * know.
 */
export async function inspectFleet(
  nats: Pick<NatsInspector, 'watch' | 'tell' | 'ask'>,
  own: { readonly host: string; readonly version: string },
): Promise<InspectedReplica[]> {
  const self = { ...own, replica: randomBytes(3).toString('hex') };
  const here = await nats.watch(subject);
  nats.tell(subject, JSON.stringify({ ...self, asks: true }));
  await delay(heardWithinMs);
  nats.tell(subject, JSON.stringify({ ...self, leaves: true }));

  const found = new Map<string, Identity>();
  const gone = new Set([self.replica]);
  for (const message of here.received.map(parseTold)) {
    if (!presence.Check(message)) continue;
    if (message.leaves === true) gone.add(message.replica);
    else found.set(message.replica, message);
  }
  const heard = new Set(found.keys());
  for (const replica of gone) found.delete(replica);

  const inspect = async ({ replica, host, version }: Identity) => {
    const askedMs = Date.now();
    const told = await nats.ask(replica, 'health', {});
    const times = { askedMs, answeredMs: Date.now() };
    if ('answer' in told && answers.health.Check(told.answer) && told.answer.replica === replica)
      return { replica, host, version, health: told.answer, detail: '', ...times };
    const isAbsent = 'failed' in told && told.failed === 'absent';
    if (isAbsent && !heard.has(replica)) return [];
    const detail = isAbsent
      ? 'is of a version that cannot be asked how it is'
      : 'answer' in told
        ? 'answered in a form that is not understood'
        : told.detail;
    return { replica, host, version, health: undefined, detail, ...times };
  };

  const inspected = (await Promise.all([...found.values()].map(inspect))).flat();
  const others = new Map(
    inspected
      .flatMap(({ health }) => health?.others ?? [])
      .filter(({ replica }) => !found.has(replica) && !gone.has(replica))
      .map((other) => [other.replica, other]),
  );
  return [...inspected, ...(await Promise.all([...others.values()].map(inspect))).flat()].sort((a, b) =>
    a.replica < b.replica ? -1 : 1,
  );
}
