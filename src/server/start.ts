import type { Config } from '../config.js';
import type { Log } from '../log.js';

/** A running replica. */
export interface RunningServer {
  /** The ports in use, of interest when 0 was asked for. */
  readonly ports: { readonly mqtt: number; readonly http: number };
  /** Drains and stops, within the shutdown timeout. Idempotent: every call answers the same promise. */
  close(): Promise<void>;
}

/**
 * Starts a replica. A failed start undoes what it began.
 *
 * @throws SvcMqttError with what failed, where, and what to do.
 */
export async function startServer(_config: Config, _log: Log): Promise<RunningServer> {
  throw new Error('not built');
}
