import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type ServerOptions as HttpsOptions } from 'node:https';
import { createServer as createPlainServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { splitListenAddr } from '../../config.js';
import { messageOf, SvcMqttError } from '../../errors.js';
import { addressGroup } from '../peer-address.js';
import type { CertificateStore } from '../tls/certificate-store.js';
import type { HttpLimits } from './limits.js';

/**
 * Makes the server of the API, with the limits that hold before there is a request.
 *
 * @param certificates with them it speaks HTTPS only.
 */
export function createLimitedServer(
  limits: HttpLimits,
  certificates: CertificateStore | undefined,
  handler: RequestListener,
): Server {
  const options = {
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: limits.timeoutCheckMs,
  };
  const server =
    certificates === undefined
      ? createServer(options, handler)
      : createSecureServer({ ...options, handshakeTimeout: limits.headersTimeoutMs }, certificates, handler);
  server.maxConnections = limits.maxConnections;
  server.setTimeout(limits.inactivityTimeoutMs);
  boundByAddress(server, limits.maxConnectionsPerAddress);
  closeWithConnection(server);
  // Who only holds connections makes room for who asks, a probe among them, which comes again.
  server.on('drop', () => server.closeIdleConnections());
  return server;
}

/** Closes what one address opens beyond a number of connections, so that one peer does not shut everybody else out. */
function boundByAddress(server: Server, most: number): void {
  const counts = new Map<string, number>();
  server.on('connection', (socket: Socket) => {
    const group = addressGroup(socket.remoteAddress);
    const count = (counts.get(group) ?? 0) + 1;
    counts.set(group, count);
    socket.once('close', () => {
      const left = (counts.get(group) ?? 1) - 1;
      if (left > 0) counts.set(group, left);
      else counts.delete(group);
    });
    if (count > most) socket.destroy();
  });
}

/**
 * With a connection Node closes the response that is being sent, and forgets those to pipelined requests behind it: whoever waits
 * for their `close` would for good.
 */
function closeWithConnection(server: Server): void {
  const open = new WeakMap<Socket, Set<ServerResponse>>();
  const followOf = (socket: Socket): Set<ServerResponse> => {
    const responses = new Set<ServerResponse>();
    open.set(socket, responses);
    socket.once('close', () => {
      for (const response of responses) {
        // One with the socket is Node's to close.
        if (response.socket !== null || response.writableFinished) continue;
        response.destroy();
        response.emit('close');
      }
    });
    return responses;
  };
  server.prependListener('request', ({ socket }, response) => {
    const responses = open.get(socket) ?? followOf(socket);
    responses.add(response);
    response.once('close', () => responses.delete(response));
  });
}

function createSecureServer(
  options: HttpsOptions,
  certificates: CertificateStore,
  handler: RequestListener,
): Server {
  const server = createTlsServer({ ...options, ...certificates.contextOptions() }, handler);
  // Of TLS 1.2, where each costs the server the work of a handshake, without an end and before a request.
  server.on('secureConnection', (socket) => socket.disableRenegotiation());
  certificates.onChange(() => server.setSecureContext(certificates.contextOptions()));
  // What is used of a server here, both kinds have alike; the types of Node.js do not say so.
  return server as unknown as Server;
}

/** Follows the requests of a server from now on. */
export function trackRequests(server: Server) {
  const underWay = new Set<ServerResponse>();
  let onNone: (() => void) | undefined;
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('request', (_request, response) => {
    underWay.add(response);
    response.once('close', () => {
      underWay.delete(response);
      if (underWay.size === 0) onNone?.();
    });
  });
  return {
    /** Waits until none is under way, at most until `timeoutMs`. */
    async settle(timeoutMs: number): Promise<void> {
      if (underWay.size === 0) return;
      const late = new AbortController();
      const none = new Promise<void>((resolve) => {
        onNone = resolve;
      });
      await Promise.race([none, sleep(timeoutMs, undefined, { signal: late.signal }).catch(() => undefined)]);
      late.abort();
    },
    /**
     * Ends every connection. One that has not sent a request yet counts as busy to Node, and one in its TLS handshake
     * is unknown to it: both would hold the server open.
     */
    cutOff(): void {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/**
 * Listens on the address of LISTEN_ADDR. On a machine without IPv6 the address `::`, which stands for all, becomes
 * `0.0.0.0`.
 *
 * @throws SvcMqttError LISTEN_FAILED naming the address, the setting and the cause.
 */
export async function requireListening(
  listen: (address: { host: string; port: number }) => Promise<unknown>,
  listenAddr: string,
): Promise<void> {
  const address = splitListenAddr(listenAddr);
  try {
    await listen(address);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (address.host === '::' && (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL')) {
      await requireListening(listen, `0.0.0.0:${address.port}`);
      return;
    }
    throw describeListenError(error, code, listenAddr);
  }
}

/**
 * Takes the address of LISTEN_ADDR, for the moment until it is let go: one that cannot be had is told before anything else
 * is begun.
 *
 * @throws SvcMqttError LISTEN_FAILED.
 */
export async function holdAddress(listenAddr: string): Promise<() => void> {
  const server = createPlainServer((socket) => socket.destroy());
  const listen = (address: { host: string; port: number }) =>
    new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(address, () => {
        server.off('error', reject);
        resolve();
      });
    });
  await requireListening(listen, listenAddr);
  return () => void server.close();
}

function describeListenError(error: unknown, code: string | undefined, listenAddr: string): SvcMqttError {
  const causes: Record<string, [string, string]> = {
    EADDRINUSE: ['another process uses it', 'Stop that process or set LISTEN_ADDR to another address'],
    EACCES: ['this user may not use it', 'Set LISTEN_ADDR to a port from 1024 up'],
    EADDRNOTAVAIL: ['this machine does not have it', 'Set LISTEN_ADDR to an address of this machine'],
    ENOTFOUND: ['the name has no address', 'Set LISTEN_ADDR to an address of this machine'],
    ERR_SOCKET_BAD_PORT: ['the port is over 65535', 'Set LISTEN_ADDR to a port from 0 to 65535'],
  };
  const [cause, suggestion] = causes[code ?? ''] ?? [messageOf(error), 'Set LISTEN_ADDR to another address'];
  return new SvcMqttError('LISTEN_FAILED', `The HTTP API cannot listen on ${listenAddr}: ${cause}`, {
    suggestion,
    cause: error,
  });
}
