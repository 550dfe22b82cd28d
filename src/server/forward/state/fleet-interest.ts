import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../../log.js';
import { type FleetTelling, parseTold } from '../fleet/fleet-telling.js';
import { createInterestSummary, everything, isWanted } from './interest-summary.js';

export type FleetInterest = ReturnType<typeof openFleetInterest>;

const subject = 'svc-mqtt.interest';
/** How often a replica says what it wants; and how long it may be silent until it counts as gone. */
const tellEveryMs = 5_000;
const goneAfterMs = 20_000;
/**
 * So long after it was connected, a replica takes it that everything is wanted: by then the others have answered what they want
 * now.
 */
const unsureForMs = 2_000;
/** Text of the shared subscriptions that a replica tells of. */
const maxShareBytes = 200_000;
/** However much is new. */
const tellAtMostEveryMs = 50;
const maxReplicas = 1_000;
/** Of all other replicas; one that names more wants everything. */
const maxHeardPrefixes = 1_000_000;
const announcedWithinMs = 1_000;

interface Other {
  readonly prefixes: ReadonlySet<string>;
  readonly shares: readonly string[];
  readonly answers: boolean;
  readonly heardAtMs: number;
  isMissed: boolean;
}

/** What the clients of this replica want, and those of the others. Told over core NATS: it is of use only while both are connected, and is said again every five seconds. */
export function openFleetInterest(options: {
  telling: FleetTelling;
  /** The name of this replica among the others. */
  replica: string;
  log: Log;
}) {
  const { telling, replica, log } = options;
  const summary = createInterestSummary();
  const ownShares = new Map<string, number>();
  const others = new Map<string, Other>();
  let wanted: ReadonlySet<string> = new Set();
  /** Of other replicas, by `<name>/<filter>`, with the replicas that have members: those that were missed only where there is no other. */
  let shares: ReadonlyMap<string, readonly string[]> = new Map();
  let told: ReadonlySet<string> = new Set();
  let sureAtMs = 0;
  let toldAtMs = 0;
  let isStarted = false;
  let ticker: NodeJS.Timeout | undefined;
  /** There is something to tell that is new. */
  let isDirty = false;
  let announcing: Promise<void> | undefined;
  let hasLeftShares = false;

  function tell(asks: boolean): void {
    const shares: string[] = [];
    let bytes = 0;
    for (const share of hasLeftShares ? [] : ownShares.keys()) {
      bytes += Buffer.byteLength(JSON.stringify(share));
      if (bytes <= maxShareBytes) shares.push(share);
    }
    say({ replica, prefixes: summary.prefixes(), shares, asks, answers: true });
  }

  function say(announcement: Announcement): void {
    if (!telling.open) return;
    told = new Set([...announcement.prefixes, ...announcement.shares.map(shareMark)]);
    toldAtMs = performance.now();
    if (telling.tell(subject, JSON.stringify(announcement))) return;
    // What is too much to be told in full is told as everything.
    telling.tell(subject, JSON.stringify({ ...announcement, prefixes: [everything], shares: [] }));
  }

  /** What is new is told soon, and several together, as is that a share has no member any more; other filters that are gone with what is told next. */
  function tellSoon(): void {
    if (!isStarted || isDirty) return;
    isDirty = true;
    const now = tellNew().then(() => {
      if (announcing === now) announcing = undefined;
    });
    announcing = now;
  }

  async function tellNew(): Promise<void> {
    const waitMs = toldAtMs + tellAtMostEveryMs - performance.now();
    if (waitMs > 0) await delay(waitMs, undefined, { ref: false });
    else await Promise.resolve();
    isDirty = false;
    tell(false);
    if (!telling.open) return;
    const answered = telling.reached().catch(() => {});
    await Promise.race([answered, delay(announcedWithinMs, undefined, { ref: false })]);
  }

  function onAnnouncement(data: Uint8Array): void {
    const heard = readAnnouncement(data);
    if (heard === undefined || heard.replica === replica) return;
    if (!others.has(heard.replica) && others.size >= maxReplicas) return;
    let heardPrefixes = heard.prefixes.length;
    for (const [name, other] of others) if (name !== heard.replica) heardPrefixes += other.prefixes.size;
    const prefixes = new Set(heardPrefixes > maxHeardPrefixes ? [everything] : heard.prefixes);
    const { shares, answers } = heard;
    others.set(heard.replica, { prefixes, shares, answers, heardAtMs: performance.now(), isMissed: false });
    sum();
    if (heard.asks) tell(false);
  }

  function sum(): void {
    wanted = new Set([...others.values()].flatMap(({ prefixes }) => [...prefixes]));
    shares = new Map([...listShares(true), ...listShares(false)]);
  }

  function listShares(ofMissed: boolean): Map<string, string[]> {
    const found = new Map<string, string[]>();
    for (const [name, { shares, isMissed }] of others)
      if (isMissed === ofMissed)
        for (const share of shares) found.set(share, [...(found.get(share) ?? []), name]);
    return found;
  }

  function tick(): void {
    tell(false);
    const nowMs = performance.now();
    // While NATS is away nobody is heard, and nobody is gone for it.
    if (!telling.open || nowMs < sureAtMs + goneAfterMs) return;
    const gone = [...others].filter(([, { heardAtMs }]) => nowMs - heardAtMs > goneAfterMs);
    for (const [name] of gone) others.delete(name);
    if (gone.length > 0) sum();
  }

  function onConnected(): void {
    sureAtMs = Number.POSITIVE_INFINITY;
    // What is asked before NATS has the subscription is answered to nobody.
    telling.reached().then(
      () => {
        sureAtMs = performance.now() + unsureForMs;
        tell(true);
      },
      () => {},
    );
  }

  function onDenied(reason: string): void {
    log.warn(
      { event: 'fleet_interest_unknown', reason },
      'What clients of other replicas subscribe to is not known: they get no messages of devices here',
    );
  }

  return {
    /** Tells the others, and hears of them, from now on. Idempotent. */
    start(): void {
      if (isStarted) return;
      isStarted = true;
      telling.hear(subject, { onMessage: onAnnouncement, onConnected, onDenied });
      ticker = setInterval(tick, tellEveryMs);
      ticker.unref();
    },
    /** A client of this replica has subscribed. @param share name and filter of a shared subscription. */
    add(filter: string, share?: string): void {
      if (share === undefined) {
        if (summary.add(filter) && summary.prefixes().some((prefix) => !told.has(prefix))) tellSoon();
      } else {
        const count = ownShares.get(share) ?? 0;
        ownShares.set(share, count + 1);
        if (count === 0 && !told.has(shareMark(share))) tellSoon();
      }
    },
    remove(filter: string, share?: string): void {
      if (share === undefined) {
        summary.remove(filter);
      } else {
        const count = ownShares.get(share) ?? 0;
        if (count > 1) {
          ownShares.set(share, count - 1);
        } else {
          ownShares.delete(share);
          if (told.has(shareMark(share))) tellSoon();
        }
      }
    },
    /**
     * When NATS has what was added, so that every replica hears of it before what is stored later; undefined: it has. Waits a
     * second at most.
     */
    announced: () => announcing,
    /** Other replicas that are known. */
    get others(): number {
      return others.size;
    },
    /** A client of another replica could want it. */
    isWanted: (topic: string) => isWanted(wanted, topic) || (isStarted && performance.now() < sureAtMs),
    /** Shared subscriptions of other replicas. */
    get shares() {
      return shares;
    },
    /** It can be asked whether it is there: it was not missed, and is of no version before there was the question. */
    answers(replica: string): boolean {
      const other = others.get(replica);
      return other?.answers === true && !other.isMissed;
    },
    /** It does not answer; until it is heard again it may be gone, or between two connections to NATS. */
    miss(replica: string): void {
      const other = others.get(replica);
      if (other === undefined || other.isMissed) return;
      other.isMissed = true;
      sum();
    },
    /** From now on the others are told of no shared subscription here. */
    leaveShares(): void {
      hasLeftShares = true;
      if (isStarted) tell(false);
    },
    close(): void {
      clearInterval(ticker);
      if (isStarted) say({ replica, prefixes: [], shares: [], asks: false, answers: true });
    },
  };
}

/** Shares beside prefixes: no prefix ends with this. */
function shareMark(share: string): string {
  return `${share} #`;
}

type Announcement = NonNullable<ReturnType<typeof readAnnouncement>>;

function readAnnouncement(bytes: Uint8Array) {
  const json = parseTold(bytes);
  if (typeof json !== 'object' || json === null) return undefined;
  const { replica, prefixes, shares, asks, answers } = json as Record<string, unknown>;
  if (typeof replica !== 'string' || !isTexts(prefixes) || !isTexts(shares)) return undefined;
  if (shares.reduce((sum, share) => sum + share.length, 0) > maxShareBytes) return undefined;
  // It becomes part of a subject.
  const canBeAsked = answers === true && /^\w+$/.test(replica);
  return {
    replica,
    prefixes,
    shares,
    /** The others are to say what they want. */
    asks: asks === true,
    /** It can be asked whether it is there (`share-takers.ts`). */
    answers: canBeAsked,
  };
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}
