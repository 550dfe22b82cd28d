import type { Forwarder } from '../../forward/forwarder.js';
import type { DeviceRoom } from '../admission/device-room.js';
import { openSpentRates } from '../admission/spent-rates.js';
import type { BrokerCounters } from '../live/counters.js';
import type { LedgerEntry } from '../live/ledger-entry.js';
import { type CloseReason, suppressesWill } from '../protocol/close-reason.js';
import type { Rules } from '../uplink/route.js';
import { type Client, type ClientConnection, changeRules, type DeviceClients } from './client.js';
import { Exchanges } from './exchanges.js';
import { sessionKey } from './session-key.js';
import type { SessionStore } from './session-store.js';

export interface Admission {
  readonly client: Client;
  /** The client had a persistent session and goes on with it. */
  readonly sessionPresent: boolean;
}

/**
 * Every client of this replica: the one place that decides take-overs and kicks. Everything in
 * it is synchronous, so two connects never interleave.
 */
export interface Registry {
  /**
   * Makes `connection` the one of its client, closing the one before [MQTT-3.1.4-2]. A device that has too many
   * clients loses the session absent longest; when all are connected the answer is undefined.
   */
  admit(
    connection: ClientConnection,
    request: {
      deviceId: string;
      deviceType: string;
      clientId: string;
      cleanStart: boolean;
      sessionExpirySec: number;
      rules: Rules;
    },
  ): Admission | undefined;
  /** The client begins anew: what was kept of its session is forgotten here. */
  discardSession(client: Client): void;
  /**
   * The client's session is elsewhere by now: its connection is closed, and what is here of it forgotten.
   *
   * @param ended it has ended there, and with it the delay of a will.
   */
  lose(client: Client, ended: boolean): void;
  /** The client of a key, see `session-key.ts`, if it is known here. */
  find(key: string): Client | undefined;
  /** Parts a client from its connection, which has closed. */
  release(connection: ClientConnection, client: Client): void;
  /** Closes a client's connection and discards its session. */
  drop(client: Client, reason: CloseReason): void;
  /** Closes every connection of a device and discards its sessions; answers how many connections there were. */
  kick(deviceId: string, reason: CloseReason): number;
  /** The device has this type, whose rules hold for what it sends and for what of it waits. */
  setType(deviceId: string, type: string, rules: () => Rules): void;
  /** Publishes the wills that wait for their delay. */
  publishDelayedWills(): void;
  /** Sessions outlive this process from now on: what is absent is forgotten here once it is stored. */
  onDurable(): void;
  connectionsOf(deviceId: string): ClientConnection[];
  /** The clients of a device that are connected here. */
  clientsOf(deviceId: string): Client[];
  /** The clients of a device that are known here, also those that are away. */
  allClientsOf(deviceId: string): Iterable<Client>;
  /** Ids of the devices that have a connection or a session here. */
  deviceIds(): Iterable<string>;
  /** The same devices, with what is known of their clients. */
  devices(): Iterable<DeviceClients>;
  /**
   * Publishes the wills whose delay is over, ends the sessions that have expired, forgets clients and rates that have nothing
   * left to do, and the sessions absent longest when there are too many.
   */
  sweep(): void;
}

/** A client that comes back within this time has its new messages stored after its earlier ones. */
const laneGraceMs = 60_000;
/** A client that comes back within this time needs nothing of NATS to go on with its session. */
const awayGraceMs = 30_000;

