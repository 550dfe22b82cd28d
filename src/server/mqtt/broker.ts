import { setTimeout as delay } from 'node:timers/promises';
import type { ClientProgress } from '../../command-state.js';
import { type DeviceCredentials, isExpired } from '../../db/devices/device-credentials.js';
import type { DevicePolicy } from '../../db/policies.js';
import { limitLog } from '../../log.js';
import type { DeviceDirectory } from '../directory/device-directory.js';
import { shortenText } from '../live.js';
import { compilePolicy } from './admission/authorize.js';
import { openDeviceRoom } from './admission/device-room.js';
import { createPolicySet } from './admission/policy-set.js';
import { type Arrivals, openArrivals } from './arrivals.js';
import type { BrokerOptions } from './broker-options.js';
import { viewBroker } from './broker-view.js';
import { Connection } from './connection.js';
import { createConnectionServices } from './connection-services.js';
import { openConnectionList } from './live/connection-list.js';
import { openConnectionMeters } from './live/connection-meters.js';
import { ConnectionRoll } from './live/connection-roll.js';
import { newBrokerCounters } from './live/counters.js';
import type { CloseReason } from './protocol/close-reason.js';
import { type AskedCommand, stateOf } from './sessions/commands/command-state.js';
import { openCommandTopics } from './sessions/commands/command-topics.js';
import { openDeviceCalls } from './sessions/commands/device-calls.js';
import { applyPolicies } from './sessions/policy-change.js';
import { openRegistry } from './sessions/registry.js';
import { clientOfKey } from './sessions/store/session-key.js';
import { openSessionReaper } from './sessions/store/session-reaper.js';
import { openSessionWriter } from './sessions/store/session-writer.js';
import { createRetainedMessages } from './sessions/subscriptions/retained-messages.js';
import { startSessionEngine } from './sessions/subscriptions/subscription-matcher.js';
import { openTakeOver } from './sessions/taking/take-over.js';

export type BrokerCore = Awaited<ReturnType<typeof openBroker>>;

/** The MQTT side of a replica, once it listens. */
export type Broker = Awaited<ReturnType<BrokerCore['listen']>>;

/** What policies go by. */
type DeviceOfType = Pick<DeviceCredentials, 'id' | 'type'>;

const tickMs = 1_000;
/** Of clients whose connections end with this replica, those that are back elsewhere after so long have no will published. */
const clientsReturnWithinMs = 1_000;
/** How often devices that send are reported as seen. */
const seenIntervalMs = 60_000;

