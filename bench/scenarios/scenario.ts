import type { Fleet } from '../fleet.js';
import type { Measurement } from '../measure.js';
import type { Scope } from '../scope.js';
import type { Replica, RunningSystem, SystemName } from '../systems/system.js';

/** How long and how large. */
export interface Sizes {
  readonly warmUpMs: number;
  readonly measureMs: number;
  /** Devices of the fleet in the storm, clients of storm and idle. */
  readonly stormDevices: number;
  readonly stormClients: number;
  readonly idleClients: number;
  readonly awaySessions: number;
  /** Clients of each replica of several. */
  readonly replicaClients: number;
  readonly restMs: number;
  readonly frozenMs: number;
  readonly enduranceMessages: number;
  readonly enduranceConnects: number;
}

export const fullSizes: Sizes = {
  warmUpMs: 3_000,
  measureMs: 6_000,
  stormDevices: 100_000,
  stormClients: 10_000,
  idleClients: 10_000,
  awaySessions: 100_000,
  replicaClients: 18_500,
  restMs: 10_000,
  frozenMs: 60_000,
  enduranceMessages: 10_000_000,
  enduranceConnects: 200_000,
};

export const quickSizes: Sizes = {
  warmUpMs: 1_000,
  measureMs: 2_000,
  stormDevices: 10_000,
  stormClients: 1_000,
  idleClients: 1_000,
  awaySessions: 5_000,
  replicaClients: 1_000,
  restMs: 3_000,
  frozenMs: 8_000,
  enduranceMessages: 500_000,
  enduranceConnects: 5_000,
};

export interface RunContext {
  readonly scope: Scope;
  readonly fleet: Fleet;
  readonly sizes: Sizes;
  readonly system: RunningSystem;
  /** Read back and compare every message, not only their number. */
  readonly checkContents: boolean;
}

export interface Scenario {
  readonly name: string;
  /** The load in one line. */
  readonly load: string;
  readonly unit: 'message' | 'connect';
  /** In the order of the table; the gateway is first. */
  readonly systems: readonly SystemName[];
  /** Run only when it is named: it takes minutes. */
  readonly byNameOnly?: true;
  /** Devices that it needs, and most sockets of one process. */
  clients(sizes: Sizes): number;
  devices(sizes: Sizes): number;
  run(context: RunContext): Promise<Measurement>;
}

/** The gateways of a system that has several. */
export function replicasOf({ name, replicas }: RunningSystem): readonly Replica[] {
  if (replicas === undefined) throw new Error(`${name} has one gateway only`);
  return replicas;
}
