import { createRequire } from 'node:module';
import { createRawStream, rawStreamOf, startNats } from './nats.js';
import type { System } from './system.js';

/** No MQTT at all: the load publishes to JetStream itself, with the `nats` library. */
export const direct: System = {
  name: 'direct',
  title: 'JetStream publisher on the nats library, no MQTT',
  stores: true,
  version: async () => (createRequire(import.meta.url)('nats/package.json') as { version: string }).version,
  async start({ scope }) {
    const nats = await startNats(scope);
    await createRawStream(nats.url);
    return {
      name: 'direct',
      mqttPort: 0,
      parts: [{ role: 'nats', pid: nats.pid }],
      nats: rawStreamOf(nats),
      stop: nats.stop,
    };
  },
};
