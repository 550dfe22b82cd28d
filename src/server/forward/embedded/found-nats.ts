import { readFileSync } from 'node:fs';
import { SvcMqttError } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { probeNats } from '../connection/nats-probe.js';
import { type EmbeddedNatsFiles, syncAlwaysLine } from './embedded-nats-config.js';
import { readRunning } from './embedded-nats-state.js';
import { portAdvice } from './nats-server-process.js';
import { isStoreClaimed } from './store-claim.js';
import type { StoreStandstill } from './store-space.js';

/** A NATS server on this machine, for a gateway without NATS_URL. */
export interface EmbeddedNats {
  readonly url: string;
  readonly port: number;
  /** It syncs to disk before it acknowledges; undefined for a server whose configuration svc-mqtt did not write. */
  readonly syncs: boolean | undefined;
  /**
   * Its JetStream stores nothing more. A server of ours is started again: one that is full, if its volume has grown since its
   * start, with what there is now, and if not, the log says what to do; one that confirms nothing, if its volume has room.
   */
  makeRoom(standstill: StoreStandstill): void;
  /** Ends the server unless it is someone else's, in an orderly way and within seconds. Idempotent. */
  close(): Promise<void>;
}

export interface FoundNats extends EmbeddedNats {
  /** `others`: of somebody else, who may start it again whenever they like. */
  readonly owner: 'this gateway' | 'another gateway of the data directory' | 'others';
}

/**
 * Looks for a server that somebody else runs.
 *
 * @returns undefined where there is none, or none yet, or an earlier gateway left one of ours behind.
 * @throws SvcMqttError NATS_EMBEDDED.
 */
export async function findNats(
  port: number,
  files: EmbeddedNatsFiles,
  log: Log,
): Promise<FoundNats | undefined> {
  const running = readRunning(files);
  if (await isStoreClaimed(files.dir)) {
    const answers = running !== undefined && running.port !== 0 && (await probeNats(running.port)) === 'nats';
    return answers ? use(running.port, 'another gateway of the data directory') : undefined;
  }
  if (running !== undefined || port === 0) return undefined;
  const listener = await probeNats(port);
  if (listener === 'nats') return use(port, 'others');
  if (listener === 'nothing') return undefined;
  throw new SvcMqttError(
    'NATS_EMBEDDED',
    `Port ${port} on 127.0.0.1 is taken by something that is not NATS`,
    { suggestion: portAdvice },
  );

  function use(port: number, owner: FoundNats['owner']): FoundNats {
    log.info({ event: 'nats_server_found', port }, 'using the NATS server that runs on this machine');
    return borrowNats(port, files, owner, () => {});
  }
}

/** @param files ours, by which it is known whether the server is one on this data directory. */
export function borrowNats(
  port: number,
  files: EmbeddedNatsFiles,
  owner: FoundNats['owner'],
  makeRoom: EmbeddedNats['makeRoom'],
): FoundNats {
  return {
    owner,
    url: `nats://127.0.0.1:${port}`,
    port,
    get syncs() {
      return readRunning(files)?.port === port ? readSync(files) : undefined;
    },
    makeRoom,
    close: async () => {},
  };
}

/**
 * Whether a server of ours syncs before it acknowledges; undefined: that is not known. The file is written when a server starts,
 * so the one that runs has read it.
 */
export function readSync(files: EmbeddedNatsFiles): boolean | undefined {
  try {
    return readFileSync(files.config, 'utf8').includes(syncAlwaysLine);
  } catch {
    return undefined;
  }
}
