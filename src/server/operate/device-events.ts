import type { FleetEvent } from '../../api/event.js';
import type { Database } from '../../db/connection/open.js';
import { type LifeCycleChange, passOnChanges } from '../../db/devices/life-cycle.js';
import type { ChangeFeed } from '../../db/feed/change-feed.js';
import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import type { EventFeed } from '../event-feed.js';
import { type CloudEventSender, type DeviceEvent, natsAway } from '../forward/cloud-events.js';

/** What is told of connections: at most once. */
const presenceKinds: ReadonlySet<FleetEvent['kind']> = new Set(['connected', 'disconnected', 'refused']);
/** Most refusals told in a second: whoever guesses shall not fill a stream. */
const maxRefusedPerSecond = 100;
/** Changes in the database are looked for so often, and a little after each that the feed tells. */
const pollMs = 5_000;
const gatherMs = 20;
const retryMs = 1_000;

/**
 * Tells services what becomes of devices. Connections are told as they come and go, at most once; what is in the audit log
 * is told at least once, also of what happened while no replica or no NATS was there.
 */
export function startDeviceEvents(options: {
  db: Database;
  feed: ChangeFeed;
  events: EventFeed;
  sender: CloudEventSender;
  replica: string;
  log: Log;
}) {
  const { db, feed, events, sender, replica, log } = options;
  const source = `/replicas/${replica}`;
  let sent = 0;
  let dropped = 0;
  let closed = false;
  let second = 0;
  let refused = 0;

  const send = (event: DeviceEvent): boolean => {
    const taken = sender.send(event);
    if (taken) sent += 1;
    return taken;
  };

  const unlisten = events.listen((event) => {
    const { kind, device, atMs, number, client, connection, address, reason } = event;
    if (device === undefined || !presenceKinds.has(kind)) return;
    if (kind === 'refused') {
      const now = Math.floor(atMs / 1_000);
      if (now !== second) refused = 0;
      second = now;
      refused += 1;
    }
    if (kind === 'refused' && refused > maxRefusedPerSecond) {
      dropped += 1;
      return;
    }
    const data = { replica, client, connection, address, reason };
    if (!send({ kind, device, atMs, id: String(number), source, data })) dropped += 1;
  });

  const tell = async (changes: readonly LifeCycleChange[]) => {
    for (const { kind, device, at, id, actor, details } of changes) {
      const event = {
        kind,
        device,
        atMs: at.getTime(),
        id: String(id),
        source: '/devices',
        data: { actor, details },
      };
      if (!send(event)) throw natsAway();
    }
    await sender.flush();
  };

  let wake = () => {};
  const pause = async (ms: number) => {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      timer.unref();
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (closed) wake();
    });
    wake = () => {};
  };
  let news = true;
  const onChanged = () => {
    news = true;
    wake();
  };
  const unfollow = feed.follow('devices', { onLive: onChanged, onChanged });
  let problem: string | undefined;
  const run = async () => {
    while (!closed) {
      if (!news) await pause(pollMs);
      // A bulk of changes is told one by one: they are passed on together.
      await pause(gatherMs);
      if (closed) return;
      news = false;
      try {
        await passOnChanges(db, tell);
        problem = undefined;
      } catch (error) {
        const reason = messageOf(error);
        if (reason !== problem && !closed)
          log.warn({ event: 'device_events_wait', reason }, 'Changes of devices are told to services later');
        problem = reason;
        await pause(retryMs);
        news = true;
      }
    }
  };
  const running = run();

  return {
    get sent() {
      return sent;
    },
    /** Not sent because NATS was away, or refusals came too fast. */
    get dropped() {
      return dropped;
    },
    async close(): Promise<void> {
      closed = true;
      unlisten();
      unfollow();
      wake();
      await running;
      // What was told last; where NATS is away it is lost.
      await sender.flush().catch(() => {});
    },
  };
}
