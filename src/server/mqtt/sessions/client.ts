import type { DeviceCredentials } from '../../../db/devices/device-credentials.js';
import type { Lane } from '../../forward/forwarder.js';
import type { PublishRate } from '../admission/publish-rate.js';
import type { LedgerEntry } from '../live/ledger-entry.js';
import type { CloseReason } from '../protocol/close-reason.js';
import type { Rules } from '../uplink/route.js';
import type { UplinkPublish } from '../uplink/uplink-publish.js';
import type { ClientSession } from './client-session.js';
import type { Exchanges } from './exchanges.js';
import type { ReceivedGenerations } from './received-generations.js';
import type { StoredSession } from './store/stored-session.js';

/** The connection of a client, as those see it who know the client. */
export interface ClientConnection {
  /** Set when it becomes that of its client. */
  client: Client | undefined;
  /** CONNACK has been sent. */
  readonly isConnected: boolean;
  /** There may be room for a message that waits. */
  onRoom(): void;
  /** The policy of the device has changed. */
  changePolicy(rules: Rules): void;
  /** Learns what is now known of the device; ends when its login is no longer good. */
  refresh(device: DeviceCredentials): void;
  close(reason: CloseReason, fields?: Readonly<Record<string, unknown>>): void;
}

/** What the clients of one device have in common on this replica. */
export class DeviceClients {
  readonly id: string;
  type: string;
  /** Those of now, once they have changed: what waits is held against them when its turn comes. */
  rules: Rules | undefined;
  /** The one whose connection ended longest ago first. */
  readonly clients = new Set<Client>();
  /** Messages of all its clients waiting for their store confirmation, and their bytes. */
  inFlight = 0;
  inFlightBytes = 0;
  /** How fast it may send; undefined: as fast as it can. */
  publishRate: PublishRate | undefined;
  /** Where it is noted what becomes of its messages. */
  readonly ledger: LedgerEntry;
  /** Connections, and wills, that wait until there are fewer; undefined: none does. */
  awaitingRoom: Set<{ onRoom(): void }> | undefined;

  constructor(id: string, type: string, ledger: LedgerEntry, publishRate: PublishRate | undefined) {
    this.id = id;
    this.type = type;
    this.ledger = ledger;
    this.publishRate = publishRate;
  }
}

/** The will of a connection that has ended, until there is room for it. */
export interface WaitingWill {
  readonly message: UplinkPublish;
  /** The one of what its client has sent before. */
  readonly lane: Lane;
  /** Counted in the bound of all wills that wait. */
  readonly bytes: number;
}

/** A will that is published when its time has come, unless the client is back. */
export interface DelayedWill {
  /** `performance.now()`. */
  readonly dueAtMs: number;
  publish(): void;
}

/**
 * What is known of one client id of one device. It outlives the connection while the session is persistent or
 * messages are on their way to NATS, so that order and QoS 2 exchanges hold across a reconnect.
 */
export class Client {
  /** Made of device id and client id, see `session-key.ts`; no two clients of the fleet share one. */
  readonly key: string;
  readonly device: DeviceClients;
  lane: Lane;
  /** Bytes of its messages waiting for their store confirmation. */
  inFlightBytes = 0;
  /** Wills of earlier connections that wait for room, in order. */
  readonly wills: WaitingWill[] = [];
  connection: ClientConnection | undefined;
  /** `performance.now()` when its last connection became that of the client. */
  admittedAtMs = 0;
  /** How long the session outlives the connection; 0: it ends with it; infinite: it never expires. */
  sessionExpirySec = 0;
  /** `performance.now()` when the session of an absent client expires. */
  expiresAtMs = Number.POSITIVE_INFINITY;
  /** The will of its last connection, until its delay is over or the session ends (MQTT 5.0 §3.1.3.2.2). */
  delayedWill: DelayedWill | undefined;
  readonly exchanges: Exchanges<UplinkPublish>;
  /** Subscriptions and messages to the client; there is none before the first SUBSCRIBE. */
  session: ClientSession | undefined;
  /** Its session as the store has it; undefined: it has none there, or is about to be given it. */
  stored: StoredSession | undefined;
  /** Names its QoS 2 messages, where its session is stored for all replicas. */
  received: ReceivedGenerations | undefined;

  constructor(key: string, device: DeviceClients, lane: Lane, exchanges: Exchanges<UplinkPublish>) {
    this.key = key;
    this.device = device;
    this.lane = lane;
    this.exchanges = exchanges;
  }
}

/** Has somebody called when fewer messages of the device are under way. */
export function awaitRoom(device: DeviceClients, waiter: { onRoom(): void }): void {
  device.awaitingRoom ??= new Set();
  device.awaitingRoom.add(waiter);
}

/** Puts a device under other rules: what it sends, and what of it waits, goes where those say. */
export function changeRules(device: DeviceClients, rules: Rules): void {
  device.rules = rules;
  for (const client of device.clients) {
    client.connection?.changePolicy(rules);
    // What NATS refused under the rules before is tried at once.
    client.lane.retry();
  }
}
