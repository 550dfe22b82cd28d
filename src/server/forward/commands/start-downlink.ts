import type { Config } from '../../../config.js';
import type { Log } from '../../../log.js';
import type { RunningForwarder } from '../start-forwarder.js';
import { openCommandStore } from './command-store.js';
import { type Downlink, openDownlink } from './downlink.js';
import { openProvisionalDownlink } from './provisional-downlink.js';
import { openStoredDownlink } from './stored-downlink.js';

/**
 * Opens the way to the devices: from the stream of commands where there is one or one can be made, else, which is said once, as
 * core NATS passes them on, until there is one.
 */
export async function startDownlink(
  { link, state }: Pick<RunningForwarder, 'link' | 'state'>,
  config: Pick<Config, 'enableJetstream' | 'natsJetstreamDomain' | 'natsInboxPrefix' | 'maxIndexedCommands'>,
  log: Log,
): Promise<Downlink & { close(): void }> {
  if (state === undefined) return openDownlink(link, log);
  const look = () => openCommandStore({ ...state, maxIndexed: config.maxIndexedCommands });
  const opened = await look();
  if (!('unavailable' in opened)) return openStoredDownlink(link, opened);
  const { unavailable: reason } = opened;
  log.warn(
    { event: 'commands_not_stored', reason },
    'commands are not stored: they reach devices that are connected, and no others, until there is a stream for them',
  );
  return openProvisionalDownlink(link, openDownlink(link, log, reason), look);
}
