import type { CommandProgressJson } from '../api/command.js';
import type {
  ConnectionDetailsJson,
  ConnectionJson,
  ConnectionKeys,
  ConnectionPageJson,
  ConnectionRequest,
  KeysRequest,
} from '../api/connection.js';
import type { EventJson } from '../api/event.js';
import type { SessionJson } from '../api/session.js';
import type { FleetJson, StatsJson } from '../api/stats.js';
import type { ClientProgress } from '../command-state.js';
import type { Actor } from '../db/audit.js';
import type { Ledger } from '../db/devices/device-ledger.js';
import { maskSecrets } from '../db/secrets.js';
import type { EventFeed } from './event-feed.js';
import type { StoredCommand } from './forward/commands/stored-command.js';
import type { AskedCommand } from './mqtt/sessions/commands/command-state.js';

/** The connections of this replica, for those who look at them. */
export interface LiveConnections {
  /** Accepted connections. */
  count(): number;
  list(request: ConnectionRequest): Omit<ConnectionPageJson, 'replicas'>;
  /** What the connections of a page are chosen by, to be compared with those of other replicas. */
  keys(request: KeysRequest): ConnectionKeys;
  /** Those of the ids that are still there, in any order. */
  rows(ids: readonly string[]): ConnectionJson[];
  find(id: string): ConnectionDetailsJson | undefined;
  /** Ends a connection; answers which it was, or undefined when there is no such connection. */
  kick(id: string, actor: Actor): { deviceId: string; clientId: string } | undefined;
}

/** The sessions that outlive their connection, wherever they are. Each rejects with SvcMqttError NATS_* when NATS does not answer. */
export interface LiveSessions {
  /**
   * @param request.devices only sessions of these; none named: of all.
   * @param request.devicePrefix what the id of their device begins with.
   * @param request.after the id behind which the page begins.
   * @returns in order of id, and after which one the next page begins; undefined: there is none.
   */
  list(request: {
    readonly devices: readonly string[];
    readonly devicePrefix: string;
    readonly after: string | undefined;
    readonly limit: number;
  }): Promise<{ readonly sessions: SessionJson[]; readonly next: string | undefined }>;
  find(id: string): Promise<SessionJson | undefined>;
  /** Ends a session, and the connection that has it; answers whose it was, or undefined when there is no such session. */
  end(id: string, actor: Actor): Promise<{ deviceId: string; clientId: string } | undefined>;
}

/** Stored commands, as this replica knows them. */
export interface LocalCommands {
  /** @throws SvcMqttError COMMAND_NOT_FOUND, COMMAND_GONE, NATS_UNREACHABLE. */
  find(
    deviceId: string,
    sequence: number,
  ): Promise<{ readonly stream: string; readonly command: StoredCommand }>;
  /** What this replica alone knows of clients: those that are connected, or have their session in its memory. */
  here(deviceId: string, command: AskedCommand): ClientProgress[];
  /** What the records of the device's sessions say. @throws SvcMqttError NATS_*. */
  stored(deviceId: string, command: AskedCommand): Promise<ClientProgress[]>;
}

/** Stored commands, as all replicas together know them. */
export interface FleetCommands {
  /** How far a command is. @throws SvcMqttError COMMAND_NOT_FOUND, COMMAND_GONE, NATS_*. */
  progress(deviceId: string, sequence: number): Promise<CommandProgressJson>;
}

const maxShownCharacters = 256;
/** More than the longest secret of ours has, so that none is cut before it is found. */
const longestSecret = 64;

/** Text of a stranger for a log line, an event or a detail: not longer than a screen could show, and without secrets. */
export function shortenText(text: string): string {
  const masked = maskSecrets(text.slice(0, maxShownCharacters + longestSecret));
  return masked.length > maxShownCharacters ? `${masked.slice(0, maxShownCharacters)}…` : masked;
}

/** Does work that holds up the event loop when its turn comes. */
export type TakeTurn = <T>(work: () => T) => Promise<T>;

export interface FleetConnectionRequest extends ConnectionRequest {
  /** Only those of this replica; undefined: of all. */
  readonly replica: string | undefined;
}

/** The connections of all replicas, as one of them sees them. */
export interface FleetConnections {
  /** @throws SvcMqttError INPUT_INVALID when the page is too far behind the first, and what `take` throws. */
  list(request: FleetConnectionRequest, take: TakeTurn): Promise<ConnectionPageJson>;
  /** @throws SvcMqttError REPLICA_UNAVAILABLE. */
  find(id: string): Promise<ConnectionDetailsJson | undefined>;
  /**
   * Ends a connection; answers whether there was one.
   *
   * @throws SvcMqttError REPLICA_UNAVAILABLE: then it may have been ended.
   */
  kick(id: string, actor: Actor): Promise<boolean>;
}

/** Who follows the events of all replicas. */
export interface EventListener {
  /** @param id what to go on after, given to `listen`. */
  onEvent(event: EventJson, id: string): void;
  /** So many events could not be had. */
  onMissed(count: number): void;
}

/** The events of all replicas, as one of them hears them. */
export interface FleetEvents {
  /**
   * @param listener must not throw; it is told of what is remembered after `lastId` at once, or when the other replicas have
   *   answered.
   * @returns a function that ends listening.
   */
  listen(listener: EventListener, lastId: string | undefined): () => void;
  /** Counts a listener that was cut off because it did not keep up. */
  noteCutOff(): void;
}

/** What those see who look at a running replica. */
export interface ReplicaView {
  readonly replica: string;
  readonly connections: FleetConnections;
  readonly sessions: LiveSessions;
  readonly commands: FleetCommands;
  readonly events: FleetEvents;
  readStats(): Promise<StatsJson>;
  /** What has become of a device's messages, on all replicas; undefined: nothing is known of it. @throws SvcMqttError DATABASE_*. */
  readLedger(deviceId: string): Promise<Ledger | undefined>;
  /** How all replicas are doing. */
  readFleet(): Promise<FleetJson>;
}

/** The same of this replica alone. */
export interface LocalView
  extends Omit<ReplicaView, 'connections' | 'commands' | 'events' | 'readLedger' | 'readFleet'> {
  readonly commands: LocalCommands;
  readonly connections: LiveConnections;
  readonly events: EventFeed;
}
