import type { DeviceCredentials } from '../../db/devices/device-credentials.js';
import type { NewFleetEvent } from '../event-feed.js';
import { shortenText } from '../live.js';
import type { ConnectionServices } from './connection-services.js';
import { limitOfReason } from './live/limit-names.js';
import { type CloseReason, closeReasons, isExpected } from './protocol/close-reason.js';
import type { Codec } from './protocol/codec.js';

/** A connection as it is reported. */
interface Reported {
  readonly id: string;
  readonly device: DeviceCredentials | undefined;
  readonly clientId: string;
  /** The version of the protocol, as people call it. */
  readonly protocol: string;
  readonly codec: Codec;
  readonly isConnected: boolean;
  readonly socket: { readonly address: string };
  /** Most bytes of a packet of a client that has logged in. */
  readonly agreedPacketBytes: number;
}

/** What is counted, logged and told of one connection. */
export class ConnectionReport {
  /** What the client was last refused without losing its connection. */
  lastRefusal: { readonly atMs: number; readonly detail: string } | undefined;
  private readonly connection: Reported;
  private readonly services: ConnectionServices;

  constructor(connection: Reported, services: ConnectionServices) {
    this.connection = connection;
    this.services = services;
  }

  /** It was accepted. */
  connected(): void {
    this.services.counters.accepted += 1;
    this.tell('connected', { protocol: this.connection.protocol });
  }

  /** A defect met it. */
  failed(error: unknown): void {
    const fields = { ...this.describe(), err: error };
    this.services.log.error('connection_failed', fields, 'A defect ended a connection');
  }

  /** @param said what NATS said, where it refused the message. */
  publishRefused(reason: CloseReason, topic: string, said = closeReasons[reason].why): void {
    const { counters, log } = this.services;
    const shown = shortenText(topic);
    const code = this.connection.codec.codeOf(reason, 'puback');
    this.lastRefusal = { atMs: Date.now(), detail: `message refused${formatCode(code)}: ${shown}: ${said}` };
    // Where the version has no answer the connection is closed, and the bound counted then.
    const limit = this.connection.codec.explains ? limitOfReason[reason] : undefined;
    if (limit !== undefined) counters.limits[limit] += 1;
    if (reason !== 'publish-denied') return;
    counters.publishDenied += 1;
    const fields = { ...this.describe(), topic: shown };
    log.warn('publish_denied', fields, 'A device published outside its policy');
  }

  subscribeDenied(filter: string, why: string): void {
    const { counters, log } = this.services;
    counters.subscribeDenied += 1;
    const shown = shortenText(filter);
    this.lastRefusal = { atMs: Date.now(), detail: `subscription refused: ${shown}: ${why}` };
    const fields = { ...this.describe(), filter: shown, reason: why };
    log.warn('subscribe_denied', fields, 'A subscription was refused');
  }

  /**
   * It is about to end.
   *
   * @param fields what is known of the cause, for the log.
   * @param code what the client was told by CONNACK or DISCONNECT.
   */
  closing(reason: CloseReason, fields: Readonly<Record<string, unknown>>, code: number | undefined): void {
    const { counters, log } = this.services;
    const { isConnected } = this.connection;
    counters.closed[reason] += 1;
    if (!isConnected) counters.refused[reason] += 1;
    const limit = limitOfReason[reason];
    if (limit !== undefined)
      counters.limits[limit === 'packet-bytes' && !isConnected ? 'connect-packet-bytes' : limit] += 1;
    const limited = reason === 'packet-too-large' ? this.describePacketLimit() : {};
    const detail = { ...this.describe(), ...fields, ...limited, reason, why: closeReasons[reason].why, code };
    if (isExpected(reason)) log.debug('connection_closed', detail, 'A connection closed');
    else log.info(isConnected ? 'connection_closed' : 'connect_refused', detail, 'A connection was closed');
    if (isConnected) this.tell('disconnected', { reason, code });
    else if (!isExpected(reason)) this.tell('refused', { reason, code }, fields.user);
  }

  private describePacketLimit(): { limit: number; setBy: string } {
    const { config, uplink } = this.services;
    if (!this.connection.isConnected)
      return { limit: config.maxConnectPacketBytes, setBy: 'MAX_CONNECT_PACKET_BYTES' };
    const limit = this.connection.agreedPacketBytes;
    if (limit === config.maxPacketBytes) return { limit, setBy: 'MAX_PACKET_BYTES' };
    return { limit, setBy: limit === uplink.forwarder.maxPayloadBytes ? 'NATS or its stream' : 'the policy' };
  }

  /** Tells those who watch. Of a client that is not known the user name, as it may be shown, is all there is. */
  private tell(
    kind: 'connected' | 'disconnected' | 'refused',
    about: Pick<NewFleetEvent, 'protocol' | 'reason' | 'code'>,
    user?: unknown,
  ): void {
    const { device: known, clientId, id, socket } = this.connection;
    const device = known?.id ?? (typeof user === 'string' ? user : undefined);
    const client = clientId === '' ? undefined : shortenText(clientId);
    this.services.events.emit({ kind, device, client, address: socket.address, connection: id, ...about });
  }

  private describe(): Record<string, unknown> {
    const { device, clientId, socket } = this.connection;
    return device === undefined
      ? { address: socket.address }
      : { address: socket.address, device: device.id, client: shortenText(clientId) };
  }
}

/** A reason code as the specification writes it, in brackets; nothing where there is none. */
export function formatCode(code: number | undefined): string {
  return code === undefined ? '' : ` (0x${code.toString(16).toUpperCase().padStart(2, '0')})`;
}
