import type { Config } from '../../config.js';
import { SvcMqttError } from '../../errors.js';
import { readEmbeddedNatsPort, readEmbeddedNatsSync } from '../../server/forward/embedded/embedded-nats.js';
import { openServerSync, type ServerSync } from '../../server/forward/stream/server-sync.js';

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

/** What a command can learn of how NATS servers sync: as the server learns it. */
export function openNatsSync(config: Config): ServerSync {
  return openServerSync({
    embedded: () => (config.natsUrl === undefined ? readEmbeddedNatsSync(config.dataDir) : undefined),
    monitorUrls: config.natsMonitorUrl?.split(',') ?? [],
    asserted: config.natsSyncAlways,
    domain: config.natsJetstreamDomain,
  });
}