export function openRegistry(options: {
  forwarder: Forwarder;
  maxSessions: number;
  maxClientsPerDevice: number;
  /** Most wills that wait for their delay. */
  maxDelayedWills: number;
  /** Most devices without a client whose publish rates are kept. */
  maxSpentRates: number;
  /** QoS 2 exchanges of all clients. */
  exchangeRoom: DeviceRoom;
  /** Where sessions are: if they outlive this process, a client that is away need not be remembered for its session. */
  store: Pick<SessionStore, 'durable'>;
  counters: BrokerCounters;
  ledgerOf(deviceId: string): LedgerEntry;
}): Registry {
  const clients = new Map<string, Client>();
  const devices = new Map<string, DeviceClients>();
  const spentRates = openSpentRates({ maxDevices: options.maxSpentRates });
  /** Persistent sessions without a connection, the one absent longest first. */
  const absent = new Set<Client>();
  /** Those of them that expire. */
  const expiring = new Set<Client>();
  /** Absent clients whose wills have a delay. */
  const delayed = new Set<Client>();
  /** Clients without a connection whose messages or wills are still on their way to NATS, and since when. */
  const unsettled = new Map<Client, number>();
  /** Clients that are being lost to another replica. */
  const moved = new Set<Client>();
  /** Absent clients whose sessions are stored, and since when: they are forgotten when nothing here needs them. */
  const leaving = new Map<Client, number>();

  function remember(key: string, deviceId: string, deviceType: string): Client | undefined {
    const device = devices.get(deviceId) ?? {
      id: deviceId,
      type: deviceType,
      rules: undefined,
      clients: new Set<Client>(),
      inFlight: 0,
      inFlightBytes: 0,
      publishRate: spentRates.take(deviceId),
      ledger: options.ledgerOf(deviceId),
      awaitingRoom: new Set(),
    };
    if (device.clients.size >= options.maxClientsPerDevice) {
      options.counters.limits['clients-per-device'] += 1;
      if (!makeRoom(device)) return undefined;
    }
    const state: Client = {
      key,
      device,
      lane: options.forwarder.openLane(),
      inFlightBytes: 0,
      wills: [],
      connection: undefined,
      admittedAtMs: 0,
      sessionExpirySec: 0,
      expiresAtMs: Number.POSITIVE_INFINITY,
      delayedWill: undefined,
      exchanges: new Exchanges(options.exchangeRoom, deviceId),
      session: undefined,
      stored: undefined,
      received: undefined,
    };
    clients.set(key, state);
    device.clients.add(state);
    devices.set(deviceId, device);
    return state;
  }

  /** Discards the session of this device that has been absent longest. */
  function makeRoom(device: DeviceClients): boolean {
    for (const state of device.clients) {
      if (state.connection !== undefined) continue;
      discard(state);
      forget(state);
      return true;
    }
    return false;
  }

  function forget(state: Client): void {
    clients.delete(state.key);
    absent.delete(state);
    expiring.delete(state);
    delayed.delete(state);
    unsettled.delete(state);
    leaving.delete(state);
    state.lane.close();
    const { device } = state;
    device.clients.delete(state);
    if (device.clients.size === 0 && devices.get(device.id) === device) {
      devices.delete(device.id);
      if (device.publishRate !== undefined) spentRates.put(device.id, device.publishRate);
    }
  }

  function discardSession(state: Client): void {
    state.exchanges.endAll();
    state.received = undefined;
    state.session?.end();
    state.session = undefined;
  }

  /** The session has ended, and with it the delay of the will [MQTT-3.1.3-9]. */
  function publishDelayedWill(state: Client): void {
    const { delayedWill } = state;
    state.delayedWill = undefined;
    delayed.delete(state);
    delayedWill?.publish();
  }

  /** Ends a session; the client is remembered only while messages of it are on their way. */
  function discard(state: Client): void {
    state.stored?.remove();
    state.stored = undefined;
    discardSession(state);
    // A client that is connected elsewhere is so before the delay is over [MQTT-3.1.3-9].
    if (moved.has(state)) cancelDelayedWill(state);
    else publishDelayedWill(state);
    state.sessionExpirySec = 0;
    absent.delete(state);
    expiring.delete(state);
    leaving.delete(state);
    if (isSettled(state)) forget(state);
    else unsettled.set(state, performance.now());
  }

  /** What is here of the session of an absent client is forgotten, and the session is not: the store has it. */
  function leave(state: Client): void {
    state.stored = undefined;
    discard(state);
  }

  function lose(state: Client, ended: boolean): void {
    state.stored = undefined;
    if (!ended) moved.add(state);
    if (state.connection === undefined) leave(state);
    else state.connection.close('taken-over');
    moved.delete(state);
  }

  function setType(deviceId: string, type: string, rules: () => Rules): void {
    const device = devices.get(deviceId);
    if (device === undefined || device.type === type) return;
    device.type = type;
    changeRules(device, rules());
  }

  function drop(state: Client, reason: CloseReason): void {
    state.connection?.close(reason);
    if (suppressesWill(reason)) cancelDelayedWill(state);
    discard(state);
  }

  function cancelDelayedWill(state: Client): void {
    state.delayedWill = undefined;
    delayed.delete(state);
  }

  /** Discards sessions absent longest, first of devices that have more than their share of them. */
  function evict(): void {
    const counts = new Map<DeviceClients, number>();
    for (const { device } of absent) counts.set(device, (counts.get(device) ?? 0) + 1);
    const share = Math.max(1, Math.floor(options.maxSessions / counts.size));
    for (const atMost of [share, 0]) {
      for (const state of absent) {
        if (absent.size <= options.maxSessions) return;
        const count = counts.get(state.device) ?? 0;
        if (count <= atMost) continue;
        counts.set(state.device, count - 1);
        options.counters.limits.sessions += 1;
        if (options.store.durable) leave(state);
        else discard(state);
      }
    }
  }

  /** The client has been gone for long: what it left behind may be given up when others need the room. */
  function closeLane(state: Client): void {
    unsettled.delete(state);
    if (state.sessionExpirySec > 0) {
      state.lane.close();
      state.lane = options.forwarder.openLane();
    } else {
      forget(state);
    }
  }

  return {
    setType,

    admit(connection, { deviceId, deviceType, clientId, cleanStart, sessionExpirySec, rules }) {
      setType(deviceId, deviceType, () => rules);
      const key = sessionKey(deviceId, clientId);
      clients.get(key)?.connection?.close('taken-over');
      // Closing may have forgotten the client, so it is looked up again.
      const state = clients.get(key) ?? remember(key, deviceId, deviceType);
      if (state === undefined) return undefined;
      state.device.clients.add(state);
      devices.set(deviceId, state.device);
      absent.delete(state);
      expiring.delete(state);
      unsettled.delete(state);
      leaving.delete(state);
      // A session whose subscriptions the policy does not allow is not gone on with, however they came about.
      const isAllowed = state.session === undefined || state.session.isAllowedBy(rules.policy);
      const isExpired = state.expiresAtMs <= performance.now();
      const sessionPresent = !cleanStart && state.sessionExpirySec > 0 && !isExpired && isAllowed;
      // Back within the delay, with the session that it had: the will is not published [MQTT-3.1.3-9].
      if (sessionPresent) cancelDelayedWill(state);
      else publishDelayedWill(state);
      if (!sessionPresent) discardSession(state);
      state.sessionExpirySec = sessionExpirySec;
      state.expiresAtMs = Number.POSITIVE_INFINITY;
      state.connection = connection;
      state.admittedAtMs = performance.now();
      connection.client = state;
      return { client: state, sessionPresent };
    },

    discardSession,

    lose,

    find: (key) => clients.get(key),

    release(connection, state) {
      if (state.connection !== connection) return;
      state.connection = undefined;
      // The set's order is that of the last connection's end, so that the one absent longest comes first.
      state.device.clients.delete(state);
      state.device.clients.add(state);
      state.session?.detach();
      const { stored } = state;
      // What the store was not asked for is not here; what is in the store stays there.
      if (state.sessionExpirySec === 0 || stored?.isHeld !== true) {
        discard(state);
        return;
      }
      void stored.park(state.sessionExpirySec).then((isStored) => {
        if (isStored && options.store.durable && absent.has(state)) leaving.set(state, performance.now());
      });
      absent.add(state);
      if (state.sessionExpirySec !== Number.POSITIVE_INFINITY) {
        state.expiresAtMs = performance.now() + state.sessionExpirySec * 1_000;
        expiring.add(state);
      }
      if (state.delayedWill !== undefined) {
        delayed.add(state);
        if (delayed.size > options.maxDelayedWills) {
          options.counters.limits['delayed-wills'] += 1;
          publishDelayedWill(state);
        }
      }
      if (!isSettled(state)) unsettled.set(state, performance.now());
    },

    drop,

    kick(deviceId, reason) {
      let closed = 0;
      for (const state of [...(devices.get(deviceId)?.clients ?? [])]) {
        if (state.connection !== undefined) closed += 1;
        drop(state, reason);
      }
      return closed;
    },

    clientsOf: (deviceId) =>
      [...(devices.get(deviceId)?.clients ?? [])].filter(({ connection }) => connection !== undefined),

    allClientsOf: (deviceId) => devices.get(deviceId)?.clients ?? [],

    connectionsOf(deviceId) {
      const clients = [...(devices.get(deviceId)?.clients ?? [])];
      return clients.flatMap(({ connection }) => connection ?? []);
    },

    publishDelayedWills() {
      for (const state of [...delayed]) publishDelayedWill(state);
    },

    onDurable() {
      const nowMs = performance.now();
      for (const state of absent) leaving.set(state, nowMs);
    },

    deviceIds: () => devices.keys(),

    devices: () => devices.values(),

    sweep() {
      const nowMs = performance.now();
      for (const state of delayed) if ((state.delayedWill?.dueAtMs ?? 0) <= nowMs) publishDelayedWill(state);
      for (const state of expiring) if (state.expiresAtMs <= nowMs) discard(state);
      const longAgoMs = nowMs - laneGraceMs;
      for (const [state, sinceMs] of unsettled) {
        if (isSettled(state) || sinceMs < longAgoMs) closeLane(state);
      }
      for (const [state, sinceMs] of leaving) {
        if (sinceMs > nowMs - awayGraceMs) break;
        leaving.delete(state);
        if (mayLeave(state)) leave(state);
        else leaving.set(state, nowMs);
      }
      if (absent.size > options.maxSessions) evict();
      spentRates.sweep();
    },
  };
}

function isSettled({ lane, wills }: Client): boolean {
  return lane.inFlight === 0 && wills.length === 0;
}

/** The store has everything of an absent client that somebody could ask for. */
function mayLeave(state: Client): boolean {
  const { session, exchanges, delayedWill, stored } = state;
  if (!isSettled(state) || exchanges.size > 0 || delayedWill !== undefined) return false;
  return stored?.isDirty === false && (session === undefined || session.mayLeave);
}
