import type { ChangeFeed, ChangeFollower } from '../../src/db/feed/change-feed.js';
import type { FollowedTable } from '../../src/db/feed/followed-tables.js';

/** A feed that tells what a test says. */
export interface ControlledFeed extends ChangeFeed {
  tell(table: FollowedTable, ids?: readonly string[]): void;
  /** The database goes away, or has been away for so long. */
  leave(awayMs?: number): void;
  comeBack(): void;
  readonly followers: number;
}

export function openControlledFeed(timeoutMs = 30_000): ControlledFeed {
  const followers = new Set<ChangeFollower & { table: FollowedTable }>();
  let awaySinceMs = Number.POSITIVE_INFINITY;
  return {
    get live() {
      return awaySinceMs === Number.POSITIVE_INFINITY;
    },
    get awaySinceMs() {
      return awaySinceMs;
    },
    get followers() {
      return followers.size;
    },
    timeoutMs,
    follow(table, follower) {
      const entry = { ...follower, table };
      followers.add(entry);
      return () => followers.delete(entry);
    },
    tell(table, ids) {
      for (const follower of followers) if (follower.table === table) follower.onChanged?.(ids);
    },
    leave(awayMs = 0) {
      awaySinceMs = performance.now() - awayMs;
      for (const follower of followers) follower.onAway?.();
    },
    comeBack() {
      awaySinceMs = Number.POSITIVE_INFINITY;
      for (const follower of followers) follower.onLive?.();
    },
    async close() {},
  };
}
