import { createServer, type Server, type Socket } from 'node:net';
import { messageOf, SvcMqttError } from '../../../errors.js';
import type { LimitedLog } from '../../../log.js';
import { duplicateHandle } from './duplicate-handle.js';

/** Connections that the system holds until they are accepted; on Linux `net.core.somaxconn` bounds it, too. */
const backlog = 4_096;

export type Listener = Awaited<ReturnType<typeof startListener>>;

/**
 * Listens for MQTT connections. Where `::` cannot be had, because the machine has no IPv6, it is `0.0.0.0`.
 *
 * @throws SvcMqttError LISTEN_FAILED.
 */
export async function startListener(options: {
  host: string;
  port: number;
  /** The variable that names the port, for the message. */
  setting: string;
  onSocket(socket: Socket): void;
  /** Most connections accepted in one turn of the event loop; each costs a file descriptor. */
  acceptsPerTurn: number;
  log: LimitedLog;
}) {
  const openServer = () =>
    createServer(
      // The end of a client's side is taken in its order, behind what waits before it.
      {
        noDelay: true,
        allowHalfOpen: true,
        // Of a socket that has to wait nothing is read.
        pauseOnConnect: true,
      },
      options.onSocket,
    );
  const server = openServer();
  try {
    await listen(server, options.host, options.port);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (options.host !== '::' || (code !== 'EAFNOSUPPORT' && code !== 'EADDRNOTAVAIL')) {
      throw listenError(error as NodeJS.ErrnoException, options);
    }
    await listen(server, '0.0.0.0', options.port).catch((second: NodeJS.ErrnoException) => {
      throw listenError(second, options);
    });
  }
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : options.port;
  // A connection that the system does not hand over is lost; without a listener it would take the process along.
  const onError = (error: Error) =>
    options.log.error('accept_failed', { port, reason: messageOf(error) }, 'A connection was not accepted');
  server.on('error', onError);
  const servers = [server];
  const duplicates = duplicateHandle(server, {
    copies: options.acceptsPerTurn - 1,
    onHandle(handle) {
      // The length of the queue is that of the socket, and is set anew with each.
      servers.push(openServer().on('error', onError).listen(handle, backlog));
    },
    onFailed(reason) {
      const text = 'Connections that come in while there is much to do have to wait longer than usual';
      options.log.warn('accept_slow', { port, reason }, text);
    },
  });
  let closing: Promise<void> | undefined;
  return {
    port,
    /** Accepts no further connections; those that are open go on. Idempotent. */
    close: (): Promise<void> => {
      closing ??= new Promise((resolve) => {
        // The callback waits for the open connections too, which is not wanted here.
        duplicates.close();
        for (const each of servers) each.close();
        resolve();
      });
      return closing;
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

const addressAdvice = 'Set MQTT_HOST to an address of this machine; one of IPv6 as ::1, without brackets';

function listenError(
  error: NodeJS.ErrnoException,
  where: { host: string; port: number; setting: string },
): SvcMqttError {
  const causes: Record<string, [string, string]> = {
    EADDRINUSE: [
      'another program listens there',
      `Stop the other program, or choose another ${where.setting} or MQTT_HOST`,
    ],
    EACCES: ['this user may not', `Set ${where.setting} to a port from 1024 up`],
    EADDRNOTAVAIL: ['this machine does not have the address', addressAdvice],
    ENOTFOUND: ['the name has no address', addressAdvice],
    EAI_AGAIN: ['the name cannot be looked up', addressAdvice],
  };
  const [reason, suggestion] = causes[error.code ?? ''] ?? [
    error.message,
    `Choose another ${where.setting} or MQTT_HOST`,
  ];
  return new SvcMqttError(
    'LISTEN_FAILED',
    `MQTT cannot listen on ${where.host} port ${where.port}: ${reason}`,
    { suggestion, cause: error },
  );
}
