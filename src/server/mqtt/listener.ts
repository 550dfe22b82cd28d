import { createServer, type Server, type Socket } from 'node:net';
import { messageOf, SvcMqttError } from '../../errors.js';
import type { LimitedLog } from '../../log.js';

/** A TCP listener. */
export interface Listener {
  readonly port: number;
  /** Accepts no further connections; those that are open go on. Idempotent. */
  close(): Promise<void>;
}

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
  log: LimitedLog;
}): Promise<Listener> {
  const server = createServer(
    // The end of a client's side is taken in its order, behind what waits before it.
    {
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
      allowHalfOpen: true,
      // Of a socket that has to wait nothing is read.
      pauseOnConnect: true,
    },
    options.onSocket,
  );
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
  server.on('error', (error) => {
    options.log.error('accept_failed', { port, reason: messageOf(error) }, 'A connection was not accepted');
  });
  let closing: Promise<void> | undefined;
  return {
    port,
    close: () => {
      closing ??= new Promise((resolve) => {
        // The callback waits for the open connections too, which is not wanted here.
        server.close();
        resolve();
      });
      return closing;
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: 4_096 }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function listenError(
  error: NodeJS.ErrnoException,
  where: { host: string; port: number; setting: string },
): SvcMqttError {
  const reasons: Record<string, string> = {
    EADDRINUSE: 'another program listens there',
    EACCES: 'this user may not',
    EADDRNOTAVAIL: 'this machine does not have the address',
  };
  const reason = reasons[error.code ?? ''] ?? error.message;
  return new SvcMqttError(
    'LISTEN_FAILED',
    `MQTT cannot listen on ${where.host} port ${where.port}: ${reason}`,
    {
      suggestion: `Stop the other program, or choose another ${where.setting} or MQTT_HOST`,
      cause: error,
    },
  );
}
