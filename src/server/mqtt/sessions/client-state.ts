import type { Lane } from '../../forward/forwarder.js';
import type { Policy } from '../admission/authorize.js';
import type { PublishRate } from '../admission/publish-rate.js';
import type { Connection } from '../connection.js';
import type { Addressing, UplinkConnection } from '../uplink/uplink.js';
import type { UplinkPublish } from '../uplink/uplink-publish.js';
import type { ClientSession } from './client-session.js';
import type { Exchanges } from './exchanges.js';

/** What a device may do and where its messages go. */
export interface Rules {
  readonly policy: Policy;
  readonly addressing: Addressing;
}

/** What the clients of one device have in common on this replica. */
export interface DeviceState {
  readonly id: string;
  type: string;
  /** Those of now, once they have changed: what waits is held against them when its turn comes. */
  rules: Rules | undefined;
  readonly clients: Set<ClientState>;
  /** Messages of all its clients waiting for their store confirmation. */
  inFlight: number;
  /** Their bytes. */
  inFlightBytes: number;
  /** How fast it may send; undefined: as fast as it can. */
  publishRate: PublishRate | undefined;
  /** Connections, and wills, that wait until there are fewer. */
  readonly awaitingRoom: Set<Pick<UplinkConnection, 'onRoom'>>;
}

/** The will of a connection that has ended, until there is room for it. */
export interface WaitingWill {
  readonly message: UplinkPublish;
  /** The one of what its client has sent before. */
  readonly lane: Lane;
  /** Counted in the bound of all wills that wait. */
  readonly bytes: number;
}

/**
 * What is known of one client id of one device. It outlives the connection while the session is persistent or
 * messages are on their way to NATS, so that order and QoS 2 exchanges hold across a reconnect.
 */
export interface ClientState {
  /** Made of device id and client id by the registry; no two clients share one. */
  readonly key: string;
  readonly device: DeviceState;
  lane: Lane;
  /** Bytes of its messages waiting for their store confirmation. */
  inFlightBytes: number;
  /** Wills of earlier connections that wait for room, in order. */
  readonly wills: WaitingWill[];
  connection: Connection | undefined;
  /** The last CONNECT asked for a persistent session. */
  persistent: boolean;
  readonly exchanges: Exchanges;
  /** Subscriptions and messages to the client; there is none before the first SUBSCRIBE. */
  session: ClientSession | undefined;
}

/** Puts a device under other rules: what it sends, and what of it waits, goes where those say. */
export function changeRules(device: DeviceState, rules: Rules): void {
  device.rules = rules;
  for (const client of device.clients) {
    client.connection?.changePolicy(rules);
    // What NATS refused under the rules before is tried at once.
    client.lane.retry();
  }
}
