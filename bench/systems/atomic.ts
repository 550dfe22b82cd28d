import { createRequire } from 'node:module';
import { createRawStream, rawStreamOf, startNats, startNatsCluster } from './nats.js';
import type { System } from './system.js';

/** No MQTT at all: the load publishes to JetStream itself, in the largest batches that it takes, on a NATS that syncs always. */
export const atomic = openSystem(
  'atomic',
  1,
  'JetStream publisher in atomic batches of 1,000, two at a time, no MQTT',
);
/** The same on three servers that all have the stream. */
export const atomicReplicated = openSystem('atomic-r3', 3, 'the same on three nats-servers, three replicas');

function openSystem(name: 'atomic' | 'atomic-r3', replicas: 1 | 3, title: string): System {
  return {
    name,
    title,
    stores: true,
    version: async () => (createRequire(import.meta.url)('nats/package.json') as { version: string }).version,
    async start({ scope }) {
      const servers =
        replicas === 1 ? [await startNats(scope, { syncAlways: true })] : await startNatsCluster(scope);
      const [first] = servers;
      if (first === undefined) throw new Error('no nats-server was started');
      await createRawStream(first.url, { replicas, batches: true });
      return {
        name,
        mqttPort: 0,
        parts: servers.map(({ pid }) => ({ role: 'nats', pid })),
        nats: rawStreamOf(first),
        async stop() {
          for (const server of servers) await server.stop();
        },
      };
    },
  };
}
