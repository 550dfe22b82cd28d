import { createRequire } from 'node:module';
import { createRawStream, rawStreamOf, startNats } from './nats.js';
import type { System } from './system.js';

/** No MQTT at all: the load publishes to JetStream itself, with the `nats` library, over one connection. */
export const direct = openSystem('direct', 'JetStream publisher on the nats library, no MQTT');
/** The same with a connection for each client, as each device has one to the gateway. */
export const directEach = openSystem('direct-each', 'the same with a NATS connection for each client');

function openSystem(name: 'direct' | 'direct-each', title: string): System {
  return {
    name,
    title,
    stores: true,
    version: async () => (createRequire(import.meta.url)('nats/package.json') as { version: string }).version,
    async start({ scope }) {
      const nats = await startNats(scope);
      await createRawStream(nats.url);
      return {
        name,
        mqttPort: 0,
        parts: [
          {
            role: 'nats',
            get pid() {
              return nats.pid;
            },
          },
        ],
        nats: rawStreamOf(nats),
        stop: nats.stop,
      };
    },
  };
}
