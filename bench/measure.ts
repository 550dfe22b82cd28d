import { type Quantiles, readQuantiles } from './load/histogram.js';
import type { Part, RunningSystem, SystemName } from './systems/system.js';
import { readCpuUs, readMachineBusyUs, readMemory } from './usage.js';

/** What one run of a scenario on a system gave. */
export interface Measurement {
  readonly scenario: string;
  readonly system: SystemName;
  /** Messages or connects a second. */
  readonly ratePerSec: number | undefined;
  /** CPU time of each part and of the load, user and system, for one message or connect. */
  readonly cpuUs: { readonly [P in Part['role'] | 'load']?: number };
  /** From PUBLISH to its last acknowledgement, or from connect(2) to CONNACK. */
  readonly latency: Quantiles | undefined;
  /** Highest resident memory of each part. */
  readonly peakBytes: { readonly [P in Part['role']]?: number };
  /** Cores that processes outside the benchmark used meanwhile. */
  readonly foreignCores: number | undefined;
  /** What was checked, in words: how many messages are where they must be. */
  readonly verified: string | undefined;
  /** What makes the run worthless: lost messages, lost logins. */
  readonly problems: readonly string[];
  /** Figures of this scenario only, by name with its unit. */
  readonly figures: Readonly<Record<string, number>>;
}

/** CPU times at one moment. */
export interface Mark {
  readonly atMs: number;
  readonly partUs: readonly number[];
  readonly loadUs: number;
  readonly machineUs: number;
  readonly ownUs: number;
}

export function takeMark(system: RunningSystem, loadPids: readonly number[]): Mark {
  return {
    atMs: performance.now(),
    partUs: system.parts.map((part) => readCpuUs(part.pid)),
    loadUs: loadPids.reduce((sum, pid) => sum + readCpuUs(pid), 0),
    machineUs: readMachineBusyUs(),
    ownUs: process.cpuUsage().user + process.cpuUsage().system,
  };
}

/** CPU per unit of work between two marks, and what others used of the machine meanwhile. */
export function readCosts(system: RunningSystem, from: Mark, to: Mark, units: number) {
  const cpuUs: Partial<Record<Part['role'] | 'load', number>> = {};
  let spentUs = to.loadUs - from.loadUs + to.ownUs - from.ownUs;
  for (const [index, { role }] of system.parts.entries()) {
    const partUs = (to.partUs[index] ?? 0) - (from.partUs[index] ?? 0);
    spentUs += partUs;
    cpuUs[role] = (cpuUs[role] ?? 0) + partUs / units;
  }
  cpuUs.load = (to.loadUs - from.loadUs) / units;
  const elapsedUs = (to.atMs - from.atMs) * 1_000;
  const foreignCores = Math.max(0, to.machineUs - from.machineUs - spentUs) / elapsedUs;
  return { cpuUs, foreignCores };
}

export function readPeaks(system: RunningSystem): Measurement['peakBytes'] {
  const peaks: { [P in Part['role']]?: number } = {};
  for (const { role, pid } of system.parts) peaks[role] = (peaks[role] ?? 0) + readMemory(pid).peakBytes;
  return peaks;
}

/** Resident memory of the process that speaks MQTT. */
export function readBrokerRss(system: RunningSystem): number {
  return readMemory(brokerPid(system)).rssBytes;
}

/** The process that speaks MQTT: the broker, or nats-server itself. */
export function brokerPid(system: RunningSystem): number {
  const part = system.parts.find(({ role }) => role === 'broker') ?? system.parts[0];
  if (part === undefined) throw new Error(`${system.name} has no process`);
  return part.pid;
}

/** Adds up bucket counts of several loads. */
export function joinQuantiles(...counts: (readonly number[])[]): Quantiles {
  const [first = [], ...rest] = counts;
  return readQuantiles(
    rest.reduce<readonly number[]>((sum, each) => sum.map((n, i) => n + (each[i] ?? 0)), first),
  );
}
