import { randomBytes } from 'node:crypto';
import type { Config } from '../../config.js';
import type { DeviceCredentials } from '../../db/device-credentials.js';
import type { LimitedLog } from '../../log.js';
import type { DeviceDirectory } from '../device-directory.js';
import type { EventFeed } from '../event-feed.js';
import type { Calls } from '../forward/calls.js';
import type { DeadLetters } from '../forward/dead-letters.js';
import type { Downlink } from '../forward/downlink.js';
import type { Forwarder } from '../forward/forwarder.js';
import type { FleetMessages } from '../forward/state/fleet-messages.js';
import { shortenText } from '../live.js';
import type { MemoryBounds } from '../memory-bounds.js';
import type { Policy } from './admission/authorize.js';
import type { TermsConfig } from './admission/connack.js';
import { openDeviceRoom } from './admission/device-room.js';
import type { LoginServices } from './admission/login.js';
import { openLoginGuard } from './admission/login-guard.js';
import type { RateLimits } from './admission/publish-rate.js';
import type { BrokerCounters } from './live/counters.js';
import type { SessionServices } from './sessions/client-session.js';
import type { CommandTopics } from './sessions/command-topics.js';
import { createDeliveries } from './sessions/deliveries.js';
import type { DeviceCalls } from './sessions/device-calls.js';
import type { Registry } from './sessions/registry.js';
import type { SessionStore } from './sessions/session-store.js';
import { openSessionTaking, type SessionTaking } from './sessions/session-taking.js';
import type { SessionWriter } from './sessions/session-writer.js';
import { createSharedSubscriptions } from './sessions/shared-subscriptions.js';
import type { SessionEngine } from './sessions/subscription-matcher.js';
import type { TakeOver } from './sessions/take-over.js';
import type { TurnQueue } from './transport/turn-queue.js';
import type { Addressing } from './uplink/route.js';
import type { UplinkServices } from './uplink/uplink.js';

/** The settings that a connection looks at. */
export type ConnectionConfig = TermsConfig &
  Pick<Config, 'connectTimeoutSec' | 'maxConnectPacketBytes' | 'maxPacketBytes' | 'slowReaderTimeoutSec'>;

/** What every connection shares. */
export interface ConnectionServices {
  readonly config: ConnectionConfig;
  readonly directory: DeviceDirectory;
  readonly registry: Registry;
  readonly login: LoginServices;
  readonly turns: TurnQueue;
  readonly uplink: UplinkServices;
  readonly session: SessionServices;
  readonly taking: SessionTaking;
  readonly takeOver: TakeOver;
  readonly counters: BrokerCounters;
  readonly events: EventFeed;
  readonly log: LimitedLog;
  nextConnectionId(): string;
  /** How fast a device of this policy may send; undefined: as fast as it can. */
  publishRateOf(policy: Policy): RateLimits | undefined;
  addressingOf(device: DeviceCredentials, policy: Policy): Addressing;
}

export type ConnectionServicesConfig = ConnectionConfig &
  LoginServices['config'] &
  MemoryBounds &
  Pick<
    Config,
    | 'maxFailedLoginsPerDevice'
    | 'maxFailedLoginsPerAddress'
    | 'deviceCacheSize'
    | 'maxInFlightPerClient'
    | 'maxInFlightBytesPerClient'
    | 'maxExchangesPerClient'
    | 'maxTopicBytes'
    | 'maxTopicLevels'
    | 'maxPublishRatePerDevice'
    | 'publishBurstSec'
    | 'maxQueuedMessages'
    | 'maxOutgoingBytes'
    | 'maxSubscriptionsPerClient'
    | 'maxClientsPerDevice'
    | 'traceContext'
    | 'onDeniedPublish'
    | 'onUnreadableSession'
  >;

