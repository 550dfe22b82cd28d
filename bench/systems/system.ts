import type { Fleet } from '../fleet.js';
import type { Dialect } from '../load/packets.js';
import type { Scope } from '../scope.js';

export const systemNames = [
  'gateway',
  'gateway-mqtt5',
  'gateway-mqtt5-properties',
  'gateway-mqtt5-receipts',
  'gateway-synced',
  'gateway-synced-plain',
  'gateway-workers',
  'gateway-synced-r3',
  'gateway-synced-r3-plain',
  'gateway-sessions',
  'gateway-core',
  'gateway-fleet',
  'gateway-events',
  'gateway-ledger',
  'nats-mqtt',
  'mosquitto',
  'aedes',
  'aedes-nats',
  'relay',
  'relay-stored',
  'direct',
  'direct-each',
  'atomic',
  'atomic-r3',
] as const;

export type SystemName = (typeof systemNames)[number];

/** One process, with its children, whose CPU time and memory count. */
export interface Part {
  /** `broker` speaks MQTT; nats-server with its own MQTT is one `nats`. */
  readonly role: 'broker' | 'nats' | 'postgres';
  readonly pid: number;
}

/** One gateway of several. */
export interface Replica {
  readonly pid: number;
  readonly mqttPort: number;
  readonly apiUrl: string;
}

/** A started system under load. */
export interface RunningSystem {
  readonly name: SystemName;
  /** Of the MQTT listener; 0 for the direct publisher. */
  readonly mqttPort: number;
  readonly parts: readonly Part[];
  /** The NATS server behind it. */
  readonly nats: NatsAccess | undefined;
  /** What the load speaks with it; default: 3.1.1. */
  readonly dialect?: Dialect | undefined;
  /** The load's clients have sessions that outlive their connections. */
  readonly session?: boolean;
  /** All gateways, where there are several; `mqttPort` is that of the first. */
  readonly replicas?: readonly Replica[];
  /** Ends what speaks MQTT, orderly, and starts it again on the same NATS. */
  restart?(): Promise<RestartedSystem>;
  /** Ends it, orderly. */
  stop(): Promise<void>;
}

export interface RestartedSystem extends RunningSystem {
  /** From its start until it is ready. */
  readonly startMs: number;
  /** CPU time until then. */
  readonly startCpuUs: number;
  /** Bytes of its heap and of buffers after a collection of garbage. */
  readHeapBytes(): Promise<number>;
}

export interface NatsAccess {
  readonly url: string;
  readonly pid: number;
  readonly monitoringUrl: string;
  /** The stream that must hold what was acknowledged; undefined when nothing is stored. */
  readonly stream: string | undefined;
  /** Subject of a device's messages in the stream. */
  subjectOf(deviceId: string): string;
  /** See `NatsServer`. */
  restart?(signal: 'SIGTERM' | 'SIGKILL'): Promise<number>;
}

export interface StartRequest {
  readonly scope: Scope;
  readonly fleet: Fleet;
  /** Where the gateway writes a CPU profile. */
  readonly profileDirectory: string | undefined;
}

export interface System {
  readonly name: SystemName;
  /** What it is, in the words of the report. */
  readonly title: string;
  /** Whether PUBACK means that a stream has the message. */
  readonly stores: boolean;
  /** Its version, or undefined when it is not installed. */
  version(): Promise<string | undefined>;
  start(request: StartRequest): Promise<RunningSystem>;
}
