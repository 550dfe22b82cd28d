import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { probeNats } from '../connection/nats-probe.js';
import type { EmbeddedNats, FoundNats } from './found-nats.js';

/** A server that nobody found so often in a row is gone; who restarts it has ten seconds. */
const followMs = 1_000;
const mostGone = 10;

/**
 * Follows a server that is not this gateway's: when it has been gone for a while, one is found or started in its place if it was on
 * this data directory. Of another one only that is said: its port is kept free for who runs it.
 *
 * @param findAnother finds or starts one on the same port.
 */
export function followNats(
  found: FoundNats,
  log: Log,
  findAnother: (signal: AbortSignal) => Promise<FoundNats>,
): EmbeddedNats {
  const { url, port } = found;
  const closing = new AbortController();
  const { signal } = closing;
  let server = found;
  const watching = watch();

  async function watch(): Promise<void> {
    let gone = 0;
    while (server.owner !== 'this gateway') {
      await delay(followMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      gone = (await probeNats(server.port)) === 'nothing' ? gone + 1 : 0;
      if (gone !== mostGone) continue;
      await replace();
      // Of others it is said once.
      if (server.owner !== 'others') gone = 0;
    }
  }

  async function replace(): Promise<void> {
    log.warn(
      { event: 'nats_server_gone', port: server.port },
      server.owner === 'others'
        ? 'the NATS server that somebody else ran on this machine is gone; start it again, or this gateway, which then starts one'
        : 'the NATS server that another gateway ran is gone',
    );
    if (server.owner === 'others') return;
    try {
      server = await findAnother(signal);
      if (server.port !== port)
        log.error(
          { event: 'nats_server_moved', port: server.port },
          'the NATS server of DATA_DIR runs on another port now: this gateway has to be started again to use it',
        );
    } catch (error) {
      if (!signal.aborted)
        log.error(
          { event: 'nats_server_failed', reason: messageOf(error) },
          'the NATS server cannot be started',
        );
    }
  }

  return {
    url,
    port,
    get syncs() {
      return server.syncs;
    },
    makeRoom: (standstill) => server.makeRoom(standstill),
    async close() {
      closing.abort();
      await watching;
      await server.close();
    },
  };
}
