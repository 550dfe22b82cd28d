import type { Route } from './route.js';

/** A device has a few topics; one that has more finds the ones that it used longest ago worked out anew. */
const maxRoutes = 8;

/**
 * The routes of the topics that a client used of late. A topic is recognized by its bytes in the packet: neither a string
 * nor a view is made of it.
 */
export class RecentRoutes {
  private readonly routes: Route[] = [];
  /** Where the next new route goes, over the oldest one. */
  private next = 0;
  private last: Route | undefined;

  /** The route of the topic that stands in `packet` from `start` to `end`. */
  find(packet: Uint8Array, start: number, end: number, retain: boolean): Route | undefined {
    const { last } = this;
    if (last !== undefined && isRouteOf(last, packet, start, end, retain)) return last;
    for (const route of this.routes) {
      if (!isRouteOf(route, packet, start, end, retain)) continue;
      this.last = route;
      return route;
    }
    return undefined;
  }

  add(route: Route): void {
    this.routes[this.next] = route;
    this.next = (this.next + 1) % maxRoutes;
    this.last = route;
  }

  clear(): void {
    this.routes.length = 0;
    this.next = 0;
    this.last = undefined;
  }

  /** The topics for those who look at the connection, the one used last first. */
  get topics(): string[] {
    const newestFirst = [...this.routes.slice(this.next), ...this.routes.slice(0, this.next)].reverse();
    const routes = this.last === undefined ? [] : [this.last, ...newestFirst];
    return [...new Set(routes.map(({ topic }) => topic))];
  }
}

/** From the end: the topics of one device begin alike. */
function isRouteOf(route: Route, packet: Uint8Array, start: number, end: number, retain: boolean): boolean {
  const { topicBytes } = route;
  if (route.retain !== retain || topicBytes.length !== end - start) return false;
  for (let index = topicBytes.length - 1; index >= 0; index -= 1) {
    if (topicBytes[index] !== packet[start + index]) return false;
  }
  return true;
}
