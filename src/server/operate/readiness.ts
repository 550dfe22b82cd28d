import type { AckLevel } from '../../ack-level.js';
import type { Downlink } from '../forward/commands/downlink.js';
import type { Forwarder, ForwarderState } from '../forward/forwarder.js';
import type { Durability } from '../forward/stream/durability.js';
import type { PartReadiness, Readiness } from '../http/start.js';

/** How the parts stand now that a replica needs to take devices. */
export function readReadiness(parts: {
  /** Of the database. */
  health: PartReadiness;
  forwarder: Forwarder;
  /** Streams that replicas share and do without. */
  unusable: readonly string[];
  /** Why sessions end with this replica; undefined: they do not. */
  sessionsInMemory: string | undefined;
  downlink: Downlink;
  needsStorage: boolean;
  ackLevel: AckLevel;
  listening: boolean;
  /** Of a worker: how many take devices, of how many. */
  workers: { readonly ready: number; readonly all: number } | undefined;
}): Readiness {
  const nats = parts.forwarder.state();
  return {
    database: { ok: parts.health.ok, detail: parts.health.detail },
    nats: {
      ok: nats.connected,
      detail: [
        nats.detail,
        ...(nats.ingest === undefined ? [] : [describeIngest(nats)]),
        ...parts.unusable.map((stream) => `${stream} cannot be used`),
        ...(parts.sessionsInMemory === undefined
          ? []
          : [`sessions are in memory: ${parts.sessionsInMemory}`]),
        ...describeCommands(parts.downlink),
      ].join(', '),
    },
    storage: { needed: parts.needsStorage, ...readStorage(parts.forwarder, parts.ackLevel) },
    listeners: {
      ok: parts.listening,
      detail: `${parts.listening ? 'accepting devices' : 'not accepting devices'}${describeWorkers(parts)}`,
    },
  };
}

/** How the stream is asked to confirm, now. */
function describeIngest({ ingest, batching }: ForwarderState): string {
  if (ingest === 'plain') return 'confirms each message';
  return batching ? 'takes batches, used now' : 'takes batches, none used now';
}

function describeWorkers({ workers }: { workers: { ready: number; all: number } | undefined }): string {
  return workers === undefined ? '' : `, ${workers.ready} of ${workers.all} workers`;
}

/** What is wrong with the way down. */
function describeCommands({ notStored, store }: Downlink): string[] {
  if (notStored !== undefined) return [`commands are not stored: ${notStored}`];
  return store?.problem === undefined ? [] : [`commands are not delivered: ${store.problem}`];
}

/** Messages that wait for less are not spoken of: the next attempt may store them. */
const heldForMs = 5_000;

/** Anybody may ask, so that no subject is named: `/stats` and `connection show` do. */
function readStorage(forwarder: Forwarder, promised: AckLevel): PartReadiness {
  const { connected, standstill, ingest, durability } = forwarder.state();
  if (!connected) return { ok: false, detail: 'nothing is stored while NATS is away' };
  const what = ingest === undefined ? 'acknowledged' : 'stored';
  if (standstill !== undefined) {
    const since = new Date(standstill.sinceMs).toISOString();
    return { ok: false, detail: `nothing is ${what} since ${since}: ${standstill.reason}` };
  }
  const longAgoMs = performance.now() - heldForMs;
  const held = forwarder.troubles().filter(({ sinceMs }) => sinceMs < longAgoMs);
  if (held.length > 0) {
    const causes = held.map(({ cause, lanes }) => `${cause} (${lanes})`).join(', ');
    // A replica that stores for the others is no worse than the next one.
    return { ok: false, needed: false, detail: `messages of some clients are not ${what}: ${causes}` };
  }
  return { ok: true, detail: describeDurability(durability, promised) };
}

/** What an acknowledgement is worth now: `synced: on 1 server, …`. */
function describeDurability(durability: Durability | undefined, promised: AckLevel): string {
  if (durability === undefined) return 'off (ENABLE_JETSTREAM=false)';
  const { level, why, breaches } = durability;
  if (breaches[promised] === undefined) return `${level}: ${why}`;
  return `ACK_LEVEL=${promised} does not hold, and messages are acknowledged all the same (ACK_LEVEL_ON_BREACH=warn): ${level}, ${why}`;
}
