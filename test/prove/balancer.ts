import net from 'node:net';

/** A load balancer for TCP in front of replicas, on a port of 127.0.0.1. */
export interface Balancer {
  readonly port: number;
  close(): void;
}

/** Passes each connection on to the next of the ports, and to the one after it when nobody listens there. */
export async function startBalancer(ports: readonly number[]): Promise<Balancer> {
  const sockets = new Set<net.Socket>();
  let turn = 0;
  const track = (socket: net.Socket): net.Socket => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    return socket;
  };
  const pass = (near: net.Socket, triesLeft: number): void => {
    const port = ports[turn % ports.length] as number;
    turn += 1;
    const far = track(net.connect({ host: '127.0.0.1', port, noDelay: true }));
    let joined = false;
    far.on('connect', () => {
      joined = true;
      near.pipe(far).pipe(near);
    });
    far.on('close', () => {
      if (joined || triesLeft === 0) near.destroy();
      else pass(near, triesLeft - 1);
    });
    near.on('close', () => far.destroy());
  };
  const server = net.createServer({ noDelay: true }, (near) => pass(track(near), ports.length - 1));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
