import { readdirSync, readFileSync } from 'node:fs';

/** Ticks a second of the CPU times in /proc: USER_HZ, which is 100 on every architecture that Node runs on. */
const ticksPerSecond = 100;

/** User and system CPU time of a process, all its threads and all its children, alive or waited for, in µs. */
export function readCpuUs(pid: number): number {
  let ticks = 0;
  for (const each of processTree(pid)) {
    const fields = readStat(each);
    if (fields === undefined) continue;
    // Fields 14 to 17 of proc(5), counted from the state, which is the third.
    for (const index of [11, 12, 13, 14]) ticks += Number(fields[index] ?? 0);
  }
  return (ticks * 1_000_000) / ticksPerSecond;
}

/** Resident memory now and at its highest, of a process and its children, in bytes. */
export function readMemory(pid: number): { rssBytes: number; peakBytes: number } {
  let rssBytes = 0;
  let peakBytes = 0;
  for (const each of processTree(pid)) {
    const status = tryRead(`/proc/${each}/status`);
    rssBytes += kilobytes(status, 'VmRSS') * 1_024;
    peakBytes += kilobytes(status, 'VmHWM') * 1_024;
  }
  return { rssBytes, peakBytes };
}

/** Busy time of all cores since the machine started, without what a hypervisor took away, in µs. */
export function readMachineBusyUs(): number {
  const [line = ''] = (tryRead('/proc/stat') ?? '').split('\n');
  const [user = 0, nice = 0, system = 0, , , irq = 0, softIrq = 0] = line.split(/\s+/).slice(1).map(Number);
  return ((user + nice + system + irq + softIrq) * 1_000_000) / ticksPerSecond;
}

function processTree(root: number): number[] {
  const childrenOf = new Map<number, number[]>();
  for (const name of tryList('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = Number(readStat(Number(name))?.[1] ?? -1);
    childrenOf.set(parent, [...(childrenOf.get(parent) ?? []), Number(name)]);
  }
  const all = [root];
  for (const pid of all) all.push(...(childrenOf.get(pid) ?? []));
  return all;
}

function readStat(pid: number): string[] | undefined {
  const text = tryRead(`/proc/${pid}/stat`);
  // The name of the program stands in parentheses and may hold anything.
  return text?.slice(text.lastIndexOf(')') + 2).split(' ');
}

function kilobytes(status: string | undefined, key: string): number {
  return Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(status ?? '')?.[1] ?? 0);
}

function tryRead(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function tryList(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
