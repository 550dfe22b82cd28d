import type { Lane } from '../forward/forwarder.js';
import type { Connection } from './connection.js';
import type { QoS } from './packets/packet-type.js';
import type { UplinkPublish } from './uplink.js';

/** A QoS 2 exchange begun by the client: the message on its way to NATS, or stored and waiting for PUBREL. */
export type Exchange = UplinkPublish | 'stored';

/**
 * What is known of one client id of one device. It outlives the connection while the session is persistent or
 * messages are on their way to NATS, so that order and QoS 2 exchanges hold across a reconnect.
 */
export interface ClientState {
  /** `<device id>/<client id>`; a device id has no slash, so no two clients share a key. */
  readonly key: string;
  readonly deviceId: string;
  lane: Lane;
  connection: Connection | undefined;
  /** The last CONNECT asked for a persistent session. */
  persistent: boolean;
  /** The downlink of the device was acquired for this client. */
  listening: boolean;
  /** The session engine keeps a session under this key. */
  inEngine: boolean;
  /** Resolves when the engine has let go of the connection before. */
  engineReleased: Promise<void>;
  /** QoS 2 exchanges by packet identifier. */
  exchanges: Map<number, Exchange>;
  /** Packet identifiers of messages sent to the client and not acknowledged by it. */
  outstanding: Set<number>;
  /** Granted QoS by filter. */
  subscriptions: Map<string, QoS>;
}
