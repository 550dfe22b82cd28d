import type { LaneTrouble } from '../../forward/forwarder.js';
import type { Connection } from '../connection.js';
import { limitNames } from './limit-names.js';

/**
 * Why messages of a client wait, the cause before what follows from it: NATS does not store them, NATS has not answered its
 * SUBSCRIBE, or a bound is reached. Undefined when nothing waits, or is merely under way.
 */
export function whyWaiting({
  client,
  commands,
  intake,
}: Pick<Connection, 'client' | 'commands' | 'intake'>): LaneTrouble | undefined {
  const trouble = client?.lane.trouble;
  if (trouble !== undefined || intake.parked.isEmpty) return trouble;
  if (commands.isMade) {
    const detail = 'NATS has not answered the subscription to the commands of the device';
    return { cause: 'subscription', detail, subject: undefined, sinceMs: commands.sinceMs };
  }
  const { limit, sinceMs } = intake.room;
  return limit && { cause: limit, detail: limitNames[limit], subject: undefined, sinceMs };
}
