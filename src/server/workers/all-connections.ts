import type { ShownConnections } from '../live.js';
import type { Peers } from './peers.js';

/** Finds and ends a connection whichever worker has it; lists those of this one. */
export function joinConnections(own: ShownConnections, peers: Pick<Peers, 'ask'>): ShownConnections {
  return {
    list: own.list,
    async find(id) {
      return (await own.find(id)) ?? (await peers.ask('connection', id)).find(isThere);
    },
    async kick(id, actor) {
      return (await own.kick(id, actor)) ?? (await peers.ask('kick', { id, actor })).find(isThere);
    },
  };
}

function isThere<T>(found: T | undefined): found is T {
  return found !== undefined;
}
