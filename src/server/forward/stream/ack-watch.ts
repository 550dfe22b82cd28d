import { setTimeout as delay } from 'node:timers/promises';
import type { AckLevel } from '../../../ack-level.js';
import { SvcMqttError } from '../../../errors.js';
import type { Log } from '../../../log.js';
import type { NatsConnection } from '../connection/nats-library.js';
import type { Standstill } from '../lanes/standstill.js';
import { type Breach, type Durability, judgeDurability } from './durability.js';
import type { ServerSync } from './server-sync.js';
import type { StreamKeeping } from './stream-config.js';

/** What every acknowledgement is to be worth. */
export interface AckPromise {
  readonly level: AckLevel;
  /** Where it does not hold: acknowledge nothing, or say so and go on. */
  readonly onBreach: 'refuse' | 'warn';
  readonly sync: ServerSync;
}

/** So long a start waits until a level is known to hold. */
const knownWithinMs = 3_000;
const pollMs = 250;

/** Holds the promise against the stream and its servers. @throws SvcMqttError ACK_LEVEL when the level cannot be kept, or is not known to be. */
export async function openAckWatch(
  promise: AckPromise,
  log: Log,
  first: { connection: NatsConnection; keeping: StreamKeeping; readAgain(): Promise<StreamKeeping> },
) {
  const { level, sync } = promise;
  const warns = promise.onBreach === 'warn';
  /** Levels of policies. */
  let promised: ReadonlySet<AckLevel> = new Set();
  /** Of them, those that were said not to hold, and why. */
  let told = new Map<AckLevel, string>();
  let durability = await requireLevel();
  let breach: Standstill | undefined;
  note();

  async function judge(connection: NatsConnection, keeping: StreamKeeping): Promise<Durability> {
    return judgeDurability(
      keeping,
      await sync.read(connection, keeping, level === 'synced' || promised.has('synced')),
    );
  }

  async function requireLevel(): Promise<Durability> {
    const endMs = performance.now() + knownWithinMs;
    let { keeping } = first;
    while (true) {
      const judged = await judge(first.connection, keeping);
      const broken = judged.breaches[level];
      if (broken === undefined || warns) return judged;
      if (performance.now() > endMs) throw refused(level, broken);
      await delay(pollMs);
      keeping = await first.readAgain();
    }
  }

  /** Says so when acknowledgements are not worth any more, or again, what was promised. */
  function note(): void {
    const { reason, remedy } = durability.breaches[level] ?? {};
    if (reason === undefined) {
      const { why } = durability;
      if (breach !== undefined)
        log.info({ event: 'ack_level_kept', ackLevel: level, why }, 'ACK_LEVEL holds again');
      breach = undefined;
      return;
    }
    const detail = `ACK_LEVEL=${level} does not hold: ${reason}`;
    if (detail !== breach?.reason) {
      log[warns ? 'warn' : 'error'](
        { event: 'ack_level_broken', ackLevel: level, reason, remedy },
        warns
          ? 'acknowledgements are worth less than ACK_LEVEL says'
          : 'acknowledgements would be worth less than ACK_LEVEL says: nothing is acknowledged',
      );
    }
    breach = { reason: detail, sinceMs: breach?.sinceMs ?? Date.now() };
  }

  /** The same of levels that policies promise. */
  function noteOfPolicies(): void {
    const before = told;
    told = new Map();
    for (const each of promised) {
      const { reason, remedy } = durability.breaches[each] ?? {};
      if (reason === undefined || each === level) continue;
      told.set(each, reason);
      if (before.get(each) === reason) continue;
      log.warn(
        { event: 'policy_ack_level_broken', ackLevel: each, reason, remedy },
        'policies promise a level of acknowledgement that does not hold',
      );
    }
  }

  return {
    get durability(): Durability {
      return durability;
    },
    /** The promise does not hold, and nothing may be acknowledged until it does. */
    get breach(): Standstill | undefined {
      return warns ? undefined : breach;
    },
    async look(connection: NatsConnection, keeping: StreamKeeping): Promise<void> {
      durability = await judge(connection, keeping);
      note();
      noteOfPolicies();
    },
    /** Why a message must not be sent, of which this level, or else ACK_LEVEL, is promised. */
    findProblem(ofPolicy: AckLevel | undefined): string | undefined {
      if (warns) return undefined;
      if (ofPolicy === undefined || ofPolicy === level) return breach?.reason;
      const broken = durability.breaches[ofPolicy];
      return broken && `ack_level ${ofPolicy} of the policy does not hold: ${broken.reason}`;
    },
    /** Levels that policies promise, in place of those given before. */
    setPromised(levels: ReadonlySet<AckLevel>): void {
      promised = levels;
    },
  };
}

function refused(level: AckLevel, { reason, remedy, mayPass = false }: Breach): SvcMqttError {
  return new SvcMqttError('ACK_LEVEL', `ACK_LEVEL=${level} does not hold: ${reason}`, {
    suggestion: `${remedy}; or promise less with ACK_LEVEL, or set ACK_LEVEL_ON_BREACH=warn`,
    mayPass,
  });
}
