import { setTimeout as delay } from 'node:timers/promises';
import type { Credentials } from '../support/load.js';
import { packet, publishPacket, type RawClient, uint16 } from '../support/raw-client.js';
import { connectDevice } from './gateway.js';

/** A client that publishes with QoS 2 as the specification says, over however many connections that takes. */
export interface Publisher {
  readonly done: Promise<void>;
  readonly count: number;
}

const window = 4;

/** @param reuses it gives the smallest identifier that is free, and not the next one. */
export function publishAll(
  ports: () => number,
  device: Credentials,
  messages: number,
  reuses: boolean,
  onFinished: (undo: () => void) => void,
): Publisher {
  /** In the order in which they began. */
  const open = new Map<number, { payload: string; isReceived: boolean }>();
  let next = 0;
  let lastId = 0;
  let completed = 0;

  function nextId(): number {
    if (!reuses) {
      lastId += 1;
      return lastId;
    }
    let id = 1;
    while (open.has(id)) id += 1;
    return id;
  }

  const publish = (packetId: number, payload: string, dup: boolean) => {
    const bytes = publishPacket({ topic: `raw/${device.id}`, payload, qos: 2, packetId });
    if (dup) bytes[0] = (bytes[0] as number) | 8;
    return bytes;
  };
  const pubrel = (packetId: number) => packet(0x62, uint16(packetId));

  async function run(client: RawClient): Promise<void> {
    for (const [id, { payload, isReceived }] of open)
      client.send(isReceived ? pubrel(id) : publish(id, payload, true));
    while (completed < messages) {
      while (open.size < window && next < messages) {
        const id = nextId();
        const payload = `${device.id} ${next}`;
        next += 1;
        open.set(id, { payload, isReceived: false });
        client.send(publish(id, payload, false));
      }
      const { type, body } = await client.next();
      const id = body.readUInt16BE(0);
      if (type === 5) {
        const exchange = open.get(id);
        if (exchange !== undefined) exchange.isReceived = true;
        client.send(pubrel(id));
      } else if (type === 7 && open.delete(id)) {
        completed += 1;
      }
    }
  }

  async function go(): Promise<void> {
    while (completed < messages) {
      try {
        const { client, code } = await connectDevice(ports(), device, { clean: false });
        onFinished(() => client.destroy());
        if (code === 0) await run(client);
        client.destroy();
      } catch {
        // The connection has ended.
      }
      await delay(20);
    }
  }
  return {
    done: go(),
    get count() {
      return completed;
    },
  };
}
