import type { Forwarder } from '../../forward/forwarder.js';
import type { BrokerCounters } from '../live/counters.js';
import type { LimitName } from '../live/limit-names.js';
import { awaitRoom, type Client } from '../sessions/client.js';
import type { UplinkPublish } from './uplink-publish.js';

export interface WillServices {
  readonly forwarder: Forwarder;
  /** Wills that wait for room, of all clients. */
  readonly waitingWills: { count: number; bytes: number };
  readonly counters: BrokerCounters;
}

/** Most bytes of wills that wait for room; further ones are dropped and counted. */
const maxWaitingBytes = 8_388_608;
const overheadBytes = 2_048;
/** The share of a device also grows when messages of others are stored, which wakes nobody here: it is looked at so often. */
const lookEveryMs = 1_000;

/** The wills of a client on their way: within the bounds of all messages, and behind what the client sent. */
export class Wills {
  private readonly services: WillServices;
  private readonly client: Client;
  private readonly checkBounds: (confirm: boolean, inFlightOfClient: number) => LimitName | undefined;

  /** @param checkBounds names the bound that allows no further message. */
  constructor(
    services: WillServices,
    client: Client,
    checkBounds: (confirm: boolean, inFlightOfClient: number) => LimitName | undefined,
  ) {
    this.services = services;
    this.client = client;
    this.checkBounds = checkBounds;
  }

  /** Sends it, or keeps it until there is room; false when there is none for keeping it either. */
  publish(message: UplinkPublish): boolean {
    const { waitingWills, counters } = this.services;
    const { lane, wills } = this.client;
    const bytes = message.headers.length + message.payload.length + overheadBytes;
    const limit = this.checkBounds(message.confirm, lane.inFlight);
    if (limit === undefined && wills.length === 0) {
      message.publish(lane);
      return true;
    }
    if (waitingWills.bytes + bytes > maxWaitingBytes) {
      counters.willsDropped += 1;
      counters.limits['waiting-wills'] += 1;
      return false;
    }
    waitingWills.count += 1;
    waitingWills.bytes += bytes;
    wills.push({ message, lane, bytes });
    // Others of the client wait for the first one.
    if (limit !== undefined && wills.length === 1) this.awaitRoom(limit);
    return true;
  }

  /** Sends those that wait as far as there is room; answers the bound at which the next one waits. */
  send(): LimitName | undefined {
    const { waitingWills, counters } = this.services;
    const { wills } = this.client;
    for (let first = wills[0]; first !== undefined; first = wills[0]) {
      const { message, lane, bytes } = first;
      const limit = this.checkBounds(message.confirm, lane.inFlight);
      if (limit !== undefined) return limit;
      wills.shift();
      waitingWills.count -= 1;
      waitingWills.bytes -= bytes;
      if (message.renew() === undefined) message.publish(lane);
      else counters.willsDropped += 1;
    }
    return undefined;
  }

  private awaitRoom(limit: LimitName): void {
    if (limit === 'in-flight') {
      this.services.forwarder.whenReady(() => this.goOn(), this.client.wills[0]?.message.confirm);
      return;
    }
    // Something of the device is in flight, and makes room when it is settled.
    const { device } = this.client;
    const waiter = {
      onRoom: () => {
        clearTimeout(look);
        this.goOn();
      },
    };
    const look = setTimeout(() => {
      device.awaitingRoom?.delete(waiter);
      this.goOn();
    }, lookEveryMs);
    look.unref();
    awaitRoom(device, waiter);
  }

  private goOn(): void {
    const next = this.send();
    if (next !== undefined) this.awaitRoom(next);
  }
}
