import type { Socket } from 'node:net';
import { type AcceptedSocket, plainAddress, type Transport } from './accepted-socket.js';

/** A socket on its way from being accepted to being a client's: the handshakes of its transport are still to come. */
export interface Arrival {
  /** What was accepted; it emits `close` however the client leaves, also when TLS or WebSocket lie over it. */
  readonly socket: Socket;
  readonly transport: Transport;
  /** See `AcceptedSocket`. */
  readonly remoteAddress: string;
  readonly remotePort: number;
}

/** Who decides about arrivals. */
export interface EntranceKeeper {
  /** A socket was accepted and nothing of it was read; false: it is turned away at once. */
  mayEnter(socket: Socket): boolean;
  /**
   * The client's address is known. It goes on to its handshakes when `proceed` is called, now or later; to turn it away,
   * destroy its socket. Until then its socket is paused.
   */
  onArrival(arrival: Arrival, proceed: () => void): void;
  /** The handshakes are done. */
  onClient(accepted: AcceptedSocket): void;
}

/** Takes sockets of one listener from accept to the first byte of MQTT. */
export interface Entrance {
  enter(socket: Socket): void;
}

export function openEntrance(keeper: EntranceKeeper, transport: Transport): Entrance {
  function proceed(arrival: Arrival): void {
    const { socket, remoteAddress, remotePort } = arrival;
    if (socket.destroyed) return;
    // Nothing was read until here; what follows in this turn listens for the bytes.
    socket.resume();
    keeper.onClient({ socket, transport, remoteAddress, remotePort, certificate: undefined });
  }

  return {
    enter(socket) {
      if (!keeper.mayEnter(socket)) {
        socket.destroy();
        return;
      }
      socket.on('error', ignoreError);
      const remoteAddress = plainAddress(socket.remoteAddress);
      const arrival = { socket, transport, remoteAddress, remotePort: socket.remotePort ?? 0 };
      keeper.onArrival(arrival, () => proceed(arrival));
    },
  };
}

/** `close` follows. */
function ignoreError(): void {}
