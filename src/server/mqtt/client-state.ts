import type { Lane } from '../forward/forwarder.js';
import type { ClientSession } from './client-session.js';
import type { Connection } from './connection.js';
import type { Exchanges } from './exchanges.js';
import type { PublishRate } from './publish-rate.js';
import type { UplinkConnection } from './uplink.js';

/** What the clients of one device have in common on this replica. */
export interface DeviceState {
  readonly id: string;
  type: string;
  readonly clients: Set<ClientState>;
  /** Messages of all its clients waiting for their store confirmation. */
  inFlight: number;
  /** Their bytes. */
  inFlightBytes: number;
  /** How fast it may send; undefined: as fast as it can. */
  publishRate: PublishRate | undefined;
  /** Connections that wait until there are fewer. */
  readonly awaitingRoom: Set<UplinkConnection>;
}

/**
 * What is known of one client id of one device. It outlives the connection while the session is persistent or
 * messages are on their way to NATS, so that order and QoS 2 exchanges hold across a reconnect.
 */
export interface ClientState {
  /** `<device id>/<client id>`; a device id has no slash, so no two clients share a key. */
  readonly key: string;
  readonly device: DeviceState;
  lane: Lane;
  /** Bytes of its messages waiting for their store confirmation. */
  inFlightBytes: number;
  connection: Connection | undefined;
  /** The last CONNECT asked for a persistent session. */
  persistent: boolean;
  readonly exchanges: Exchanges;
  /** Subscriptions and messages to the client; there is none before the first SUBSCRIBE. */
  session: ClientSession | undefined;
}
