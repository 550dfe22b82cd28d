import type { Forwarder } from '../../forward/forwarder.js';
import type { PublishRate, RateWaiter } from '../admission/publish-rate.js';
import type { BrokerCounters } from '../live/counters.js';
import type { LimitName } from '../live/limit-names.js';
import { awaitRoom } from '../sessions/client.js';
import type { Uplink } from './uplink.js';

/**
 * What one client's next message waits for: room in the forwarder, room of the client or of its device, or a token of the
 * device's publish rate.
 */
export class RoomRequest {
  private readonly waiter: RateWaiter;
  private readonly forwarder: Forwarder;
  private readonly counters: BrokerCounters;
  /** Takes back the request to the forwarder to call back when it has room. */
  private cancelAwaitingForwarder: (() => void) | undefined;
  /** The bound that was met last; of meaning while something waits. */
  limit: LimitName | undefined;
  /** `performance.now()` when the first of what waits began to. */
  sinceMs = 0;

  constructor(waiter: RateWaiter, forwarder: Forwarder, counters: BrokerCounters) {
    this.waiter = waiter;
    this.forwarder = forwarder;
    this.counters = counters;
  }

  /**
   * Whether a PUBLISH may be processed now. If not, the waiter is called when it may.
   *
   * @param waitsAlready the bound has been counted.
   */
  isGranted(publish: Buffer, uplink: Uplink, waitsAlready: boolean): boolean {
    const confirm = ((publish[0] as number) & 0b0110) !== 0;
    const limit = uplink.checkRoom(confirm);
    if (limit === undefined) return this.takeToken(uplink.device.publishRate, waitsAlready);
    this.note(limit, waitsAlready);
    if (limit === 'in-flight-per-device') awaitRoom(uplink.device, this.waiter);
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
    uplink?.device.awaitingRoom?.delete(this.waiter);
    uplink?.device.publishRate?.cancel(this.waiter);
  }

  private note(limit: LimitName, waitsAlready: boolean): void {
    this.limit = limit;
    if (waitsAlready) return;
    this.sinceMs = performance.now();
    this.counters.limits[limit] += 1;
  }

  private takeToken(rate: PublishRate | undefined, waitsAlready: boolean): boolean {
    if (rate === undefined) return true;
    const nowMs = performance.now();
    if (rate.take(nowMs)) return true;
    this.note('publish-rate', waitsAlready);
    rate.wait(this.waiter, nowMs);
    return false;
  }
}
