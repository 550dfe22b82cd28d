import type { Forwarder } from '../forward/forwarder.js';
import type { BrokerCounters } from './counters.js';
import { PacketType } from './packets/packet-type.js';
import type { PublishRate } from './publish-rate.js';
import type { Uplink, UplinkConnection } from './uplink.js';

/**
 * What one client's next message waits for: room in the forwarder, room of the client or of its device, or a token of the
 * device's publish rate.
 */
export class RoomRequest {
  private readonly waiter: UplinkConnection;
  private readonly forwarder: Forwarder;
  private readonly counters: BrokerCounters;
  /** Takes back the request to the forwarder to call back when it has room. */
  private cancelAwaitingForwarder: (() => void) | undefined;

  constructor(waiter: UplinkConnection, forwarder: Forwarder, counters: BrokerCounters) {
    this.waiter = waiter;
    this.forwarder = forwarder;
    this.counters = counters;
  }

  /**
   * Whether a packet may be processed now. If not, the waiter is called when it may.
   *
   * @param waitsAlready the bound has been counted.
   */
  isGranted(packet: Buffer, uplink: Uplink | undefined, waitsAlready: boolean): boolean {
    const first = packet[0] as number;
    if (first >> 4 !== PacketType.PUBLISH || uplink === undefined) return true;
    const confirm = (first & 0b0110) !== 0;
    const limit = uplink.checkRoom(confirm);
    if (limit === undefined) return this.takeToken(uplink.device.publishRate, waitsAlready);
    if (!waitsAlready) this.counters.limits[limit] += 1;
    if (limit === 'in-flight-per-device') uplink.device.awaitingRoom.add(this.waiter);
    if (limit === 'in-flight' && this.cancelAwaitingForwarder === undefined) {
      this.cancelAwaitingForwarder = this.forwarder.whenReady(() => {
        this.cancelAwaitingForwarder = undefined;
        this.waiter.onRoom();
      }, confirm);
    }
    return false;
  }

  /** Takes back what was asked of the forwarder: the next packet may wait for another bound. */
  withdraw(): void {
    this.cancelAwaitingForwarder?.();
    this.cancelAwaitingForwarder = undefined;
  }

  /** The client is gone. */
  close(uplink: Uplink | undefined): void {
    this.withdraw();
    uplink?.device.awaitingRoom.delete(this.waiter);
    uplink?.device.publishRate?.cancel(this.waiter);
  }

  private takeToken(rate: PublishRate | undefined, waitsAlready: boolean): boolean {
    if (rate === undefined) return true;
    const nowMs = performance.now();
    if (rate.take(nowMs)) return true;
    if (!waitsAlready) this.counters.limits['publish-rate'] += 1;
    rate.wait(this.waiter, nowMs);
    return false;
  }
}
