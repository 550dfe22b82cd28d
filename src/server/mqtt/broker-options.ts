import type { Config } from '../../config.js';
import type { Log } from '../../log.js';
import type { EventFeed } from '../event-feed.js';
import type { Calls } from '../forward/commands/calls.js';
import type { Downlink } from '../forward/commands/downlink.js';
import type { DeadLetters } from '../forward/dead-letters.js';
import type { FleetTelling } from '../forward/fleet/fleet-telling.js';
import type { Forwarder } from '../forward/forwarder.js';
import type { Presence } from '../forward/state/presence.js';
import type { SharedState } from '../forward/state/shared-state.js';
import type { MemoryBounds } from '../memory-bounds.js';
import type { CertificateStore } from '../tls/certificate-store.js';
import type { Policy } from './admission/authorize.js';
import type { TermsConfig } from './admission/connack.js';
import type { GateConfig } from './admission/connection-gate.js';
import type { LoginServices } from './admission/login.js';
import type { LedgerEntry } from './live/ledger-entry.js';
import type { TopicLimits } from './protocol/topics.js';
import type { SessionStore } from './sessions/store/session-store.js';
import type { ListenersConfig } from './transport/listeners.js';
import type { Addressing } from './uplink/route.js';
import type { UplinkServices } from './uplink/uplink.js';

/** The settings that a connection looks at. */
export type ConnectionConfig = TermsConfig &
  Pick<Config, 'connectTimeoutSec' | 'maxConnectPacketBytes' | 'maxPacketBytes' | 'slowReaderTimeoutSec'>;

export type BrokerConfig = ConnectionConfig &
  LoginServices['config'] &
  UplinkServices['config'] &
  TopicLimits &
  MemoryBounds &
  GateConfig &
  ListenersConfig &
  Pick<
    Config,
    | 'maxFailedLoginsPerDevice'
    | 'maxFailedLoginsPerAddress'
    | 'deviceCacheSize'
    | 'maxPublishRatePerDevice'
    | 'publishBurstSec'
    | 'maxQueuedMessages'
    | 'maxOutgoingBytes'
    | 'maxSubscriptionsPerClient'
    | 'maxClientsPerDevice'
    | 'onUnreadableSession'
    | 'acl'
    | 'maxSessions'
    | 'maxDelayedWills'
    | 'maxRetainedMessages'
    | 'maxRetainedBytes'
  >;

/** What the MQTT side of a replica is given. */
export interface BrokerOptions {
  readonly config: BrokerConfig;
  readonly forwarder: Forwarder;
  /** Messages for devices, wanted for those that have subscribed. */
  readonly downlink: Downlink;
  /** What services ask devices. */
  readonly calls: Calls;
  /** Where refused messages go; undefined: nowhere. */
  readonly deadLetters?: DeadLetters | undefined;
  /** What replicas share; undefined: each has its own. */
  readonly shared?: Pick<SharedState, 'retained' | 'messages'> | undefined;
  /** Begins the id of every connection of this replica. */
  readonly replica: string;
  /** Where sessions are that outlive their connection. */
  readonly store: SessionStore;
  /** Which replicas live; undefined: nobody knows. */
  readonly presence?: Presence | undefined;
  /** Where replicas tell each other of connections; undefined: this one is alone. */
  readonly telling?: FleetTelling | undefined;
  readonly events: EventFeed;
  /** For TLS; undefined: there is none. */
  readonly certificates?: CertificateStore | undefined;
  addressingOf(device: { id: string; type: string }, policy: Policy): Addressing;
  /** Where it is noted what becomes of a device's messages. */
  ledgerOf(deviceId: string): LedgerEntry;
  readonly log: Log;
}
