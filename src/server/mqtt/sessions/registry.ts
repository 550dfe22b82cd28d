import type { Forwarder } from '../../forward/forwarder.js';
import type { DeviceRoom } from '../admission/device-room.js';
import { openSpentRates } from '../admission/spent-rates.js';
import type { BrokerCounters } from '../live/counters.js';
import type { LedgerEntry } from '../live/ledger-entry.js';
import { type CloseReason, suppressesWill } from '../protocol/close-reason.js';
import type { Rules } from '../uplink/route.js';
import { Client, type ClientConnection, changeRules, DeviceClients } from './client.js';
import { Exchanges } from './exchanges.js';
import { sessionKey } from './store/session-key.js';
import type { SessionStore } from './store/session-store.js';
import { isSettled, openAbsentClients } from './taking/absent-clients.js';

export type Registry = ReturnType<typeof openRegistry>;

export interface Admission {
  readonly client: Client;
  /** The client had a persistent session and goes on with it. */
  readonly sessionPresent: boolean;
}

/**
 * Every client of this replica: the one place that decides take-overs and kicks. Everything in
 * it is synchronous, so two connects never interleave.
 */
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
}) {
  const clients = new Map<string, Client>();
  const devices = new Map<string, DeviceClients>();
  const spentRates = openSpentRates({ maxDevices: options.maxSpentRates });
  const absent = openAbsentClients({ ...options, discard, leave, closeLane });
  /** Clients that are being lost to another replica. */
  const moved = new Set<Client>();

  function remember(key: string, deviceId: string, deviceType: string): Client | undefined {
    const device =
      devices.get(deviceId) ??
      new DeviceClients(deviceId, deviceType, options.ledgerOf(deviceId), spentRates.take(deviceId));
    if (device.clients.size >= options.maxClientsPerDevice) {
      options.counters.limits['clients-per-device'] += 1;
      if (!makeRoom(device)) return undefined;
    }
    const lane = options.forwarder.openLane();
    const client = new Client(key, device, lane, new Exchanges(options.exchangeRoom, deviceId));
    clients.set(key, client);
    device.clients.add(client);
    devices.set(deviceId, device);
    return client;
  }

  /** Discards the session of this device that has been absent longest. */
  function makeRoom(device: DeviceClients): boolean {
    const away = [...device.clients].find(({ connection }) => connection === undefined);
    if (away === undefined) return false;
    discard(away);
    forget(away);
    return true;
  }

  function forget(client: Client): void {
    clients.delete(client.key);
    absent.delete(client);
    client.lane.close();
    const { device } = client;
    device.clients.delete(client);
    if (device.clients.size === 0 && devices.get(device.id) === device) {
      devices.delete(device.id);
      if (device.publishRate !== undefined) spentRates.put(device.id, device.publishRate);
    }
  }

  /** The client begins anew: what was kept of its session is forgotten here. */
  function discardSession(client: Client): void {
    client.exchanges.endAll();
    client.received = undefined;
    client.session?.end();
    client.session = undefined;
  }

  /** Ends a session; the client is remembered only while messages of it are on their way. */
  function discard(client: Client): void {
    client.stored?.remove();
    client.stored = undefined;
    discardSession(client);
    // A client that is connected elsewhere is so before the delay is over [MQTT-3.1.3-9].
    if (moved.has(client)) absent.cancelWill(client);
    else absent.publishWill(client);
    client.sessionExpirySec = 0;
    absent.delete(client);
    if (isSettled(client)) forget(client);
    else absent.addUnsettled(client);
  }

  /** What is here of the session of an absent client is forgotten, and the session is not: the store has it. */
  function leave(client: Client): void {
    client.stored = undefined;
    discard(client);
  }

  function closeLane(client: Client): void {
    if (client.sessionExpirySec > 0) {
      client.lane.close();
      client.lane = options.forwarder.openLane();
    } else {
      forget(client);
    }
  }

  /** The device has this type, whose rules hold for what it sends and for what of it waits. */
  function setType(deviceId: string, type: string, rules: () => Rules): void {
    const device = devices.get(deviceId);
    if (device === undefined || device.type === type) return;
    device.type = type;
    changeRules(device, rules());
  }

  /** Closes a client's connection and discards its session. */
  function drop(client: Client, reason: CloseReason): void {
    if (suppressesWill(reason)) absent.cancelWill(client);
    client.connection?.close(reason);
    discard(client);
  }

  /** The clients of a device that are known here, also those that are away. */
  function allClientsOf(deviceId: string): Client[] {
    return [...(devices.get(deviceId)?.clients ?? [])];
  }

  return {
    setType,
    discardSession,
    drop,
    allClientsOf,

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
    ): Admission | undefined {
      const { deviceId, deviceType, cleanStart, rules } = request;
      setType(deviceId, deviceType, () => rules);
      const key = sessionKey(deviceId, request.clientId);
      clients.get(key)?.connection?.close('taken-over');
      // Closing may have forgotten the client, so it is looked up again.
      const client = clients.get(key) ?? remember(key, deviceId, deviceType);
      if (client === undefined) return undefined;
      client.device.clients.add(client);
      devices.set(deviceId, client.device);
      absent.delete(client);
      // A session whose subscriptions the policy does not allow is not gone on with, however they came about.
      const isAllowed = client.session === undefined || client.session.isAllowedBy(rules.policy);
      const isExpired = client.expiresAtMs <= performance.now();
      const sessionPresent = !cleanStart && client.sessionExpirySec > 0 && !isExpired && isAllowed;
      // Only CONNACK tells whether the client is back: a connection that never has it goes on with no session.
      absent.holdWill(client);
      if (!sessionPresent) discardSession(client);
      client.sessionExpirySec = request.sessionExpirySec;
      client.expiresAtMs = Number.POSITIVE_INFINITY;
      client.connection = connection;
      client.admittedAtMs = performance.now();
      connection.client = client;
      return { client, sessionPresent };
    },

    /**
     * Sees to the will that waits for its delay.
     *
     * @param isBack its client is, with the session that it had: the will is not published [MQTT-3.1.3-9]. Else that one has ended.
     */
    settleWill(client: Client, isBack: boolean): void {
      if (isBack) absent.cancelWill(client);
      else absent.publishWill(client);
    },

    /**
     * The client's session is elsewhere by now: its connection is closed, and what is here of it forgotten.
     *
     * @param ended it has ended there, and with it the delay of a will.
     */
    lose(client: Client, ended: boolean): void {
      client.stored = undefined;
      if (!ended) moved.add(client);
      if (client.connection === undefined) leave(client);
      else client.connection.close('taken-over');
      moved.delete(client);
    },

    /** The client of a key, see `session-key.ts`, if it is known here. */
    find: (key: string): Client | undefined => clients.get(key),

    /** Parts a client from its connection, which has closed. */
    release(connection: ClientConnection, client: Client): void {
      if (client.connection !== connection) return;
      client.connection = undefined;
      // The set's order is that of the last connection's end, so that the one absent longest comes first.
      client.device.clients.delete(client);
      client.device.clients.add(client);
      client.session?.detach();
      const { stored, sessionExpirySec } = client;
      // What the store was not asked for is not here; what is in the store stays there.
      if (sessionExpirySec === 0 || stored?.isHeld !== true) discard(client);
      else absent.add(client, stored.park(sessionExpirySec));
    },

    /** Closes every connection of a device and discards its sessions; answers how many connections there were. */
    kick(deviceId: string, reason: CloseReason): number {
      let closed = 0;
      for (const client of allClientsOf(deviceId)) {
        if (client.connection !== undefined) closed += 1;
        drop(client, reason);
      }
      return closed;
    },

    /** The clients of a device that are connected here. */
    clientsOf: (deviceId: string): Client[] =>
      allClientsOf(deviceId).filter(({ connection }) => connection !== undefined),

    publishDelayedWills: absent.publishWills,

    /** Sessions outlive this process from now on. */
    onDurable: absent.onDurable,

    /** Every client that is known here, also those that are away. */
    clients: () => clients.values(),

    /** Ids of the devices that have a connection or a session here. */
    deviceIds: () => devices.keys(),

    /** The same devices, with what is known of their clients. */
    devices: () => devices.values(),

    /**
     * Publishes the wills whose delay is over, ends the sessions that have expired, forgets clients and rates that have nothing
     * left to do, and the sessions absent longest when there are too many.
     */
    sweep(): void {
      absent.sweep();
      spentRates.sweep();
    },
  };
}
