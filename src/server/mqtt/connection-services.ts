import { randomBytes } from 'node:crypto';
import type { DeviceCredentials } from '../../db/devices/device-credentials.js';
import type { LimitedLog } from '../../log.js';
import type { DeviceDirectory } from '../directory/device-directory.js';
import { shortenText } from '../live.js';
import type { Policy } from './admission/authorize.js';
import { openDeviceRoom } from './admission/device-room.js';
import { openLoginGuard } from './admission/login-guard.js';
import type { BrokerOptions } from './broker-options.js';
import type { BrokerCounters } from './live/counters.js';
import type { SessionServices } from './sessions/client-session.js';
import type { CommandTopics } from './sessions/commands/command-topics.js';
import type { DeviceCalls } from './sessions/commands/device-calls.js';
import { createDeliveries } from './sessions/delivery/deliveries.js';
import type { Registry } from './sessions/registry.js';
import type { SessionWriter } from './sessions/store/session-writer.js';
import { createSharedSubscriptions } from './sessions/subscriptions/shared-subscriptions.js';
import type { SessionEngine } from './sessions/subscriptions/subscription-matcher.js';
import { openSessionTaking } from './sessions/taking/session-taking.js';
import type { TakeOver } from './sessions/taking/take-over.js';
import { openTurnQueue } from './transport/turn-queue.js';
import type { Rules } from './uplink/route.js';
import type { UplinkServices } from './uplink/uplink.js';

export type ConnectionServices = ReturnType<typeof createConnectionServices>;

/** Puts together what every connection shares. */
export function createConnectionServices(
  options: BrokerOptions,
  parts: {
    directory: DeviceDirectory;
    registry: Registry;
    commandTopics: CommandTopics;
    deviceCalls: DeviceCalls;
    engine: SessionEngine;
    counters: BrokerCounters;
    log: LimitedLog;
    waitingWills: UplinkServices['waitingWills'];
    /** Writes sessions to the store. */
    writer: SessionWriter;
    takeOver: TakeOver;
    policyOf(device: DeviceCredentials): Policy;
  },
) {
  const { config, forwarder, events, store } = options;
  const { directory, registry, engine, counters, log } = parts;
  const fleet = options.shared?.messages;
  const turns = openTurnQueue();
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
    downlink: options.downlink,
    commandTopics: parts.commandTopics,
    calls: options.calls,
    get kept() {
      return store.durable ? fleet?.kept : undefined;
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
    nextConnectionId: () => `${options.replica}-${(connectionIds++).toString(36)}`,
    log,
    uplink: {
      forwarder,
      config,
      topicLimits,
      deviceCalls: parts.deviceCalls,
      deadLetters: options.deadLetters,
      waitingWills: parts.waitingWills,
      counters,
      turns,
      deliver: createDeliveries({
        engine,
        shares,
        fleet,
        sessions: store,
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
      store,
      writer: parts.writer,
      registry,
      session,
      maxClientsPerDevice: config.maxClientsPerDevice,
      renewsUnreadable: config.onUnreadableSession === 'renew',
      log,
    }),
    takeOver: parts.takeOver,
    /** How fast a device of this policy may send; undefined: as fast as it can. */
    publishRateOf: (policy: Policy) => {
      const perSecond = policy.publishRate ?? config.maxPublishRatePerDevice;
      return perSecond > 0 ? { perSecond, burst: perSecond * config.publishBurstSec } : undefined;
    },
    /** Largest packet of a client whose device has this policy. @param byNats what NATS takes, bytes. */
    maxPacketBytesOf: (policy: Policy | undefined, byNats = forwarder.maxPayloadBytes) =>
      Math.min(config.maxPacketBytes, byNats, policy?.maxPacketBytes ?? config.maxPacketBytes),
    rulesOf: (device: DeviceCredentials, policy: Policy): Rules => ({
      policy,
      addressing: options.addressingOf(device, policy),
    }),
  };
}
