import { createHash } from 'node:crypto';
import type { DeviceCredentials } from '../../src/db/devices/device-credentials.js';
import { type Log, openLog } from '../../src/log.js';
import type { DeviceDirectory, LookUp } from '../../src/server/directory/device-directory.js';
import { EventFeed } from '../../src/server/event-feed.js';
import type { Downlink, DownlinkAnswer } from '../../src/server/forward/commands/downlink.js';
import {
  type Forwarder,
  newForwarderCounters,
  type UplinkMessage,
} from '../../src/server/forward/forwarder.js';
import { type Broker, type BrokerCore, openBroker } from '../../src/server/mqtt/broker.js';
import type { BrokerConfig } from '../../src/server/mqtt/broker-options.js';
import { LedgerEntry } from '../../src/server/mqtt/live/ledger-entry.js';
import { openMemorySessionStore } from '../../src/server/mqtt/sessions/store/memory-session-store.js';
import type { SessionStore } from '../../src/server/mqtt/sessions/store/session-store.js';
import type { CertificateStore } from '../../src/server/tls/certificate-store.js';

/** Asks for the connections of all devices. */
export const allConnections: Parameters<BrokerCore['live']['list']>[0] = {
  text: undefined,
  device: undefined,
  type: undefined,
  sort: 'device',
  descending: false,
  offset: 0,
  limit: 10,
};

/**
 * A broker whose database and NATS are played by the test, for what the real ones do not show on demand: a
 * confirmation that comes late, or in another order. Everything else is tested against the real ones.
 */
export interface ControlledBroker {
  readonly broker: Broker;
  readonly core: BrokerCore;
  readonly port: number;
  readonly device: { id: string; password: string };
  readonly otherDevice: { id: string; password: string };
  /** Messages taken, in order. */
  readonly taken: UplinkMessage[];
  readonly seen: string[];
  /** Confirms messages as soon as they are taken. */
  autoStore: boolean;
  /** Confirms messages while they are being taken. */
  storeAtOnce: boolean;
  /** What the forwarder says of its bounds. */
  full: boolean;
  /** What it says of times to live. */
  takesTtl: boolean;
  /** Messages that it would take in all. */
  room: number;
  setFull(full: boolean): void;
  /** Replaces the answer of the directory. */
  answer: ((id: string) => Promise<LookUp> | LookUp) | undefined;
  /** What the directory waits for before it answers. */
  beforeAnswer: (() => Promise<void>) | undefined;
  revoke(id: string): void;
  /** What NATS says to the subscription of a device; undefined: nothing yet. */
  downlinkAnswer: DownlinkAnswer | undefined;
  /** NATS answers all who wait. */
  answerDownlink(answer: DownlinkAnswer): void;
  /** Devices whose commands are claimed, once for each claim. */
  readonly claimed: string[];
  /** A command comes from NATS. */
  command(topic: string, payload: Buffer): void;
  close(): Promise<void>;
}

const salt = Buffer.alloc(16, 1);

