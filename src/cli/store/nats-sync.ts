import type { Config } from '../../config.js';
import { readEmbeddedNatsSync } from '../../server/forward/embedded/embedded-nats.js';
import { openServerSync, type ServerSync } from '../../server/forward/stream/server-sync.js';

/** What a command can learn of how NATS servers sync: as the server learns it. */
export function openNatsSync(config: Config): ServerSync {
  return openServerSync({
    embedded: () => (config.natsUrl === undefined ? readEmbeddedNatsSync(config.dataDir) : undefined),
    monitorUrls: config.natsMonitorUrl?.split(',') ?? [],
    asserted: config.natsSyncAlways,
    domain: config.natsJetstreamDomain,
  });
}
