import type { ClientProgress } from '../../command-state.js';
import type { Config } from '../../config.js';
import { type DeviceCredentials, isExpired } from '../../db/device-credentials.js';
import type { DevicePolicy } from '../../db/policies.js';
import { type Log, limitLog } from '../../log.js';
import type { DeviceDirectory } from '../device-directory.js';
import type { EventFeed } from '../event-feed.js';
import type { Calls } from '../forward/calls.js';
import type { DeadLetters } from '../forward/dead-letters.js';
import type { Downlink } from '../forward/downlink.js';
import type { FleetTelling } from '../forward/fleet/fleet-telling.js';
import type { Forwarder } from '../forward/forwarder.js';
import type { Presence } from '../forward/state/presence.js';
import type { SharedState } from '../forward/state/shared-state.js';
import { type LiveConnections, shortenText } from '../live.js';
import type { CertificateStore } from '../tls/certificate-store.js';
import { compilePolicy, type Policy } from './admission/authorize.js';
import { type Gate, type GateConfig, openGate } from './admission/connection-gate.js';
import { openDeviceRoom } from './admission/device-room.js';
import { createPolicySet } from './admission/policy-set.js';
import { Connection } from './connection.js';
import { type ConnectionServicesConfig, createConnectionServices } from './connection-services.js';
import { openConnectionList } from './live/connection-list.js';
import { openConnectionMeters } from './live/connection-meters.js';
import { type BrokerCounters, newBrokerCounters } from './live/counters.js';
import type { LedgerEntry } from './live/ledger-entry.js';
import { type CloseReason, closeReasons, isExpected } from './protocol/close-reason.js';
import { protocolNames } from './protocol/packet-type.js';
import { type AskedCommand, stateOf } from './sessions/command-state.js';
import { openCommandTopics } from './sessions/command-topics.js';
import { openDeviceCalls } from './sessions/device-calls.js';
import { applyPolicies } from './sessions/policy-change.js';
import { openRegistry } from './sessions/registry.js';
import { createRetainedMessages, type RetainedMessages } from './sessions/retained-messages.js';
import { clientOfKey } from './sessions/session-key.js';
import { openSessionReaper } from './sessions/session-reaper.js';
import type { SessionStore } from './sessions/session-store.js';
import { openSessionWriter } from './sessions/session-writer.js';
import { startSessionEngine } from './sessions/subscription-matcher.js';
import { openTakeOver } from './sessions/take-over.js';
import type { Transport } from './transport/accepted-socket.js';
import type { EntranceKeeper } from './transport/handshakes.js';
import { type ListenersConfig, type Ports, startListeners } from './transport/listeners.js';
import { openTurnQueue } from './transport/turn-queue.js';
import type { Addressing } from './uplink/route.js';

export type BrokerConfig = ConnectionServicesConfig &
  GateConfig &
  ListenersConfig &
  Pick<
    Config,
    | 'acl'
    | 'maxSessions'
    | 'maxClientsPerDevice'
    | 'maxDelayedWills'
    | 'maxRetainedMessages'
    | 'maxRetainedBytes'
  >;

/** What can be seen of the MQTT side of a replica. */
export interface BrokerView {
  readonly counters: Readonly<BrokerCounters>;
  /** Connections open now. */
  connectionCount(): number;
  /** Ports listened on, and connections accepted that wait for their turn. */
  arrivals(): { ports: readonly number[]; waiting: number };
  /** Wills that wait for room. */
  waitingWills(): number;
  /** Stored commands that connected clients have not been sent, up to 1,000 of each; looks at each of them. */
  pendingCommands(): number;
  /** Sessions of the fleet that are stored, and those of this replica of which not all is yet. */
  sessions(): { stored: number; waiting: number };
  /** The same by transport; looks at each of them. */
  connectionCounts(): Record<Transport, number>;
  /** Of those that were accepted, by version of MQTT. */
  protocolCounts(): Readonly<Record<string, number>>;
  retained(): RetainedMessages['state'];
  /** Packets read that wait for room, of all connections; looks at each of them. */
  waiting(): { packets: number; bytes: number };
}

/** The MQTT side of a replica. */
export interface Broker extends BrokerView {
  readonly ports: Ports;
  /** Accepts no further connections and reads no further packets; acknowledgements still go out. */
  stopReading(): Promise<void>;
  /** Closes every connection; wills go to the forwarder. Idempotent. */
  close(): Promise<void>;
}

