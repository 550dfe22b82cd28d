import { hostname } from 'node:os';
import { readLedgerJson } from '../../api/device.js';
import type { Log } from '../../log.js';
import type { NatsLink } from '../forward/connection/nats-link.js';
import { openFleetLink } from '../forward/fleet/fleet-link.js';
import type { FleetTelling } from '../forward/fleet/fleet-telling.js';
import type { LocalView, ReplicaView, TakeTurn } from '../live.js';
import type { DeviceLedger } from '../operate/device-ledger.js';
import { type Asking, openAsking } from './asking.js';
import { openFleetCommands } from './fleet-commands.js';
import { openFleetConnections } from './fleet-connections.js';
import { openFleetEvents } from './fleet-events.js';
import { readFleetStats } from './fleet-stats.js';
import { openMembers } from './members.js';
import { openQuestions } from './questions.js';
import { answers, type Health } from './wire.js';

/**
 * Joins this replica to the others: it answers them, and asks them.
 *
 * @param options.take for the answers to others that hold up the event loop.
 */
export function joinFleet(options: {
  link: NatsLink;
  telling: FleetTelling;
  view: LocalView;
  ledger: Pick<DeviceLedger, 'read' | 'unwritten'>;
  version: string;
  /** As `GET /readyz`. */
  readReadiness(): Promise<Health['readiness']>;
  settings: Health['settings'];
  take: TakeTurn;
  log: Log;
}): ReplicaView & { close(): Promise<void> } {
  const { view, version, telling } = options;
  const own = { replica: view.replica, host: hostname(), version };
  const readHealth = async (): Promise<Health> => ({
    ...own,
    at: new Date().toISOString(),
    readiness: await options.readReadiness(),
    settings: options.settings,
    others: members.list().map(({ replica, host, version }) => ({ replica, host, version })),
  });
  const link = openFleetLink({
    ...options,
    ...own,
    questions: openQuestions({ ...options, readHealth }),
    // Called in a later turn.
    onConnected: () => members.announce(),
  });
  const members = openMembers(own, telling);
  const asking = openAsking(members, link);
  const events = openFleetEvents({ replica: own.replica, feed: view.events, asking, telling });
  return {
    ...view,
    events,
    connections: openFleetConnections({ own, local: view.connections, asking }),
    commands: openFleetCommands({ own, local: view.commands, asking }),
    readLedger: (deviceId) => readFleetLedger(deviceId, options.ledger, asking),
    readFleet: () => readFleetStats(own, view.readStats, asking),
    async close() {
      events.close();
      members.close();
      await link.close();
    },
  };
}

/**
 * The ledger of a device: what is written, and what the replicas that answer have not written yet. What one of them writes
 * while it is asked can be missing, or counted twice, in this answer.
 *
 * @returns undefined: nothing is known of it.
 * @throws SvcMqttError DATABASE_*.
 */
async function readFleetLedger(
  deviceId: string,
  local: Pick<DeviceLedger, 'read'>,
  asking: Asking,
): ReturnType<DeviceLedger['read']> {
  const told = await asking.askAll('ledger', { device: deviceId }, answers.ledger);
  const elsewhere = told.flatMap(({ answer }) => answer?.ledger ?? []).map(readLedgerJson);
  return await local.read(deviceId, elsewhere);
}
