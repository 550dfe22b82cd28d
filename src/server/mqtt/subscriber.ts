import type { Config } from '../../config.js';
import type { LimitedLog } from '../../log.js';
import type { Policy } from './authorize.js';
import type { ClientState } from './client-state.js';
import type { CloseReason } from './close-reason.js';
import type { BrokerCounters } from './counters.js';
import { decodeAcknowledge, encodeAcknowledge, encodeSuback, subackFailure } from './packets/acknowledge.js';
import { PacketType, type QoS } from './packets/packet-type.js';
import { decodeSubscribe, decodeUnsubscribe } from './packets/subscribe.js';
import type { EngineLink, SessionEngine } from './session-engine.js';
import { matches } from './topics.js';

/** What every client's subscriptions share. */
export interface SubscriberServices {
  readonly engine: SessionEngine;
  readonly config: Pick<Config, 'maxSubscriptionsPerClient'>;
  readonly counters: BrokerCounters;
  readonly log: LimitedLog;
  /** The first client of a device has subscribed: messages for the device are wanted. */
  startListening(deviceId: string): void;
}

/** What the subscriptions need of their connection. */
export interface SubscriberConnection {
  readonly connected: boolean;
  write(packet: Buffer): void;
  /** Reads nothing more until `release`. */
  hold(): void;
  release(): void;
  close(reason: CloseReason): void;
  describe(): Record<string, unknown>;
}

/**
 * One connection's subscriptions: SUBSCRIBE and UNSUBSCRIBE are checked here and answered by the session engine, which
 * gets to know the client with the first filter that is granted.
 */
export class Subscriber {
  private readonly services: SubscriberServices;
  private readonly connection: SubscriberConnection;
  private readonly state: ClientState;
  private readonly policy: Policy;
  private link: EngineLink | undefined;
  /** Filters of each SUBSCRIBE under way that names one twice, by packet identifier. */
  private readonly repeatedFilters = new Map<number, string[]>();

  constructor(
    services: SubscriberServices,
    connection: SubscriberConnection,
    client: { state: ClientState; policy: Policy },
  ) {
    this.services = services;
    this.connection = connection;
    this.state = client.state;
    this.policy = client.policy;
  }

  /** An acknowledgement of something that the engine sent. */
  onAcknowledge(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const packetId = decodeAcknowledge(packet, bodyOffset);
    if (typeof packetId === 'string') return packetId;
    if ((packet[0] as number) >> 4 !== PacketType.PUBREC) this.state.outstanding.delete(packetId);
    this.link?.write(packet);
    return undefined;
  }

  onSubscribe(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const subscribe = decodeSubscribe(packet, bodyOffset);
    if (typeof subscribe === 'string') return subscribe;
    const { counters, log, config } = this.services;
    const { subscriptions } = this.state;
    const { policy } = this;
    let denied = 0;
    for (const { filter, qos } of subscribe.requests) {
      const known = subscriptions.has(filter);
      if (policy.maySubscribe(filter) && (known || subscriptions.size < config.maxSubscriptionsPerClient)) {
        subscriptions.set(filter, qos);
        continue;
      }
      denied += 1;
      log.warn('subscribe_denied', { ...this.connection.describe(), filter }, 'A subscription was refused');
    }
    counters.subscribeDenied += denied;
    if (denied === subscribe.requests.length) {
      this.connection.write(encodeSuback(subscribe.packetId, Array<number>(denied).fill(subackFailure)));
      return undefined;
    }
    const filters = subscribe.requests.map(({ filter }) => filter);
    if (new Set(filters).size < filters.length) this.repeatedFilters.set(subscribe.packetId, filters);
    this.toEngine(packet);
    return undefined;
  }