/** The part of the broker that exists before it listens: what the device directory tells about lost devices. */
export interface BrokerCore extends BrokerView {
  deviceIds(): Iterable<string>;
  /** @param device what is now known of it: what of it waits goes where the rules of its type say. */
  kick(
    deviceId: string,
    reason: CloseReason,
    device?: { readonly id: string; readonly type: string },
  ): number;
  /** The device is no more: its sessions that are away are removed. */
  removeSessions(deviceId: string): void;
  /** Ends the connections whose login is no longer good, and learns until when the others' is. */
  refresh(device: DeviceCredentials): void;
  /** The client of this key is connected to this replica. */
  isConnected(key: string): boolean;
  /** Ends what this replica has of the session of this key, and its connection here. */
  dropSession(key: string): void;
  /** Why no client of a device could be sent a command of this topic, in words; undefined: one could. */
  findCommandProblem(
    device: { readonly id: string; readonly type: string },
    topic: string,
  ): string | undefined;
  /**
   * How far the clients of a device that this replica alone knows are with a stored command: those that are connected here, and
   * those that are away where sessions are in memory.
   */
  commandProgress(deviceId: string, command: AskedCommand): ClientProgress[];
  /** The connections, for those who look at them. */
  readonly live: LiveConnections;
  /** Since the start, also before it listens. */
  readonly counters: Readonly<BrokerCounters>;
  /**
   * Sets the policies of all device types; without it every type has the default. Clients go on under the new rules,
   * but one that has a subscription which they do not allow is closed and loses its session, as an absent one does.
   */
  setPolicies(policies: readonly DevicePolicy[]): void;
  listen(directory: DeviceDirectory): Promise<Broker>;
  close(): Promise<void>;
}

const tickMs = 1_000;
/** How often devices that send are reported as seen. */
const seenIntervalMs = 60_000;

