import { maxSessionExpirySec } from './admission/connack.js';
import type { ConnectionServices } from './connection-services.js';
import { countMessage } from './live/counters.js';
import type { CloseReason } from './protocol/close-reason.js';
import { unknownPacketId } from './protocol/codec.js';
import { PacketType } from './protocol/packet-type.js';
import { type Subscriber, takeSubscribe, takeUnsubscribe } from './sessions/subscriptions/subscribing.js';
import type { Silence } from './silence.js';
import type { ClientSocket } from './transport/client-socket.js';
import type { Uplink } from './uplink/uplink.js';

/** A connection that has joined. */
export interface PacketOwner extends Subscriber {
  readonly services: ConnectionServices;
  readonly socket: ClientSocket;
  readonly silence: Silence;
  /** PUBLISH packets received, by QoS. */
  readonly received: [number, number, number];
  /** `performance.now()` of the bytes that the last PUBLISH came with; 0 when there was none. */
  lastMessageMs: number;
  /** That of the client, made when there is something to send. */
  openUplink(): Uplink;
  readonly intake: {
    /** Processes nothing more in this turn of the event loop. */
    restUntilNextTurn(): void;
  };
  close(reason: CloseReason): void;
}

export const pingresp = Buffer.from([PacketType.PINGRESP << 4, 0]);

/** Processes any packet but the first. @returns why the connection must close, if it must. */
export function processPacket(
  connection: PacketOwner,
  packet: Buffer,
  bodyOffset: number,
): CloseReason | undefined {
  const { codec } = connection;
  const first = packet[0] as number;
  const type = first >> 4;
  // A remaining length of more bytes than it needs [MQTT 5.0 MQTT-1.5.5-1].
  if (bodyOffset > 2 && packet[bodyOffset - 1] === 0 && codec.explains) return 'remaining-length';
  if (type === PacketType.PUBLISH) return takePublish(connection, packet, bodyOffset);
  const flags = codec.checkFlags(first);
  if (flags !== undefined) return flags;
  switch (type) {
    case PacketType.CONNECT:
      return 'second-connect'; // [MQTT-3.1.0-2]
    case PacketType.PUBREL: {
      const pubrel = codec.decodeAcknowledge(packet, bodyOffset);
      return typeof pubrel === 'string' ? pubrel : connection.openUplink().exchanges.release(pubrel.packetId);
    }
    case PacketType.PUBACK:
    case PacketType.PUBREC:
    case PacketType.PUBCOMP:
      return takeAcknowledge(connection, type, packet, bodyOffset);
    case PacketType.SUBSCRIBE: {
      const granted = takeSubscribe(connection, connection.services.session, packet, bodyOffset);
      if (typeof granted === 'string') return granted;
      // It looks through all that is retained: a client that sends many has one of them processed a turn.
      if (granted > 0) connection.intake.restUntilNextTurn();
      return undefined;
    }
    case PacketType.UNSUBSCRIBE:
      return takeUnsubscribe(connection, packet, bodyOffset);
    case PacketType.PINGREQ:
      if (packet.length !== bodyOffset) return 'malformed-packet';
      connection.socket.reply(pingresp); // [MQTT-3.12.4-1]
      return undefined;
    case PacketType.DISCONNECT:
      return takeDisconnect(connection, packet, bodyOffset);
    default:
      return 'server-packet';
  }
}

function takePublish(connection: PacketOwner, packet: Buffer, bodyOffset: number): CloseReason | undefined {
  const publish = connection.codec.decodePublish(packet, bodyOffset);
  if (typeof publish === 'string') return publish;
  countMessage(connection.services.counters.received, publish.qos, publish.payload.length);
  connection.received[publish.qos] += 1;
  connection.lastMessageMs = connection.silence.lastReadMs;
  return connection.openUplink().receive(publish);
}

/** An acknowledgement of a message sent to the client. */
function takeAcknowledge(
  { codec, client, socket }: PacketOwner,
  type: PacketType,
  packet: Buffer,
  bodyOffset: number,
): CloseReason | undefined {
  const acknowledge = codec.decodeAcknowledge(packet, bodyOffset);
  if (typeof acknowledge === 'string') return acknowledge;
  const { packetId, reasonCode } = acknowledge;
  const session = client?.session;
  if (session !== undefined) return session.outgoing.onAcknowledge(type, packetId, reasonCode);
  // Without a session no identifier is in use; the client's exchange is to end all the same.
  if (type === PacketType.PUBREC && reasonCode < 0x80)
    socket.reply(codec.encodeAcknowledge(PacketType.PUBREL, packetId, unknownPacketId));
  return undefined;
}

/** Answers how the connection ends. */
export function takeDisconnect(
  { codec, client, services }: PacketOwner,
  packet: Buffer,
  bodyOffset: number,
): CloseReason {
  const disconnect = codec.decodeDisconnect(packet, bodyOffset);
  if (typeof disconnect === 'string') return disconnect;
  const { sessionExpirySec, withWill } = disconnect;
  if (sessionExpirySec !== undefined && client !== undefined) {
    // A session that was to end with its connection cannot be kept after all [MQTT-3.14.2-2].
    if (client.sessionExpirySec === 0 && sessionExpirySec > 0) return 'session-expiry-zero';
    client.sessionExpirySec = Math.min(sessionExpirySec, maxSessionExpirySec(services.config));
  }
  return withWill ? 'client-disconnect-with-will' : 'client-disconnect';
}
