import { messageOf } from '../../../errors.js';
import { openKvBucket, ownText } from './kv-bucket.js';
import type { StateContext } from './state-stream.js';

export type Presence = ReturnType<typeof openPresence>;

const sayEveryMs = 3_000;
/** A replica that has said nothing for so long is dead. */
const aliveSec = 10;

/**
 * Which replicas live, for the sessions of those that died. `fleet/members.ts` is no second list of the same: it is there without
 * JetStream too, and replicas of before say nothing by it while nobody looks; `db/replicas.ts` counts those that share a database and no NATS.
 *
 * @param replica a name that no other replica has.
 */
export function openPresence(context: StateContext, replica: string) {
  const alive = new Set<string>();
  let fresh: Set<string> | undefined;
  const bucket = openKvBucket({
    ...context,
    name: 'svc-mqtt-replicas',
    description: 'Replicas of the gateway svc-mqtt that live',
    without: 'sessions of a replica that died do not expire before their client is back',
  });
  bucket.follower = {
    onBegin() {
      fresh = new Set();
    },
    onNews({ key, gone }) {
      for (const names of fresh === undefined ? [alive] : [alive, fresh]) {
        if (gone() === undefined) names.add(ownText(key));
        else names.delete(key);
      }
    },
    onCaughtUp() {
      for (const name of alive) if (fresh?.has(name) === false) alive.delete(name);
      fresh = undefined;
      say();
    },
  };

  function say(): void {
    if (!bucket.reachable || bucket.problem !== undefined) return;
    bucket.put(replica, '', { expected: undefined, ttlSec: aliveSec }).catch((error: unknown) => {
      context.log.debug({ event: 'presence_not_said', reason: messageOf(error) }, 'tried again');
    });
  }
  const timer = setInterval(say, sayEveryMs);
  timer.unref();

  return {
    /** It is known, as far as NATS has it. */
    get known(): boolean {
      return bucket.reachable && bucket.caughtUp && bucket.problem === undefined && alive.has(replica);
    },
    /** Names of the replicas that have said lately that they live, this one among them. */
    alive: alive as ReadonlySet<string>,
    /** This one is the first of them by name: what one is to do for all, it does. */
    get isFirst(): boolean {
      return [...alive].every((name) => replica <= name);
    },
    /** Takes this replica's name away. */
    async close(): Promise<void> {
      clearInterval(timer);
      if (bucket.reachable) await bucket.remove(replica, { expected: undefined }).catch(() => undefined);
      bucket.close();
    },
  };
}
