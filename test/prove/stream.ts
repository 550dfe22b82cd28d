import { setTimeout as delay } from 'node:timers/promises';
import { connect } from 'nats';
import { until } from '../faults/gateway.js';

/** Makes the stream RAW, with batches allowed, as soon as the cluster can. */
export async function makeStream(urls: readonly string[], replicas: number): Promise<void> {
  let connection: Awaited<ReturnType<typeof connect>> | undefined;
  await until('NATS takes connections', async () => {
    connection = await connect({ servers: [...urls], timeout: 5_000 }).catch(() => undefined);
    return connection !== undefined;
  });
  try {
    const manager = await connection?.jetstreamManager({ checkAPI: false, timeout: 5_000 });
    const config = { name: 'RAW', subjects: ['raw.>'], num_replicas: replicas, allow_atomic: true };
    await until('the cluster makes a stream', async () => {
      return (await manager?.streams.add(config).catch(() => undefined)) !== undefined;
    });
  } finally {
    await connection?.close();
  }
}

/** Does it again while NATS refuses: servers that were cut off, or were killed, elect before they answer. */
export async function whenAnswered<T>(work: () => Promise<T>): Promise<T> {
  const endMs = performance.now() + 120_000;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await delay(500);
    }
  }
}

/** Longest time in which servers that were away have caught up, milliseconds. */
export const clusterCatchUpMs = 90_000;

/** Empties the stream for the next round. @param natsUrl one URL, or several with commas between them. */
export const purge = (natsUrl: string): Promise<void> => whenAnswered(() => purgeNow(natsUrl));

async function purgeNow(natsUrl: string): Promise<void> {
  const connection = await connect({ servers: natsUrl.split(','), timeout: 30_000 });
  try {
    await (await connection.jetstreamManager({ checkAPI: false })).streams.purge('RAW');
  } finally {
    await connection.close();
  }
}