/** Prepares the broker: session engine and registry, no listener yet. */
export async function openBroker(options: BrokerOptions) {
  const { config, forwarder, downlink, events, log } = options;
  const counters = newBrokerCounters();
  const limitedLog = limitLog(log);
  const retained = createRetainedMessages({
    limits: { maxMessages: config.maxRetainedMessages, maxBytes: config.maxRetainedBytes },
    store: options.shared?.retained,
    onRefused(topic, reason) {
      counters.limits['retained-messages'] += 1;
      limitedLog.warn(
        'retained_refused',
        { topic: shortenText(topic), reason },
        'A message was delivered and not retained',
      );
    },
  });
  const interest = options.shared?.messages.interest;
  const engine = await startSessionEngine({ log, retained, interest });
  const registry = openRegistry({
    forwarder,
    maxSessions: config.maxSessions,
    maxClientsPerDevice: config.maxClientsPerDevice,
    maxDelayedWills: config.maxDelayedWills,
    maxSpentRates: config.deviceCacheSize,
    exchangeRoom: openDeviceRoom(config.maxExchangesInAll),
    store: options.store,
    counters,
    ledgerOf: options.ledgerOf,
  });

  const connections = new ConnectionRoll<Connection>();
  const meters = openConnectionMeters(connections);
  const live = openConnectionList({ connections, meters, events, log });
  const writer = openSessionWriter({ counters, log: limitedLog });
  const { telling, replica, store } = options;
  const reaper = openSessionReaper({
    store,
    presence: options.presence,
    isHere: (key) => registry.find(key) !== undefined,
    log: limitedLog,
  });
  const takeOver = openTakeOver({ telling, registry, replica, store, log: limitedLog });
  const commandTopics = openCommandTopics({
    downlink,
    maxTopicLevels: config.maxTopicLevels,
    deliver: (message) => engine.deliver(message),
    counters,
    log: limitedLog,
  });
  downlink.deliver = commandTopics.deliver;
  downlink.onStored = () => {
    commandTopics.onStored();
    for (const { session } of registry.clients()) session?.onCommandsStored();
  };
  let policies = createPolicySet(config.acl, []);
  const policyOf = (device: DeviceOfType) => compilePolicy(policies.templateOf(device.type), device);
  const rulesOf = (device: DeviceOfType) => {
    const policy = policyOf(device);
    return { policy, addressing: options.addressingOf(device, policy) };
  };
  const deviceCalls = openDeviceCalls({
    calls: options.calls,
    clientsOf: (deviceId) => registry.clientsOf(deviceId),
  });
  const waitingWills = { count: 0, bytes: 0 };
  let arrivals: Arrivals | undefined;

  const view = viewBroker({
    counters,
    connections,
    waitingWills,
    store,
    writer,
    retained,
    arrivals: () => ({ ports: Object.values(arrivals?.ports ?? {}), waiting: arrivals?.waiting ?? 0 }),
  });

  function hasDelayedWill(): boolean {
    for (const { delayedWill } of registry.clients()) if (delayedWill !== undefined) return true;
    return false;
  }

  async function listen(directory: DeviceDirectory) {
    const services = createConnectionServices(options, {
      directory,
      registry,
      commandTopics,
      deviceCalls,
      engine,
      counters,
      log: limitedLog,
      waitingWills,
      writer,
      takeOver,
      policyOf,
    });
    const opened = await openArrivals({
      config,
      certificates: options.certificates,
      counters,
      events,
      log: limitedLog,
      onClient: (accepted) => connections.add(new Connection(accepted, services, connections)),
    });
    arrivals = opened;
    let seenAtMs = performance.now();
    const ticker = setInterval(() => {
      const nowMs = performance.now();
      // Timers come before what has arrived: when this process stood still, the bytes of clients that are taken for
      // silent may be waiting to be read.
      setImmediate(check, nowMs);
    }, tickMs);
    ticker.unref();

    /** Looks at every connection as it was at that time, or has been since. */
    function check(nowMs: number): void {
      const wallMs = Date.now();
      const reportSeen = nowMs - seenAtMs >= seenIntervalMs;
      for (const connection of connections) {
        connection.onTick(nowMs);
        const { device } = connection;
        if (wallMs >= connection.loginTerm.untilMs && device !== undefined) {
          // A device that has expired loses its sessions too; one whose secret or certificate has ended may come back.
          if (isExpired(device, wallMs)) kick(device.id, 'expired');
          else connection.close(connection.loginTerm.endReason);
        }
        if (reportSeen && device !== undefined && connection.silence.lastReadMs >= seenAtMs)
          directory.seen(device.id);
      }
      if (reportSeen) seenAtMs = nowMs;
      registry.sweep();
      meters.onTick(nowMs);
    }

    return {
      ports: opened.ports,
      ...view,
      /** Accepts no further connections and reads no further packets; acknowledgements still go out. */
      async stopReading(): Promise<void> {
        await opened.close();
        for (const connection of connections) connection.stopReading();
      },
      /** Closes every connection; wills go to the forwarder. Idempotent. */
      async close(): Promise<void> {
        clearInterval(ticker);
        await opened.close();
        for (const connection of [...connections]) connection.close('server-shutdown');
        writer.flush();
        deviceCalls.close();
        // Clients that go on with their sessions on other replicas are lost to these meanwhile, with their wills.
        if (store.durable && store.reachable && hasDelayedWill()) await delay(clientsReturnWithinMs);
        // Nobody is there to wait for their delay.
        registry.publishDelayedWills();
      },
    };
  }

  function kick(deviceId: string, reason: CloseReason): number {
    reaper.removeDevice(deviceId);
    return registry.kick(deviceId, reason);
  }

  let closing: Promise<void> | undefined;
  return {
    ...view,
    deviceIds: () => registry.deviceIds(),
    /** @param device what is now known of it: what of it waits goes where the rules of its type say. */
    kick(deviceId: string, reason: CloseReason, device?: DeviceOfType): number {
      if (device !== undefined) registry.setType(deviceId, device.type, () => rulesOf(device));
      return kick(deviceId, reason);
    },
    /** Why no client of a device could be sent a command of this topic, in words; undefined: one could. */
    findCommandProblem(device: DeviceOfType, topic: string): string | undefined {
      const problem = commandTopics.findProblem(topic);
      if (problem !== undefined || policyOf(device).maySubscribe(topic)) return problem;
      return `the policy of type ${device.type} lets no client subscribe to ${topic}`;
    },
    /**
     * How far the clients of a device that this replica alone knows are with a stored command: those that are connected here, and
     * those that are away where sessions are in memory.
     */
    commandProgress(deviceId: string, command: AskedCommand): ClientProgress[] {
      const { incarnation } = downlink.store ?? {};
      const found: ClientProgress[] = [];
      for (const { key, connection, session } of registry.allClientsOf(deviceId)) {
        const connected = connection !== undefined;
        if (incarnation === undefined || session === undefined || !(connected || !store.durable)) continue;
        const progress = stateOf(command, incarnation, session.snapshot());
        if (progress !== undefined) found.push({ client: clientOfKey(key), connected, ...progress });
      }
      return found;
    },
    /** The device is no more: its sessions that are away are removed. */
    removeSessions: (deviceId: string) => reaper.removeDevice(deviceId),
    /** Ends the connections whose login is no longer good, and learns until when the others' is. */
    refresh(device: DeviceCredentials): void {
      registry.setType(device.id, device.type, () => rulesOf(device));
      for (const { connection } of registry.clientsOf(device.id)) connection?.refresh(device);
    },
    /** The client of this key is connected to this replica. */
    isConnected: (key: string) => registry.find(key)?.connection !== undefined,
    /** Ends what this replica has of the session of this key, and its connection here. */
    dropSession(key: string): void {
      const client = registry.find(key);
      if (client !== undefined) registry.drop(client, 'kicked');
    },
    /** The connections, for those who look at them. */
    live,
    /**
     * Sets the policies of all device types; without it every type has the default. Clients go on under the new rules,
     * but one that has a subscription which they do not allow is closed and loses its session, as an absent one does.
     */
    setPolicies(loaded: readonly DevicePolicy[]): void {
      const before = policies;
      policies = createPolicySet(config.acl, loaded, before);
      if (policies.anyDelivery) {
        options.shared?.retained.start();
        options.shared?.messages.start();
      }
      const isChanged = (type: string) => before.templateOf(type) !== policies.templateOf(type);
      applyPolicies({ registry, rulesOf, isChanged, log });
    },
    listen,
    close: (): Promise<void> => {
      takeOver.close();
      reaper.close();
      writer.close();
      store.close();
      closing ??= engine.close().finally(() => limitedLog.close());
      return closing;
    },
  };
}
