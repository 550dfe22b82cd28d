import { join } from 'node:path';
import { isAtLeast } from '../connection/server-version.js';

/** By it a server is known to sync before it acknowledges. */
export const syncAlwaysLine = 'sync_interval: always';

export type EmbeddedNatsFiles = Readonly<ReturnType<typeof embeddedNatsFiles>>;

/** Files of the embedded server, all under the data directory. */
export function embeddedNatsFiles(dataDir: string) {
  const dir = join(dataDir, 'nats');
  return {
    dir,
    config: join(dir, 'nats-server.conf'),
    store: join(dir, 'store'),
    log: join(dir, 'nats-server.log'),
    /** What the program writes before its log is open: errors in the configuration. */
    output: join(dir, 'nats-server.out'),
    /** Who runs the server: see `EmbeddedNatsState`. */
    state: join(dir, 'state.json'),
  };
}

/**
 * Writes the configuration of the embedded server.
 *
 * @param options.port 0 for any free one.
 * @param options.storeBytes what its store may take: see `readStoreLimit`.
 */
export function embeddedNatsConfig(
  files: EmbeddedNatsFiles,
  options: { port: number; version: string; storeBytes: number },
): string {
  const { port, version, storeBytes } = options;
  const quote = (path: string) => JSON.stringify(path);
  return `# Written by svc-mqtt at every start; what is changed here is lost.
# Whoever reaches this port may read and write every message, so it is open to this machine only.
listen: "127.0.0.1:${port === 0 ? -1 : port}"
ports_file_dir: ${quote(files.dir)}
log_file: ${quote(files.log)}
logfile_size_limit: 10MB
${isAtLeast(version, 2, 10) ? 'logfile_max_num: 3\n' : ''}
jetstream {
  store_dir: ${quote(files.store)}
  # Three quarters of what was free at this start and what the store held already. By itself the server takes three
  # quarters of what is free, so that each restart would leave it less.
  max_file_store: ${storeBytes}
${
  isAtLeast(version, 2, 10)
    ? `  # JetStream acknowledges a message before it is on the disk, and syncs every two minutes unless told otherwise: a killed
  # process loses nothing, a power failure what was acknowledged since the last sync. From 2.15 on it syncs once for a whole
  # batch, so that "always", a sync before every acknowledgement, leaves most of the throughput.
  ${isAtLeast(version, 2, 15) ? syncAlwaysLine : 'sync_interval: 1s'}
`
    : ''
}}
`;
}
