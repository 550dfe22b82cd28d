import type { Socket } from 'node:net';
import { plainAddress } from '../../peer-address.js';
import type { AddressRanges } from '../admission/address-ranges.js';
import type { CloseReason } from '../protocol/close-reason.js';
import { type AcceptedSocket, stopReading, type Transport } from './accepted-socket.js';
import { readProxyHeader } from './proxy-header.js';
import type { TlsDoor } from './tls-upgrade.js';
import type { WebSocketDoor } from './websocket-upgrade.js';

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
  /** A handshake was not done; the socket is closed. */
  onFailed(arrival: Arrival, reason: CloseReason, fields: Record<string, unknown>): void;
}

/** A handshake, or several in a row, with one limit on their time. */
interface Visit {
  /** Answers whether the visit was still on. */
  end(): boolean;
  /** Ends it and closes its socket: at once, or when an answer, already written, had time to leave. */
  fail(reason: CloseReason, fields?: Record<string, unknown>, lingerMs?: number): void;
}

const answerLingerMs = 500;

/**
 * Opens the entrance, which takes sockets of every listener from accept to the first byte of MQTT. A plain TCP socket passes through without anything being laid over it.
 *
 * @param options.proxies addresses that begin every connection with a PROXY protocol header.
 * @param options.tls needed for `tls` and `wss`; `webSocket` for `ws` and `wss`.
 */
export function openEntrance(options: {
  keeper: EntranceKeeper;
  timeoutMs: number;
  proxies: AddressRanges | undefined;
  tls: TlsDoor | undefined;
  webSocket: WebSocketDoor | undefined;
}) {
  const { keeper, timeoutMs, proxies, tls, webSocket } = options;
  const visits = new Set<Visit>();

  function begin(arrival: Arrival): Visit {
    const { socket } = arrival;
    const onClose = () => visit.fail('connection-lost');
    const timer = setTimeout(() => visit.fail('handshake-timeout'), timeoutMs);
    timer.unref();
    const visit: Visit = {
      end() {
        clearTimeout(timer);
        socket.off('close', onClose);
        return visits.delete(visit);
      },
      fail(reason, fields = {}, lingerMs = 0) {
        if (!visit.end()) return;
        keeper.onFailed(arrival, reason, fields);
        if (lingerMs === 0) socket.destroy();
        else setTimeout(() => socket.destroy(), lingerMs).unref();
      },
    };
    visits.add(visit);
    socket.once('close', onClose);
    return visit;
  }

  /** Reads the header and nothing behind it: what came along is put back. */
  function readHeader(arrival: Arrival): void {
    const { socket } = arrival;
    const visit = begin(arrival);
    let bytes: Buffer = Buffer.alloc(0);
    const onEnd = () => visit.fail(bytes.length === 0 ? 'connection-lost' : 'proxy-header');
    const onData = (chunk: Buffer) => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
      const header = readProxyHeader(bytes);
      if (header === 'incomplete') return;
      socket.off('data', onData);
      socket.off('end', onEnd);
      if (header === 'malformed') {
        visit.fail('proxy-header');
        return;
      }
      stopReading(socket);
      if (bytes.length > header.length) socket.unshift(bytes.subarray(header.length));
      if (!visit.end()) return;
      const { client } = header;
      arrive(
        client === undefined
          ? arrival
          : { ...arrival, remoteAddress: client.address, remotePort: client.port },
      );
    };
    socket.on('data', onData);
    socket.on('end', onEnd);
    socket.resume();
  }

  function arrive(arrival: Arrival): void {
    keeper.onArrival(arrival, () => {
      // It may have left while it waited.
      if (arrival.socket.destroyed) return;
      if (arrival.transport === 'tcp') handOver(arrival, { socket: arrival.socket, certificate: undefined });
      else shakeHands(arrival);
    });
  }

  function shakeHands(arrival: Arrival): void {
    const visit = begin(arrival);
    const { transport } = arrival;
    if (transport === 'ws') {
      upgrade(arrival, visit, { socket: arrival.socket, certificate: undefined });
      return;
    }
    tls?.secure(arrival.socket, {
      onSecure(secured) {
        if (transport === 'wss') upgrade(arrival, visit, secured);
        else if (visit.end()) handOver(arrival, secured);
      },
      onFailed: (problem) => visit.fail('tls-handshake', { problem }),
    });
  }

  function upgrade(
    arrival: Arrival,
    visit: Visit,
    below: Pick<AcceptedSocket, 'socket' | 'certificate'>,
  ): void {
    webSocket?.upgrade(below.socket, {
      onUpgraded(socket) {
        if (visit.end()) handOver(arrival, { socket, certificate: below.certificate });
        else socket.destroy();
      },
      onRefused: (problem) => visit.fail('websocket-handshake', { problem }, answerLingerMs),
    });
  }

  function handOver(arrival: Arrival, client: Pick<AcceptedSocket, 'socket' | 'certificate'>): void {
    const { transport, remoteAddress, remotePort } = arrival;
    const { socket, certificate } = client;
    keeper.onClient({ socket, transport, remoteAddress, remotePort, certificate });
    // An accepted socket is paused until here.
    if (socket.isPaused()) socket.resume();
  }

  return {
    enter(socket: Socket, transport: Transport): void {
      if (!keeper.mayEnter(socket)) {
        socket.destroy();
        return;
      }
      socket.on('error', ignoreError);
      const remoteAddress = plainAddress(socket.remoteAddress);
      const arrival = { socket, transport, remoteAddress, remotePort: socket.remotePort ?? 0 };
      if (socket.remoteAddress === undefined) {
        // Its client has reset it while it waited to be accepted.
        keeper.onFailed(arrival, 'connection-lost', {});
        socket.destroy();
        return;
      }
      if (proxies?.includes(remoteAddress) === true) readHeader(arrival);
      else arrive(arrival);
    },
    /** Ends the handshakes under way. */
    close(): void {
      for (const visit of [...visits]) visit.fail('server-shutdown');
    },
  };
}

/** `close` follows. */
function ignoreError(): void {}
