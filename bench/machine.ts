import { readFileSync } from 'node:fs';
import os from 'node:os';
import type { Fleet } from './fleet.js';
import { systems } from './systems/all.js';
import { readNatsVersion } from './systems/nats.js';
import type { SystemName } from './systems/system.js';

/** Where and with what the figures were measured. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly openFiles: number;
  readonly versions: Readonly<Record<string, string>>;
}

/** Sockets and files besides those of the clients that a process has open. */
const spareFiles = 500;

export async function readMachine(names: readonly SystemName[], fleet: Fleet): Promise<Machine> {
  const versions: Record<string, string> = {
    node: process.version.slice(1),
    'nats-server': await readNatsVersion(),
    postgresql: fleet.postgresVersion,
  };
  for (const name of names) {
    // The same programs as the others.
    if (name.startsWith('gateway-') || ['nats-mqtt', 'aedes-nats', 'direct-each', 'atomic-r3'].includes(name))
      continue;
    const label =
      { gateway: 'svc-mqtt', direct: 'nats (library)', atomic: 'nats (library)' }[name as string] ?? name;
    versions[label] = (await systems[name].version()) ?? 'not installed';
  }
  return {
    cpu: os.cpus()[0]?.model.trim() ?? '?',
    cores: os.cpus().length,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    kernel: `${os.type()} ${os.release()}`,
    openFiles: readOpenFilesLimit(),
    versions,
  };
}

/** Why so many clients cannot be had here, and what to do; undefined when they can. */
export function checkOpenFiles(clients: number): string | undefined {
  const limit = readOpenFilesLimit();
  const needed = clients + spareFiles;
  if (limit >= needed) return undefined;
  return `a process may open ${limit} files here and ${needed} are needed: raise the hard limit first, as with "ulimit -Hn ${needed}" as root or "--ulimit nofile=${needed}" for a container`;
}

/** The hard limit: Node raises the soft one to it by itself. */
function readOpenFilesLimit(): number {
  const limits = readFileSync('/proc/self/limits', 'utf8');
  const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(limits)?.[1] ?? '0';
  return hard === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(hard);
}
