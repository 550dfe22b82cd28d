import type { Socket } from 'node:net';
import type { Config } from '../../../config.js';
import type { LimitedLog } from '../../../log.js';
import { addressGroup } from '../../peer-address.js';
import type { BrokerCounters } from '../live/counters.js';
import { type LimitName, limitNames } from '../live/limit-names.js';
import type { CloseReason } from '../protocol/close-reason.js';
import type { Arrival } from '../transport/handshakes.js';
import { openConnectQueue } from './connect-queue.js';

export type GateConfig = Pick<
  Config,
  | 'maxConnections'
  | 'maxConnectionsPerAddress'
  | 'maxConnectsPerSecond'
  | 'maxConnectsPerSecondPerAddress'
  | 'maxWaitingConnects'
> & {
  /** Most connections that the limit of open files leaves room for. */
  readonly maxOpenSockets: number;
};

/** How often those that wait are looked at. */
const advanceMs = 10;

/** One socket that was accepted, until it goes on. */
interface Waiting {
  readonly socket: Socket;
  readonly remoteAddress: string;
  proceed(): void;
}

/**
 * Opens the gate, which decides which sockets become connections, and when. Nothing of a socket is read before it goes on, so that one that waits costs its file descriptor and
 * little else, and its CONNECT has its full time.
 */
export function openGate(options: {
  config: GateConfig;
  counters: BrokerCounters;
  log: LimitedLog;
  onRefused(reason: CloseReason): void;
}) {
  const { config, counters, log } = options;
  const maxOpen = Math.min(config.maxConnections, config.maxOpenSockets);
  const limitOfAll = config.maxOpenSockets < config.maxConnections ? 'open-files' : 'connections';
  const perAddress = new Map<string, number>();
  let open = 0;
  let timer: NodeJS.Timeout | undefined;
  const queue = openConnectQueue<Waiting>({
    perSecond: config.maxConnectsPerSecond,
    perSecondPerAddress: config.maxConnectsPerSecondPerAddress,
    maxWaiting: config.maxWaitingConnects,
    release: (waiting) => waiting.proceed(),
    drop: (waiting) => turnAway(waiting, 'waiting-connects', 'too-many-connects'),
  });

  function turnAway(who: Pick<Waiting, 'socket' | 'remoteAddress'>, limit: LimitName, reason: CloseReason) {
    counters.limits[limit] += 1;
    counters.closed[reason] += 1;
    counters.refused[reason] += 1;
    options.onRefused(reason);
    const fields = { reason, address: who.remoteAddress, limit: limitNames[limit] };
    log.warn('too_many_connections', fields, 'A connection was turned away');
    who.socket.destroy();
  }

  function advance(): void {
    timer = undefined;
    queue.advance();
    arm();
  }

  function arm(): void {
    if (queue.waiting > 0) timer ??= setTimeout(advance, advanceMs).unref();
  }

  return {
    /** Connections that wait for their turn. */
    get waiting() {
      return queue.waiting;
    },

    /** See `EntranceKeeper`. */
    mayEnter(socket: Socket): boolean {
      counters.opened += 1;
      if (open >= maxOpen) {
        const remoteAddress = socket.remoteAddress ?? '?';
        turnAway({ socket, remoteAddress }, limitOfAll, 'too-many-connections');
        return false;
      }
      open += 1;
      // It is emitted once, and a listener that is called once costs more than one that stays.
      socket.on('close', () => {
        open -= 1;
      });
      return true;
    },

    /** See `EntranceKeeper`. */
    onArrival({ socket, remoteAddress }: Arrival, proceed: () => void): void {
      const address = addressGroup(remoteAddress);
      const count = perAddress.get(address) ?? 0;
      if (count >= config.maxConnectionsPerAddress) {
        turnAway({ socket, remoteAddress }, 'connections-per-address', 'too-many-from-address');
        return;
      }
      perAddress.set(address, count + 1);
      socket.on('close', () => {
        const left = (perAddress.get(address) ?? 1) - 1;
        if (left > 0) perAddress.set(address, left);
        else perAddress.delete(address);
      });
      const waitsFor = queue.add({ socket, remoteAddress, proceed }, address);
      if (waitsFor === undefined) return;
      counters.limits[waitsFor === 'all' ? 'connects-per-second' : 'connects-per-address'] += 1;
      arm();
    },

    /** Ends those that wait. Idempotent. */
    close(): void {
      clearTimeout(timer);
      timer = undefined;
      for (const { socket } of queue.clear()) socket.destroy();
    },
  };
}
