import { PacketType, type QoS } from '../../protocol/packet-type.js';
import type { Unacked } from '../store/session-record.js';
import type { OutgoingMessage } from './delivery-writer.js';

/** Where a message is stored. */
export type StoredPlace = Pick<Unacked, 'stream' | 'sequence'>;

/** A message sent with QoS 1 or 2 and not yet acknowledged. */
export interface InFlight {
  /** Undefined: PUBREC has come, or the message is stored. */
  message: OutgoingMessage | undefined;
  /** Where it is stored; its source sends it again. */
  readonly stored?: StoredPlace;
  /** Undefined: that is known when it is read again. */
  qos: QoS | undefined;
  /** PUBREC has come: PUBREL is what is sent again. */
  isReleased: boolean;
  /** What it counts for. */
  bytes: number;
  /** The connection of now was sent its PUBLISH. */
  isSentHere: boolean;
}

/** Most of them, whatever the client takes: it is not asked to remember more packet identifiers. */
const maxInFlight = 128;

/** What a client was sent and has not acknowledged, by packet identifier, in the order in which it was sent. */
export class Unacknowledged extends Map<number, InFlight> {
  private lastPacketId = 0;

  /** How many more may be begun. */
  get room(): number {
    return maxInFlight - this.size;
  }

  /** A packet identifier that is not in use [MQTT-2.3.1-4]; there are more than `maxInFlight`. */
  nextPacketId(): number {
    do this.lastPacketId = this.lastPacketId === 65_535 ? 1 : this.lastPacketId + 1;
    while (this.has(this.lastPacketId));
    return this.lastPacketId;
  }

  /**
   * The same for a stored message whenever it is sent, if it can be had, so that it is found again after a crash. One of QoS 2
   * waits for it (undefined): under another identifier it would be another message. The streams begin at either end.
   */
  storedPacketId({ stream, sequence }: StoredPlace, qos: QoS): number | undefined {
    const number = sequence % 65_535;
    const wanted = stream === 'commands' ? number + 1 : 65_535 - number;
    if (!this.has(wanted)) return wanted;
    return qos === 2 ? undefined : this.nextPacketId();
  }

  /** Those that are stored. */
  listStored(): Unacked[] {
    const list: Unacked[] = [];
    for (const [packetId, { stored, isReleased: released }] of this)
      if (stored !== undefined)
        list.push({ packetId, stream: stored.stream, sequence: stored.sequence, released });
    return list;
  }

  /** Those of QoS 2 that are not stored, which the client may have; undefined: there are none. */
  listBegun(): number[] | undefined {
    const list: number[] = [];
    for (const [packetId, { stored, qos }] of this)
      if (stored === undefined && qos === 2) list.push(packetId);
    return list.length > 0 ? list : undefined;
  }

  /**
   * The same, of a session that another replica had: their messages ended with it, and PUBREL is what is left to send. If it died it
   * may have begun more than it has written, next to each other: identifiers go on somewhere else.
   */
  restoreBegun(list: readonly number[]): void {
    this.lastPacketId = Math.floor(Math.random() * 65_536);
    for (const packetId of list)
      this.set(packetId, { message: undefined, qos: 2, bytes: 0, isReleased: true, isSentHere: false });
  }

  /** What is stored, of a session that another replica had. */
  restoreStored(list: readonly Unacked[]): void {
    for (const { packetId, stream, sequence, released } of list)
      this.set(this.has(packetId) ? this.nextPacketId() : packetId, {
        message: undefined,
        stored: { stream, sequence },
        qos: released ? 2 : undefined,
        bytes: 0,
        isReleased: released,
        isSentHere: false,
      });
  }
}

/** PUBREC may come again, PUBCOMP only after it [MQTT-4.3.3-1]. */
export function isExpected(type: PacketType, { qos, isReleased }: InFlight): boolean {
  if (type === PacketType.PUBACK) return qos !== 2;
  if (qos === 1) return false;
  return type === PacketType.PUBREC || (type === PacketType.PUBCOMP && isReleased);
}
