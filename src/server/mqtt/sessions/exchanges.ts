import type { DeviceRoom } from '../admission/device-room.js';

/** A QoS 2 exchange begun by the client: the message that PUBREC has not answered yet, or answered, before PUBREL. */
type Exchange<M> = M | 'answered';

/** The QoS 2 exchanges of one client, by packet identifier, each of which takes room. */
export class Exchanges<M extends { readonly packetId: number }> {
  private readonly room: DeviceRoom;
  private readonly deviceId: string;
  /** There are none before the first. */
  private entries: Map<number, Exchange<M>> | undefined;

  constructor(room: DeviceRoom, deviceId: string) {
    this.room = room;
    this.deviceId = deviceId;
  }

  get size(): number {
    return this.entries?.size ?? 0;
  }

  packetIds(): Iterable<number> {
    return this.entries?.keys() ?? [];
  }

  get(packetId: number): Exchange<M> | undefined {
    return this.entries?.get(packetId);
  }

  /** Begins one whose packet identifier is not in use; false: there is no room. */
  begin(message: M): boolean {
    if (!this.room.take(this.deviceId, 1)) return false;
    this.entries ??= new Map();
    this.entries.set(message.packetId, message);
    return true;
  }

  /** PUBREC is sent: the message need not be kept. */
  answer(packetId: number): void {
    this.entries?.set(packetId, 'answered');
  }

  end(packetId: number): void {
    if (this.entries?.delete(packetId) === true) this.room.giveBack(this.deviceId, 1);
  }

  endAll(): void {
    if (this.size > 0) this.room.giveBack(this.deviceId, this.size);
    this.entries = undefined;
  }
}