/** Puts together what the connections share. */
export function createConnectionServices(
  config: ConnectionServicesConfig,
  parts: {
    directory: DeviceDirectory;
    registry: Registry;
    forwarder: Forwarder;
    downlink: Downlink;
    commandTopics: CommandTopics;
    calls: Calls;
    deviceCalls: DeviceCalls;
    engine: SessionEngine;
    fleet: FleetMessages | undefined;
    turns: TurnQueue;
    counters: BrokerCounters;
    events: EventFeed;
    log: LimitedLog;
    waitingWills: UplinkServices['waitingWills'];
    replica: string;
    deadLetters: DeadLetters | undefined;
    /** Where sessions are that outlive their connection. */
    store: SessionStore;
    /** Writes to it. */
    writer: SessionWriter;
    takeOver: TakeOver;
    policyOf(device: DeviceCredentials): Policy;
    addressingOf(device: DeviceCredentials, policy: Policy): Addressing;
  },
): ConnectionServices {
  const { directory, registry, forwarder, downlink, commandTopics, engine, turns, counters, events, log } =
    parts;
  const shares = createSharedSubscriptions(engine, counters);
  const topicLimits = { maxTopicBytes: config.maxTopicBytes, maxTopicLevels: config.maxTopicLevels };
  const messageIdPrefix = randomBytes(9).toString('base64url');
  let messageIds = 0;
  let connectionIds = 0;
  const session: SessionServices = {
    engine,
    shares,
    limits: {
      maxMessages: config.maxQueuedMessages,
      maxBytes: config.maxOutgoingBytes,
      maxBytesInAll: config.maxOutgoingBytesInAll,
    },
    outgoing: { bytes: 0 },
    maxSubscriptions: config.maxSubscriptionsPerClient,
    topicLimits,
    subscriptionRoom: openDeviceRoom(config.maxSubscriptionBytesInAll),
    counters,
    downlink,
    commandTopics,
    calls: parts.calls,
    get kept() {
      return parts.store.durable ? parts.fleet?.kept : undefined;
    },
  };
  return {
    config,
    directory,
    registry,
    login: {
      config,
      directory,
      loginGuard: openLoginGuard({
        perDevice: config.maxFailedLoginsPerDevice,
        perAddress: config.maxFailedLoginsPerAddress,
        maxDevices: config.deviceCacheSize,
      }),
      counters,
      log,
      topicLimits,
      policyOf: parts.policyOf,
    },
    turns,
    counters,
    events,
    nextConnectionId: () => `${parts.replica}-${(connectionIds++).toString(36)}`,
    log,
    uplink: {
      forwarder,
      maxInFlightPerClient: config.maxInFlightPerClient,
      maxInFlightBytesPerClient: config.maxInFlightBytesPerClient,
      maxExchangesPerClient: config.maxExchangesPerClient,
      topicLimits,
      deviceCalls: parts.deviceCalls,
      deadLetters: parts.deadLetters,
      closesDenied: config.onDeniedPublish === 'disconnect',
      takesTtl: () => forwarder.takesTtl,
      makesTraces: config.traceContext === 'make',
      waitingWills: parts.waitingWills,
      counters,
      turns,
      deliver: createDeliveries({
        engine,
        shares,
        fleet: parts.fleet,
        sessions: parts.store,
        counters,
        onNotPassed: (topic, reason) =>
          log.warn(
            'message_not_passed',
            { topic: shortenText(topic), reason },
            'A message did not reach the clients of other replicas',
          ),
      }),
      nextMessageId: () => `${messageIdPrefix}.${(messageIds++).toString(36)}`,
    },
    session,
    taking: openSessionTaking({
      store: parts.store,
      writer: parts.writer,
      registry,
      session,
      maxClientsPerDevice: config.maxClientsPerDevice,
      renewsUnreadable: config.onUnreadableSession === 'renew',
      log,
    }),
    takeOver: parts.takeOver,
    publishRateOf: (policy) => {
      const perSecond = policy.publishRate ?? config.maxPublishRatePerDevice;
      return perSecond > 0 ? { perSecond, burst: perSecond * config.publishBurstSec } : undefined;
    },
    addressingOf: parts.addressingOf,
  };
}
