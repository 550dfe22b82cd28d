import { setTimeout as delay } from 'node:timers/promises';
import { type Credentials, type Publisher, readStored, startPublisher } from '../support/load.js';
import { whenAnswered } from './stream.js';
import { judge, type Told, type Verdict } from './verdict.js';

/** Clients that publish numbered messages, half of them with QoS 1 and half with QoS 2. */
export interface Load {
  readonly publishers: readonly Publisher[];
  /** Messages acknowledged so far. */
  acknowledged(): number;
  /** Sends nothing new, and waits until all that was sent is acknowledged. */
  finish(): Promise<void>;
  /** Compares with the stream what was acknowledged until now. */
  judge(natsUrl: string): Promise<Verdict>;
  destroy(): void;
}

let loads = 0;

/**
 * @param options.port of the gateway now.
 * @param options.perSec new messages of each client, at most; default: as many as are acknowledged.
 * @param options.catchUpMs how long the servers of NATS may take until they all have what one has stored; default 0.
 * @param options.window messages of each client without an acknowledgement, at most.
 */
export function startLoad(
  devices: readonly Credentials[],
  options: { port(): number; perSec?: number; window?: number; catchUpMs?: number },
): Load {
  loads += 1;
  const clients = devices.map((device, index) => {
    const qos: 1 | 2 = index % 2 === 0 ? 1 : 2;
    const clientId = `${device.id}-${loads}`;
    const publisher = startPublisher({ ...options, device, qos, clientId, count: Number.POSITIVE_INFINITY });
    return { deviceId: device.id, qos, publisher };
  });
  const { catchUpMs = 0 } = options;
  const publishers = clients.map(({ publisher }) => publisher);
  return {
    publishers,
    acknowledged: () => publishers.reduce((sum, { acknowledged }) => sum + acknowledged.size, 0),
    async finish() {
      for (const publisher of publishers) publisher.finish();
      await Promise.all(publishers.map(({ done }) => done));
    },
    async judge(natsUrl) {
      // What is acknowledged while the stream is read may come too late for the reading.
      const told: Told[] = clients.map(({ deviceId, qos, publisher }) => ({
        clientId: publisher.clientId,
        deviceId,
        qos,
        acknowledged: new Set(publisher.acknowledged),
      }));
      const endMs = performance.now() + catchUpMs;
      for (;;) {
        const verdict = judge(told, await whenAnswered(() => readStored(natsUrl)));
        // A server that was away may be elected before it has caught up. What is still not there at the end is lost.
        if (verdict.lost.length === 0 || performance.now() > endMs) return verdict;
        await delay(1_000);
      }
    },
    destroy() {
      for (const publisher of publishers) publisher.destroy();
    },
  };
}
