import type { Config } from '../../config.js';
import type { Log } from '../../log.js';
import { openCalls } from '../forward/commands/calls.js';
import { startDownlink } from '../forward/commands/start-downlink.js';
import { checkDeadLetterStream, openDeadLetters } from '../forward/dead-letters.js';
import { borrowEmbeddedNats } from '../forward/embedded/embedded-nats.js';
import type { EmbeddedNats } from '../forward/embedded/found-nats.js';
import { startForwarder } from '../forward/start-forwarder.js';
import { openPresence } from '../forward/state/presence.js';
import type { Peers } from '../workers/peers.js';
import type { Releasers } from './releasers.js';
import { openSessionStorage } from './session-storage.js';
import type { StartWait } from './start-wait.js';

/**
 * Starts all that a replica has of NATS: the way there and back, and what is kept there. PostgreSQL and NATS are waited for as START_WAIT says.
 *
 * @param options.name of the replica, among all that there ever were.
 * @throws SvcMqttError as `startForwarder` does; StartAborted.
 */
export async function startNats(options: {
  config: Config;
  name: string;
  wait: StartWait;
  /** Of a worker: the process that started it runs what is embedded. */
  peers: Peers | undefined;
  log: Log;
  releasers: Releasers;
}) {
  const { config, name, wait, peers, log, releasers } = options;
  const open = (signal?: AbortSignal) =>
    startForwarder({ config, log, borrowed: peers && borrowedNats(peers, config), signal });
  const isOwn = config.natsUrl === undefined && peers === undefined;
  const nats = releasers.add('forwarder', await (isOwn ? wait.once(open) : wait.until('NATS', () => open())));
  const { link, state } = nats;
  const downlink = releasers.add('downlink', await startDownlink(nats, config, log));
  const calls = openCalls(link, log);
  const { deadLetterSubject: subject, natsSubject, natsJetstreamDomain: domain } = config;
  const deadLetters = subject === undefined ? undefined : openDeadLetters({ link, subject });
  if (subject !== undefined && config.enableJetstream)
    await checkDeadLetterStream({ link, domain, subject, natsSubject, log });
  const store = releasers.add('session store', await openSessionStorage(state, name));
  const presence = releasers.add('presence', state && openPresence(state, name));
  return { ...nats, downlink, calls, deadLetters, store, presence };
}

/** The NATS server that the primary runs or has found; undefined with NATS_URL. */
function borrowedNats({ embeddedNatsPort, tellNeedsRoom }: Peers, config: Config): EmbeddedNats | undefined {
  if (embeddedNatsPort === undefined) return undefined;
  return borrowEmbeddedNats(config.dataDir, embeddedNatsPort, tellNeedsRoom);
}
