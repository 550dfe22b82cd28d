import net from 'node:net';

/** A network between a client and a port of this host. */
export interface TestNetwork {
  readonly port: number;
  /** Connections so far. */
  readonly connections: number;
  /** From now on what the connections of now carry is lost, for ever, and what those carry that are made meanwhile. */
  swallow(on: boolean): void;
  close(): void;
}

/**
 * Passes connections on to a port of this host.
 *
 * @param options.delayMs how long what is sent is under way, each way.
 * @param options.swallowFrom the connections from this one on, counted from 0, carry nothing.
 */
export async function startNetwork(
  target: number,
  options: { delayMs?: number; swallowFrom?: number } = {},
): Promise<TestNetwork> {
  const { delayMs = 0, swallowFrom = Number.POSITIVE_INFINITY } = options;
  const sockets = new Set<net.Socket>();
  let swallowing = false;
  let connections = 0;
  const later = (work: () => void) => {
    if (delayMs === 0) work();
    // Timers of the same time fire in the order in which they were set.
    else setTimeout(work, delayMs);
  };
  const server = net.createServer((near) => {
    const far = net.connect(target, '127.0.0.1');
    let lost = swallowing || connections >= swallowFrom;
    connections += 1;
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('data', (data) => {
        lost ||= swallowing;
        if (!lost) later(() => to.write(data));
      });
      from.on('error', () => {});
      from.on('close', () => {
        sockets.delete(from);
        if (!lost) later(() => to.destroy());
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    get connections() {
      return connections;
    },
    swallow(on) {
      swallowing = on;
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** The URL of a database, reached over the network. */
export function throughNetwork(databaseUrl: string, network: TestNetwork): string {
  const url = new URL(databaseUrl);
  url.port = String(network.port);
  return url.href;
}
