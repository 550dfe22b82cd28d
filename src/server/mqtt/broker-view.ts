import type { Connection } from './connection.js';
import type { ConnectionRoll } from './live/connection-roll.js';
import type { BrokerCounters } from './live/counters.js';
import { protocolNames } from './protocol/packet-type.js';
import type { SessionStore } from './sessions/store/session-store.js';
import type { SessionWriter } from './sessions/store/session-writer.js';
import type { RetainedMessages } from './sessions/subscriptions/retained-messages.js';
import type { Transport } from './transport/accepted-socket.js';

export type BrokerView = ReturnType<typeof viewBroker>;

/** What can be seen of the MQTT side of a replica. */
export function viewBroker(of: {
  counters: Readonly<BrokerCounters>;
  connections: ConnectionRoll<Connection>;
  waitingWills: { readonly count: number };
  store: Pick<SessionStore, 'size'>;
  writer: Pick<SessionWriter, 'pending'>;
  retained: Pick<RetainedMessages, 'state'>;
  /** Ports listened on, and connections accepted that wait for their turn. */
  arrivals(): { ports: readonly number[]; waiting: number };
}) {
  const { counters, connections, arrivals } = of;
  return {
    /** Since the start, also before it listens. */
    counters,
    arrivals,
    /** Connections open now. */
    connectionCount: () => connections.size,
    /** Wills that wait for room. */
    waitingWills: () => of.waitingWills.count,
    /** Stored commands that connected clients have not been sent, up to 1,000 of each; looks at each of them. */
    pendingCommands(): number {
      let pending = 0;
      for (const { client } of connections) pending += client?.session?.pendingCommands(1_000) ?? 0;
      return pending;
    },
    /** Sessions of the fleet that are stored, and those of this replica of which not all is yet. */
    sessions: () => ({ stored: of.store.size, waiting: of.writer.pending }),
    retained: () => of.retained.state,
    /** Connections by transport; looks at each of them. */
    connectionCounts(): Record<Transport, number> {
      const counts = { tcp: 0, tls: 0, ws: 0, wss: 0 };
      for (const { accepted } of connections) counts[accepted.transport] += 1;
      return counts;
    },
    /** Of those that were accepted, by version of MQTT. */
    protocolCounts(): Readonly<Record<string, number>> {
      const counts = Object.fromEntries(Object.values(protocolNames).map((name) => [name, 0]));
      for (const { isConnected, protocol } of connections)
        if (isConnected) counts[protocol] = (counts[protocol] ?? 0) + 1;
      return counts;
    },
    /** Packets read that wait for room, of all connections; looks at each of them. */
    waiting(): { packets: number; bytes: number } {
      let packets = 0;
      let bytes = 0;
      for (const { intake } of connections) {
        packets += intake.parked.count;
        bytes += intake.parked.bytes;
      }
      return { packets, bytes };
    },
  };
}
