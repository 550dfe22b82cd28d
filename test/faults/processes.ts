import { readdir, readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';

/** Ids of the processes whose command line or working directory names the text. */
export async function processesOf(text: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      return command.includes(text) ? [Number(pid)] : [];
    }),
  );
  return found.flat();
}

/** Listens on a port of 127.0.0.1, any free one for 0; whoever connects hears nothing. */
export async function takePort(port = 0): Promise<{ port: number; release(): Promise<void> }> {
  const server: Server = createServer((socket) => {
    socket.on('error', () => {});
    server.once('close', () => socket.destroy());
  });
  const sockets = new Set<{ destroy(): void }>();
  server.on('connection', (socket) => sockets.add(socket));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    release: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}
