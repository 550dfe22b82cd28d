import type { LimitedLog } from '../../log.js';
import type { EventFeed } from '../event-feed.js';
import type { CertificateStore } from '../tls/certificate-store.js';
import { type GateConfig, openGate } from './admission/connection-gate.js';
import type { BrokerCounters } from './live/counters.js';
import { closeReasons, isExpected } from './protocol/close-reason.js';
import type { AcceptedSocket } from './transport/accepted-socket.js';
import { type ListenersConfig, startListeners } from './transport/listeners.js';

export type Arrivals = Awaited<ReturnType<typeof openArrivals>>;

/**
 * Listens on the ports: what the gate lets in, and what has done its handshakes, is a client. A failed start undoes what it began.
 *
 * @throws SvcMqttError as `startListeners` does.
 */
export async function openArrivals(options: {
  config: GateConfig & ListenersConfig;
  certificates: CertificateStore | undefined;
  counters: BrokerCounters;
  events: EventFeed;
  log: LimitedLog;
  onClient(accepted: AcceptedSocket): void;
}) {
  const { config, counters, events, log } = options;
  const gate = openGate({
    config,
    counters,
    log,
    onRefused: (reason) => events.emit({ kind: 'refused', reason }),
  });
  const listeners = await startListeners({
    config,
    certificates: options.certificates,
    keeper: {
      mayEnter: gate.mayEnter,
      onArrival: gate.onArrival,
      onClient: options.onClient,
      onFailed({ remoteAddress, remotePort, transport }, reason, fields) {
        counters.closed[reason] += 1;
        counters.refused[reason] += 1;
        const address = `${remoteAddress}:${remotePort}`;
        const detail = { address, transport, ...fields, reason, why: closeReasons[reason].why };
        if (isExpected(reason)) {
          log.debug('connection_closed', detail, 'A connection closed in its handshake');
          return;
        }
        events.emit({ kind: 'refused', address, reason });
        log.info('connect_refused', detail, 'A connection was closed in its handshake');
      },
    },
    log,
  });
  return {
    ports: listeners.ports,
    /** Connections that wait for their turn. */
    get waiting() {
      return gate.waiting;
    },
    /** Accepts no further connections. Idempotent. */
    async close(): Promise<void> {
      await listeners.close();
      gate.close();
    },
  };
}
