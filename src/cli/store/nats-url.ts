import type { Config } from '../../config.js';
import { SvcMqttError } from '../../errors.js';
import { readEmbeddedNatsPort } from '../../server/forward/embedded/embedded-nats.js';

/**
 * Where a command finds NATS. With port 0 the embedded server chose one, and the data directory tells which.
 *
 * @throws SvcMqttError NATS_UNREACHABLE when that server does not run.
 */
export function chooseNatsUrl(config: Pick<Config, 'natsUrl' | 'embeddedNatsPort' | 'dataDir'>): string {
  if (config.natsUrl !== undefined) return config.natsUrl;
  const port = config.embeddedNatsPort === 0 ? readEmbeddedNatsPort(config.dataDir) : config.embeddedNatsPort;
  if (port !== undefined) return `nats://127.0.0.1:${port}`;
  throw new SvcMqttError(
    'NATS_UNREACHABLE',
    `No embedded NATS server runs for the data directory ${config.dataDir}`,
    {
      suggestion: 'Start svc-mqtt serve there, name its directory in DATA_DIR, or set NATS_URL',
    },
  );
}