/** Prepares the broker: session engine and registry, no listener yet. */
export async function openBroker(options: {
  config: BrokerConfig;
  forwarder: Forwarder;
  /** Messages for devices, wanted for those that have subscribed. */
  downlink: Downlink;
  /** What services ask devices. */
  calls: Calls;
  /** Where refused messages go; undefined: nowhere. */
  deadLetters?: DeadLetters | undefined;
  /** What replicas share; undefined: each has its own. */
  shared?: Pick<SharedState, 'retained' | 'messages'> | undefined;
  /** Begins the id of every connection of this replica. */
  replica: string;
  /** Where sessions are that outlive their connection. */
  store: SessionStore;
  /** Which replicas live; undefined: nobody knows. */
  presence?: Presence | undefined;
  /** Where replicas tell each other of connections; undefined: this one is alone. */
  telling?: FleetTelling | undefined;
  events: EventFeed;
  /** For TLS; undefined: there is none. */
  certificates?: CertificateStore | undefined;
  addressingOf(device: { id: string; type: string }, policy: Policy): Addressing;
  /** Where it is noted what becomes of a device's messages. */
  ledgerOf(deviceId: string): LedgerEntry;
  log: Log;
}): Promise<BrokerCore> {
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

  const connections = new Set<Connection>();
  const meters = openConnectionMeters(connections);
  const live = openConnectionList({ connections, meters, events, log });
  const turns = openTurnQueue();
  const writer = openSessionWriter({ counters, log: limitedLog });
  const { telling, replica, store } = options;
  const reaper = openSessionReaper({
    store,
    presence: options.presence,
    isHere: (key) => registry.find(key) !== undefined,
    log: limitedLog,
  });
  const takeOver = openTakeOver({
    telling,
    registry,
    replica,
    store,
    log: limitedLog,
  });
  const commandTopics = openCommandTopics({
    downlink,
    maxTopicLevels: config.maxTopicLevels,
    deliver: (message) => engine.deliver(message),
    counters,
    log: limitedLog,
  });
  downlink.deliver = (command) => {
    const message = commandTopics.toMessage(command);
    if (message !== undefined) engine.deliver(message);
  };
  downlink.onStored = () => {
    commandTopics.onStored();
    for (const { clients } of registry.devices())
      for (const { session } of clients) session?.onCommandsStored();
  };
  let policies = createPolicySet(config.acl, []);
  const policyOf = (device: { id: string; type: string }) =>
    compilePolicy(policies.templateOf(device.type), device);
  const rulesOf = (device: { id: string; type: string }) => {
    const policy = policyOf(device);
    return { policy, addressing: options.addressingOf(device, policy) };
  };
  const deviceCalls = openDeviceCalls({
    calls: options.calls,
    clientsOf: (deviceId) => registry.clientsOf(deviceId),
  });
  const waitingWills = { count: 0, bytes: 0 };
  let gate: Gate | undefined;
  let ports: Ports = {};

  const view: BrokerView = {
    counters,
    connectionCount: () => connections.size,
    arrivals: () => ({ ports: Object.values(ports), waiting: gate?.waiting ?? 0 }),
    waitingWills: () => waitingWills.count,
    pendingCommands() {
      let pending = 0;
      for (const { client } of connections) pending += client?.session?.pendingCommands(1_000) ?? 0;
      return pending;
    },
    sessions: () => ({ stored: store.size, waiting: writer.pending }),
    retained: () => retained.state,
    connectionCounts() {
      const counts = { tcp: 0, tls: 0, ws: 0, wss: 0 };
      for (const { accepted } of connections) counts[accepted.transport] += 1;
      return counts;
    },
    protocolCounts() {
      const counts = Object.fromEntries(Object.values(protocolNames).map((name) => [name, 0]));
      for (const { isConnected, protocol } of connections)
        if (isConnected) counts[protocol] = (counts[protocol] ?? 0) + 1;
      return counts;
    },
    waiting() {
      let packets = 0;
      let bytes = 0;
      for (const { parked } of connections) {
        packets += parked.count;
        bytes += parked.bytes;
      }
      return { packets, bytes };
    },
  };

  async function listen(directory: DeviceDirectory): Promise<Broker> {
    const services = createConnectionServices(config, {
      directory,
      registry,
      forwarder,
      downlink,
      commandTopics,
      calls: options.calls,
      deviceCalls,
      engine,
      fleet: options.shared?.messages,
      turns,
      counters,
      events,
      log: limitedLog,
      waitingWills,
      replica: options.replica,
      deadLetters: options.deadLetters,
      store,
      writer,
      takeOver,
      policyOf,
      addressingOf: options.addressingOf,
    });
    const opened = openGate({
      config,
      counters,
      log: limitedLog,
      onRefused: (reason) => events.emit({ kind: 'refused', reason }),
    });
    const keeper: EntranceKeeper = {
      mayEnter: opened.mayEnter,
      onArrival: opened.onArrival,
      onClient: (accepted) =>
        connections.add(new Connection(accepted, services, (connection) => connections.delete(connection))),
      onFailed({ remoteAddress, remotePort, transport }, reason, fields) {
        counters.closed[reason] += 1;
        counters.refused[reason] += 1;
        const address = `${remoteAddress}:${remotePort}`;
        const detail = { address, transport, ...fields, reason, why: closeReasons[reason].why };
        if (isExpected(reason)) {
          limitedLog.debug('connection_closed', detail, 'A connection closed in its handshake');
          return;
        }
        events.emit({ kind: 'refused', address, reason });
        limitedLog.info('connect_refused', detail, 'A connection was closed in its handshake');
      },
    };
    const listeners = await startListeners({
      config,
      certificates: options.certificates,
      keeper,
      log: limitedLog,
    });
    gate = opened;
    ports = listeners.ports;
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
        if (wallMs >= connection.validUntilMs && device !== undefined) {
          // A device that has expired loses its sessions too; one whose secret or certificate has ended may come back.
          if (isExpired(device, wallMs)) kick(device.id, 'expired');
          else connection.closeLapsed();
        }
        if (reportSeen && device !== undefined && connection.lastReadMs >= seenAtMs)
          directory.seen(device.id);
      }
      if (reportSeen) seenAtMs = nowMs;
      registry.sweep();
      meters.onTick(nowMs);
    }

    return {
      ports,
      ...view,
      async stopReading() {
        await listeners.close();
        opened.close();
        for (const connection of connections) connection.stopReading();
      },
      async close() {
        clearInterval(ticker);
        await listeners.close();
        opened.close();
        for (const connection of [...connections]) connection.close('server-shutdown');
        writer.flush();
        // Nobody is there to wait for their delay.
        deviceCalls.close();
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
    kick(deviceId, reason, device) {
      if (device !== undefined) registry.setType(deviceId, device.type, () => rulesOf(device));
      return kick(deviceId, reason);
    },
    findCommandProblem(device, topic) {
      const problem = commandTopics.findProblem(topic);
      if (problem !== undefined || policyOf(device).maySubscribe(topic)) return problem;
      return `the policy of type ${device.type} lets no client subscribe to ${topic}`;
    },
    commandProgress(deviceId, command) {
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
    removeSessions: (deviceId) => reaper.removeDevice(deviceId),
    refresh(device) {
      registry.setType(device.id, device.type, () => rulesOf(device));
      for (const { connection } of registry.clientsOf(device.id)) connection?.refresh(device);
    },
    isConnected: (key) => registry.find(key)?.connection !== undefined,
    dropSession(key) {
      const client = registry.find(key);
      if (client !== undefined) registry.drop(client, 'kicked');
    },
    live,
    counters,
    setPolicies(loaded) {
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
    close: () => {
      takeOver.close();
      reaper.close();
      writer.close();
      store.close();
      closing ??= engine.close().finally(() => limitedLog.close());
      return closing;
    },
  };
}