export async function openControlledBroker(
  config: Partial<BrokerConfig> = {},
  options: { certificates?: CertificateStore; log?: Log; store?: SessionStore } = {},
): Promise<ControlledBroker> {
  const log = options.log ?? openLog({ level: 'silent', format: 'json' });
  const device = { id: 'dev1', password: 'correct-horse' };
  const otherDevice = { id: 'dev2', password: 'battery-staple' };
  const revoked = new Set<string>();
  const taken: UplinkMessage[] = [];
  const seen: string[] = [];
  const ready: (() => void)[] = [];
  let inFlightOfAll = 0;

  const forwarder: Forwarder = {
    fullFor: () => controlled.full,
    get takesTtl() {
      return controlled.takesTtl;
    },
    maxPayloadBytes: 1_048_576,
    get free() {
      return controlled.room - inFlightOfAll;
    },
    freeBytes: Number.POSITIVE_INFINITY,
    openLane() {
      let inFlight = 0;
      return {
        get inFlight() {
          return inFlight;
        },
        trouble: undefined,
        publish(message) {
          const store = message.onStored.bind(message);
          if (message.confirm) {
            inFlight += 1;
            inFlightOfAll += 1;
          }
          message.onStored = () => {
            inFlight -= 1;
            inFlightOfAll -= 1;
            store();
          };
          taken.push(message);
          if (controlled.storeAtOnce && message.confirm) message.onStored();
          else if (controlled.autoStore && message.confirm) setImmediate(() => message.onStored());
        },
        retry() {},
        close() {},
      };
    },
    whenReady: (callback) => {
      ready.push(callback);
      return () => ready.splice(ready.indexOf(callback), 1);
    },
    state: () => ({
      connected: true,
      detail: 'played by the test',
      ingest: 'plain' as const,
      durability: undefined,
      batching: false,
      inFlight: 0,
      inFlightBytes: 0,
      holdingLanes: 0,
      standstill: undefined,
      counters: newForwarderCounters(),
    }),
    troubles: () => [],
    drain: async () => 0,
    close: async () => {},
  };

  const directory: DeviceDirectory = {
    problem: undefined,
    cacheState: () => ({ size: 0, hits: 0, misses: 0 }),
    async find(id) {
      await controlled.beforeAnswer?.();
      if (controlled.answer !== undefined) return controlled.answer(id);
      const known = [device, otherDevice].find((candidate) => candidate.id === id);
      if (known === undefined) return { found: 'no' };
      return { found: 'yes', device: credentials(known, revoked.has(id)) };
    },
    seen: (id) => {
      seen.push(id);
    },
    loggedIn: (device) => {
      seen.push(device.id);
    },
    close: async () => {},
  };

  const claimed: string[] = [];
  const awaitingDownlink = new Set<() => void>();
  const downlink: Downlink = {
    deliver: () => {},
    onStored: undefined,
    store: undefined,
    notStored: undefined,
    reachable: true,
    claim(deviceId, onAnswer = () => {}) {
      claimed.push(deviceId);
      awaitingDownlink.add(onAnswer);
      let released = false;
      return {
        get answer() {
          return controlled.downlinkAnswer;
        },
        release() {
          awaitingDownlink.delete(onAnswer);
          if (!released) claimed.splice(claimed.indexOf(deviceId), 1);
          released = true;
        },
      };
    },
  };
  const core = await openBroker({
    certificates: options.certificates,
    config: {
      mqttHost: '127.0.0.1',
      mqttTcp: true,
      mqttPort: 0,
      mqttsPort: 0,
      wsPort: undefined,
      wssPort: undefined,
      mqttClientCertUri: '{id}',
      proxyProtocolFrom: undefined,
      acl: 'confined',
      mqttClientCert: 'optional',
      maxConnections: 1_000,
      maxOpenSockets: Number.POSITIVE_INFINITY,
      acceptsPerTurn: 1,
      maxConnectionsPerAddress: 1_000,
      maxConnectsPerSecond: 100_000,
      maxConnectsPerSecondPerAddress: 100_000,
      maxWaitingConnects: 1_000,
      maxFailedLoginsPerDevice: 0,
      maxFailedLoginsPerAddress: 0,
      deviceCacheSize: 1_000,
      maxInFlightPerClient: 512,
      traceContext: 'pass',
      onDeniedPublish: 'answer',
      onUnreadableSession: 'refuse',
      maxKeepaliveSec: 0,
      maxDelayedWills: 10_000,
      maxTopicAliases: 16,
      maxSessionExpiry: undefined,
      maxSessions: 100,
      maxClientsPerDevice: 1_000,
      maxInFlightBytesPerClient: 4_194_304,
      maxExchangesPerClient: 16_384,
      maxExchangesInAll: 4_194_304,
      maxTopicBytes: 65_535,
      maxTopicLevels: 100,
      maxWillBytes: 65_535,
      maxPublishRatePerDevice: 0,
      publishBurstSec: 5,
      slowReaderTimeoutSec: 30,
      connectTimeoutSec: 10,
      maxConnectPacketBytes: 16_384,
      maxPacketBytes: 1_048_576,
      maxOutgoingBytes: 1_048_576,
      maxOutgoingBytesInAll: 268_435_456,
      maxSubscriptionsPerClient: 10,
      maxSubscriptionBytesInAll: 536_870_912,
      maxQueuedMessages: 1_000,
      maxRetainedMessages: 10_000,
      maxRetainedBytes: 67_108_864,
      ...config,
    },
    replica: 'r1',
    store: options.store ?? openMemorySessionStore('the test has no NATS'),
    events: new EventFeed(),
    forwarder,
    downlink,
    calls: { onCall: () => {}, claim: () => () => {} },
    ledgerOf: (deviceId) => new LedgerEntry(deviceId),
    addressingOf: ({ id }) => ({
      subjectOf: () => `raw.${id}`,
      headersOf: (topic, retain) =>
        Buffer.from(`NATS/1.0\r\nMqtt-Topic: ${topic}\r\n${retain ? 'Mqtt-Retain: 1\r\n' : ''}\r\n`),
      batchable: true,
    }),
    log,
  });
  const broker = await core.listen(directory);

  const controlled: ControlledBroker = {
    broker,
    core,
    port: broker.ports.tcp ?? 0,
    device,
    otherDevice,
    taken,
    seen,
    takesTtl: false,
    autoStore: true,
    storeAtOnce: false,
    full: false,
    room: Number.POSITIVE_INFINITY,
    setFull(full) {
      controlled.full = full;
      if (!full) for (const callback of ready.splice(0)) callback();
    },
    answer: undefined,
    beforeAnswer: undefined,
    revoke(id) {
      revoked.add(id);
      core.kick(id, 'revoked');
    },
    downlinkAnswer: 'held',
    answerDownlink(answer) {
      controlled.downlinkAnswer = answer;
      for (const onAnswer of [...awaitingDownlink]) onAnswer();
    },
    claimed,
    command: (topic, payload) => downlink.deliver({ topic, payload, qos: 1 }),
    async close() {
      await broker.close();
      await core.close();
    },
  };
  return controlled;
}

function credentials(device: { id: string; password: string }, revoked: boolean): DeviceCredentials {
  const secretHash = createHash('sha256').update(salt).update(device.password).digest();
  return {
    id: device.id,
    type: 'sensor',
    secretHash,
    secretSalt: salt,
    previousSecret: undefined,
    revokedAtMs: revoked ? Date.now() : undefined,
    expiresAtMs: undefined,
  };
}
