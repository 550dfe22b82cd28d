import { open } from 'node:fs/promises';
import { Gauge, type Registry } from 'prom-client';

/** Sockets of this network, those that listen first, so that the beginning is enough however many connections there are. */
const socketTables = ['/proc/self/net/tcp', '/proc/self/net/tcp6'];
const beginningBytes = 65_536;
const listening = '0A';

/** Adds the connections that the system holds for the ports of devices because this process has not accepted them yet. */
export function addAcceptQueue(registry: Registry, readPorts: () => readonly number[]): void {
  if (process.platform !== 'linux') return;
  const gauge: Gauge = new Gauge({
    name: 'svc_mqtt_accept_queue_connections',
    help: 'Connections to the ports of devices that the system holds until they are accepted',
    registers: [registry],
    async collect() {
      const ports = new Set(readPorts());
      const lengths = await Promise.all(socketTables.map((table) => countQueued(table, ports)));
      gauge.set(lengths.reduce((sum, each) => sum + each, 0));
    },
  });
}

/** Of a listening socket the bytes to be read are its connections to be accepted. */
async function countQueued(table: string, ports: ReadonlySet<number>): Promise<number> {
  const text = await readBeginning(table).catch(() => '');
  let queued = 0;
  for (const line of text.split('\n')) {
    const [, local, , state, queues] = line.trim().split(/\s+/);
    if (state !== listening || !ports.has(Number.parseInt(local?.split(':')[1] ?? '', 16))) continue;
    queued += Number.parseInt(queues?.split(':')[1] ?? '0', 16);
  }
  return queued;
}

async function readBeginning(path: string): Promise<string> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(beginningBytes), 0, beginningBytes, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await file.close();
  }
}
