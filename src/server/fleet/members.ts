import { type FleetTelling, parseTold } from '../forward/fleet/fleet-telling.js';
import { type Presence, presence } from './wire.js';

/** How a replica of the fleet is known. */
export interface Identity {
  readonly replica: string;
  readonly host: string;
  readonly version: string;
}

/** Another replica of the fleet. */
export interface Member extends Identity {
  /** Why it did not answer when it was asked last; undefined: it did. */
  readonly missing: string | undefined;
}

export type Members = ReturnType<typeof openMembers>;

const subject = 'svc-mqtt.fleet.here';
/** More replicas than this are not looked at. */
const maxMembers = 64;
/** While somebody looks, it is asked so often who is there: what was told may have been lost. */
const refreshMs = 5_000;
/** One that does not answer is shown so long: time to see to it. */
const missingMs = 60_000;

/** Who follows events says so again; of one that has not for so long, nobody does. */
const followsEveryMs = 3_000;
const followsForMs = 10_000;

interface Known extends Member {
  followsUntilMs: number;
  missing: string | undefined;
  missingSinceMs: number;
}

/** The other replicas, as far as they have been heard of. */
export function openMembers(own: Identity, telling: FleetTelling) {
  const known = new Map<string, Known>();
  let refreshedMs = Number.NEGATIVE_INFINITY;

  let follows = false;
  let following: NodeJS.Timeout | undefined;

  function tell(about: Partial<Presence> = {}): void {
    telling.tell(subject, JSON.stringify({ ...own, ...(follows ? { follows } : {}), ...about }));
  }

  function announce(): void {
    refreshedMs = performance.now();
    tell({ asks: true });
  }

  function onMessage(data: Uint8Array): void {
    const message = parseTold(data);
    if (!presence.Check(message)) return;
    const { replica, host, version, asks, leaves, follows }: Presence = message;
    if (replica === own.replica) return;
    if (leaves === true) {
      known.delete(replica);
      return;
    }
    if (known.has(replica) || known.size < maxMembers) {
      const followsUntilMs = follows === true ? performance.now() + followsForMs : 0;
      known.set(replica, { replica, host, version, missing: undefined, missingSinceMs: 0, followsUntilMs });
      if (follows === true) members.onFollowed();
    }
    if (asks === true) tell();
  }
  const unhear = telling.hear(subject, { onMessage });

  const members = {
    list(): readonly Member[] {
      const nowMs = performance.now();
      for (const { replica, missing, missingSinceMs } of known.values())
        if (missing !== undefined && nowMs - missingSinceMs > missingMs) known.delete(replica);
      return [...known.values()].sort((a, b) => (a.replica < b.replica ? -1 : 1));
    },
    find: (replica: string): Member | undefined => known.get(replica),
    /** It has answered, or has not. */
    heard(replica: string): void {
      const member = known.get(replica);
      if (member !== undefined) member.missing = undefined;
    },
    missed(replica: string, why: string): void {
      const member = known.get(replica);
      if (member === undefined) return;
      if (member.missing === undefined) member.missingSinceMs = performance.now();
      member.missing = why;
    },
    /** It is not there any more. */
    forget: (replica: string) => void known.delete(replica),
    /** Asks who is there, unless that was done just now. */
    refresh(): void {
      if (performance.now() - refreshedMs >= refreshMs) announce();
    },
    /** Tells that this replica is there and asks who else is. */
    announce,
    /** Tells the others that somebody follows the events of all replicas here, or does no more. */
    follow(on: boolean): void {
      follows = on;
      clearInterval(following);
      following = on ? setInterval(tell, followsEveryMs) : undefined;
      following?.unref();
      tell();
    },
    /** Somebody follows them on another replica. */
    get followed(): boolean {
      const nowMs = performance.now();
      return [...known.values()].some(({ followsUntilMs }) => followsUntilMs > nowMs);
    },
    /** Called when that is told, first and every few seconds again. */
    onFollowed(): void {},
    close(): void {
      clearInterval(following);
      unhear();
      tell({ leaves: true });
    },
  };
  return members;
}