  onUnsubscribe(packet: Buffer, bodyOffset: number): CloseReason | undefined {
    const unsubscribe = decodeUnsubscribe(packet, bodyOffset);
    if (typeof unsubscribe === 'string') return unsubscribe;
    for (const { filter } of unsubscribe.requests) this.state.subscriptions.delete(filter);
    // Without subscriptions there is nothing to do but to answer [MQTT-3.10.4-5].
    if (this.link !== undefined) this.link.write(packet);
    else this.connection.write(encodeAcknowledge(PacketType.UNSUBACK, unsubscribe.packetId));
    return undefined;
  }

  /** Gives a packet to the session engine, which gets to know the client now if it does not yet. */
  private toEngine(packet: Buffer): void {
    if (this.link !== undefined) {
      this.link.write(packet);
      return;
    }
    // The socket's chunk is not kept while the engine takes the client in.
    const kept = Buffer.from(packet);
    this.connection.hold();
    void this.attach().then(() => {
      this.link?.write(kept);
      this.connection.release();
    });
  }

  /** Makes the client known to the session engine, after the engine has let go of the connection before. */
  async attach(): Promise<void> {
    const { engine, log } = this.services;
    const { connection, state, policy } = this;
    const attached = state.engineReleased.then(() => {
      if (!connection.connected) return undefined;
      return engine.attach({
        clientId: state.key,
        clean: !state.persistent,
        maySubscribe: (filter) => state.subscriptions.has(filter) && policy.maySubscribe(filter),
        grantedQos: (topic) => grantedQos(state, topic),
        onPacket: (packet, bodyOffset) => this.onEnginePacket(packet, bodyOffset),
        onClosed: () => connection.close('session-engine'),
      });
    });
    state.engineReleased = attached.then(
      (link) => link?.released,
      () => undefined,
    );
    try {
      const link = await attached;
      if (!connection.connected) {
        link?.close();
        return;
      }
      this.link = link;
      state.inEngine = state.persistent;
      if (!state.listening) this.services.startListening(state.deviceId);
      state.listening = true;
    } catch (error) {
      const fields = { ...connection.describe(), err: error };
      log.error('session_engine_refused', fields, 'The session engine refused a client');
      connection.close('session-engine');
    }
  }

  /** A packet of the engine for the client, mended where the engine departs from the specification. */
  private onEnginePacket(packet: Buffer, bodyOffset: number): void {
    const type = (packet[0] as number) >> 4;
    if (type === PacketType.PUBLISH) this.connection.write(markRedelivery(packet, bodyOffset, this.state));
    else if (type === PacketType.SUBACK) this.connection.write(this.repeatReturnCodes(packet, bodyOffset));
    else this.connection.write(packet);
  }

  /** A filter named twice gets two return codes [MQTT-3.8.4-5]; the engine gives one for each different filter. */
  private repeatReturnCodes(suback: Buffer, bodyOffset: number): Buffer {
    const packetId = suback.readUInt16BE(bodyOffset);
    const filters = this.repeatedFilters.get(packetId);
    if (filters === undefined) return suback;
    this.repeatedFilters.delete(packetId);
    const codes = suback.subarray(bodyOffset + 2);
    const distinct = [...new Set(filters)];
    return encodeSuback(
      packetId,
      filters.map((filter) => codes[distinct.indexOf(filter)] ?? subackFailure),
    );
  }

  /** The connection has ended. */
  close(): void {
    this.link?.close();
    this.link = undefined;
  }
}

/** Sets DUP on a message that was sent before and not acknowledged [MQTT-3.3.1-1], which the engine does not. */
function markRedelivery(packet: Buffer, bodyOffset: number, state: ClientState): Buffer {
  const first = packet[0] as number;
  if ((first & 0b0110) === 0) return packet;
  const packetId = packet.readUInt16BE(bodyOffset + 2 + packet.readUInt16BE(bodyOffset));
  if (state.outstanding.has(packetId)) packet[0] = first | 0b1000;
  else state.outstanding.add(packetId);
  return packet;
}

function grantedQos(state: ClientState, topic: string): QoS {
  let granted: QoS = 0;
  for (const [filter, qos] of state.subscriptions) {
    if (qos > granted && matches(filter, topic)) granted = qos;
  }
  return granted;
}
