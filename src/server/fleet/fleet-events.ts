import { type EventJson, type FleetEvent, toEventJson } from '../../api/event.js';
import type { EventFeed } from '../event-feed.js';
import { type FleetTelling, parseTold } from '../forward/fleet/fleet-telling.js';
import type { EventListener, FleetEvents } from '../live.js';
import type { Asking } from './asking.js';
import { encodePosition, type Position, readPosition } from './event-position.js';
import { answers, eventBatch, fleetEvent, maxBatch } from './wire.js';

const subject = 'svc-mqtt.fleet.event';
/** Events of so much time are told together: in a storm there are ten thousands. */
const gatherMs = 50;

/**
 * The events of all replicas. While somebody follows them on any replica, the others tell theirs, on a subject that those
 * hear who have somebody that follows; otherwise nothing is told. What does not get through is missed and said to be, since
 * the events of a replica are numbered.
 */
export function openFleetEvents(options: {
  replica: string;
  feed: EventFeed;
  asking: Asking;
  telling: FleetTelling;
}): FleetEvents & { close(): void } {
  const { replica: own, feed, asking, telling } = options;
  const { members } = asking;
  const followers = new Set<Follower>();
  let unfollow = () => {};

  let gathered: FleetEvent[] = [];
  let timer: NodeJS.Timeout | undefined;
  let unlisten: (() => void) | undefined;

  members.onFollowed = () => {
    unlisten ??= feed.listen((event) => {
      // Those for which there is no room are missing in the numbers.
      if (gathered.length < maxBatch) gathered.push(event);
      timer ??= setTimeout(tell, gatherMs);
    });
  };

  function tell(): void {
    timer = undefined;
    const events = gathered;
    gathered = [];
    if (!members.followed) {
      unlisten?.();
      unlisten = undefined;
    } else if (telling.open) {
      tellOf(events.map(toEventJson), feed.last);
    }
  }

  /** In parts, if NATS takes no message of this size. */
  function tellOf(events: readonly EventJson[], last: number): void {
    if (telling.tell(subject, JSON.stringify({ replica: own, events, last }))) return;
    const second = events.slice(Math.ceil(events.length / 2));
    const [next] = second;
    if (!telling.open || next === undefined) return;
    tellOf(events.slice(0, -second.length), next.number - 1);
    tellOf(second, last);
  }

  /** Hears of events as long as there are followers. */
  function follow(): void {
    const unlistenOwn = feed.listen((event) => {
      const shown = { ...toEventJson(event), replica: own };
      for (const follower of followers) follower.take(own, shown);
    });
    const unhear = telling.hear(subject, { onMessage });
    members.follow(true);
    unfollow = () => {
      unlistenOwn();
      unhear();
      members.follow(false);
    };
  }

  function onMessage(data: Uint8Array): void {
    const batch = parseTold(data);
    if (!eventBatch.Check(batch) || batch.replica === own) return;
    const { replica, events, last } = batch;
    for (const event of events) {
      // A newer replica may know kinds that are unknown here.
      if (!fleetEvent.Check(event)) continue;
      for (const follower of followers) follower.take(replica, { ...event, replica });
    }
    for (const follower of followers) follower.miss(replica, last);
  }

  /** What a replica remembers, sent before what is new of it. */
  async function replay(follower: Follower, replica: string, after: number): Promise<void> {
    const told = await asking.askNow(replica, 'events', { after }, answers.events);
    const events = told.ok ? told.answer.events.filter((event) => fleetEvent.Check(event)) : [];
    follower.goOn(
      replica,
      events.map((event) => ({ ...event, replica })),
    );
  }

  return {
    listen(listener, lastId) {
      const position = readPosition(lastId);
      const after = position.get(own);
      position.set(own, after ?? feed.last);
      for (const replica of position.keys())
        if (replica !== own && members.find(replica) === undefined) position.delete(replica);
      const follower = openFollower(
        listener,
        position,
        (replica) => replica === own || members.find(replica) !== undefined,
      );
      for (const event of after === undefined ? [] : feed.since(after))
        follower.take(own, { ...toEventJson(event), replica: own });
      followers.add(follower);
      if (followers.size === 1) follow();
      for (const [replica, seen] of position) {
        if (replica === own) continue;
        follower.hold(replica);
        replay(follower, replica, seen).catch(() => follower.goOn(replica, []));
      }
      return () => {
        if (followers.delete(follower) && followers.size === 0) unfollow();
      };
    },
    noteCutOff() {
      feed.droppedListeners += 1;
    },
    close() {
      clearTimeout(timer);
      unlisten?.();
      if (followers.size > 0) unfollow();
      followers.clear();
    },
  };
}

type Follower = ReturnType<typeof openFollower>;

/**
 * Who follows the events, and how far it is with each replica.
 *
 * @param isThere whether a replica has not ended, as far as is known.
 */
function openFollower(listener: EventListener, position: Position, isThere: (replica: string) => boolean) {
  const held = new Map<string, EventJson[]>();

  /** There are events of a replica up to this one, and no more of them come. */
  function miss(replica: string, last: number): void {
    if (held.has(replica)) return;
    const seen = position.get(replica);
    if (seen !== undefined && last > seen) listener.onMissed(last - seen);
    // Those that have ended would make ids longer with every roll-out.
    if (seen === undefined) for (const each of position.keys()) if (!isThere(each)) position.delete(each);
    position.set(replica, Math.max(last, seen ?? 0));
  }

  function take(replica: string, event: EventJson): void {
    const waiting = held.get(replica);
    if (waiting !== undefined) {
      if (waiting.length < maxBatch) waiting.push(event);
      return;
    }
    const { number } = event;
    const seen = position.get(replica);
    if (seen !== undefined && number <= seen) return;
    miss(replica, number - 1);
    position.set(replica, number);
    listener.onEvent(event, encodePosition(position));
  }

  return {
    take,
    miss,
    /** Takes no events of a replica until `goOn`. */
    hold: (replica: string): void => void held.set(replica, []),
    /** Takes the events of a replica that it was not there for, and those that were held back. */
    goOn(replica: string, events: readonly EventJson[]): void {
      const waiting = held.get(replica) ?? [];
      held.delete(replica);
      for (const event of [...events, ...waiting]) take(replica, event);
    },
  };
}
