import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../../errors.js';
import type { JetStreamManager, NatsConnection } from '../connection/nats-library.js';
import { type NatsRequests, openNatsRequests, RequestError } from '../connection/nats-requests.js';
import type { StateContext } from '../state/state-stream.js';
import { manageStreams, readStreamInfo } from '../stream/stream.js';
import { type FollowedMessage, followStream } from '../stream/stream-follower.js';
import { escapeToken } from '../subject.js';
import { type CommandIndex, createCommandIndex } from './command-index.js';
import { openCommandReader, readStored } from './command-reader.js';
import {
  type CommandStream,
  commandSubjects,
  findCommandStream,
  readCommandStream,
} from './command-stream.js';
import { openOlderCommands } from './older-commands.js';
import { type StoredCommand, toStoredCommand } from './stored-command.js';

/** Who takes the commands of a device as they are stored. */
export interface CommandListener {
  /** In order, none twice; not those that were stored before `onCaughtUp`. */
  onCommand(command: StoredCommand): void;
  /** What is stored is known again after the start, after NATS was away, and when the stream is another one. */
  onCaughtUp(): void;
  /** NATS has lost what was behind this sequence, and gives its sequences again. */
  onShorter(last: number): void;
}

/** What a device has not had yet. */
export interface CommandBatch {
  readonly commands: readonly StoredCommand[];
  /** All commands of the device up to here are among them, or gone from the stream. */
  readonly upTo: number;
}

/** The commands for devices, as the stream has them, on every replica the same. */
export interface CommandStore {
  /** Name of the stream. */
  readonly stream: string;
  /** Another one when the stream was made anew: sequences of before mean nothing. */
  readonly incarnation: string;
  /** Sequence of the latest command that is known here, of any device. */
  readonly end: number;
  /** `end` is about that of the stream. */
  readonly isCaughtUp: boolean;
  /** Why commands are not stored or not delivered now; undefined: they are. */
  readonly problem: string | undefined;
  readonly counters: CommandCounters;
  /** Commands that are known here, of all devices. */
  readonly known: number;
  /** Sees every command as it is stored, whatever its device. */
  onCommand: ((command: StoredCommand) => void) | undefined;
  follow(deviceId: string, listener: CommandListener): () => void;
  /** There are commands of the device after this sequence. */
  hasAfter(deviceId: string, sequence: number): boolean;
  /** How many, up to `most`; of older ones than are known here one is counted. */
  countAfter(deviceId: string, sequence: number, most: number): number;
  /** The next commands of a device. @param isWanted asked before NATS is. It waits while NATS is away. */
  readAfter(deviceId: string, sequence: number, most: number, isWanted: () => boolean): Promise<CommandBatch>;
  /** One command again; undefined: it is gone. */
  read(sequence: number, isWanted: () => boolean): Promise<StoredCommand | undefined>;
  /** Calls when `isCaughtUp` may have changed. */
  onChange(listener: () => void): void;
  close(): void;
}

/** Since the start. */
export interface CommandCounters {
  /** Commands read from the stream by their sequences. */
  read: number;
  /** Those that were gone. */
  gone: number;
  /** How often those of a device were looked up that are older than what is known here. */
  lookedUp: number;
  /** Seconds that the last catch-up took. */
  catchUpSec: number;
}

export interface CommandStoreOptions extends StateContext {
  /** Commands of which is known whose they are. */
  readonly maxIndexed: number;
}

type OpenOptions = CommandStoreOptions & { readonly requests: NatsRequests };

const openWithinMs = 10_000;
const retryMs = 500;
const watchMs = 2_000;
/** A stream that a gateway had made is made again when so many looks have missed it. */
const missesUntilMade = 2;

/**
 * Finds the stream of commands, or makes it, and follows it from then on.
 *
 * @returns why there is none to be had, in words without a full stop.
 */
export async function openCommandStore(
  options: CommandStoreOptions,
): Promise<CommandStore | { readonly unavailable: string }> {
  const { link, log } = options;
  const requests = openNatsRequests(link, options.inboxPrefix);
  const endMs = performance.now() + openWithinMs;
  while (true) {
    let problem = 'NATS is away';
    const { connection } = link;
    if (connection !== undefined) {
      try {
        const manager = await manageStreams(connection, options.domain);
        const found = await findCommandStream(connection, manager, log, {
          mayMake: true,
          keeping: options.keeping(),
        });
        if ('problem' in found) return { unavailable: found.problem };
        await probe(connection, manager, found, { ...options, requests });
        return startCommandStore({ ...options, requests }, found);
      } catch (error) {
        problem = messageOf(error);
        const isDenied = (error as { code?: string }).code === 'PERMISSIONS_VIOLATION';
        if (isDenied || (error instanceof RequestError && !error.mayPass)) return { unavailable: problem };
      }
    }
    if (performance.now() > endMs) return { unavailable: problem };
    await delay(retryMs);
  }
}

/** Whether the user may read. @throws NatsError. */
async function probe(
  connection: NatsConnection,
  manager: JetStreamManager,
  stream: CommandStream,
  { inboxPrefix, domain, requests }: OpenOptions,
): Promise<void> {
  const { name, lastSequence } = stream;
  await readStored({ requests, manager, domain, stream }, Math.max(1, lastSequence));
  const ended = new AbortController();
  await followStream(connection, manager, {
    stream: name,
    filter: commandSubjects,
    from: lastSequence + 1,
    headersOnly: true,
    inboxPrefix,
    signal: ended.signal,
    onMessage() {},
    onCaughtUp: () => ended.abort(),
  });
}

function startCommandStore(options: OpenOptions, first: CommandStream): CommandStore {
  const { link, log, inboxPrefix, requests } = options;
  const listeners = new Map<string, Set<CommandListener>>();
  const changed: (() => void)[] = [];
  const reader = openCommandReader();
  const older = openOlderCommands({ inboxPrefix });
  const counters: CommandCounters = { read: 0, gone: 0, lookedUp: 0, catchUpSec: 0 };
  let index: CommandIndex = createCommandIndex(options.maxIndexed);
  let stream = first;
  let end = 0;
  let isCaughtUp = false;
  /** What was stored before the start is taken in without its payload. */
  let isFirst = true;
  let problem: string | undefined;
  let following = new AbortController();
  let isClosed = false;
  /** What was said of the stream. */
  let warned: readonly string[] = [];

  function change(caughtUp: boolean): void {
    if (isCaughtUp === caughtUp) return;
    isCaughtUp = caughtUp;
    if (caughtUp) for (const set of [...listeners.values()]) for (const each of [...set]) each.onCaughtUp();
    for (const listener of changed) listener();
  }

  function note(reason: string | undefined): void {
    if (reason === problem) return;
    problem = reason;
    if (reason === undefined)
      log.info({ event: 'command_stream_usable', stream: stream.name }, 'commands are delivered again');
    else log.error({ event: 'command_stream_unusable', reason }, 'commands are not stored, or not delivered');
  }

  function beginAnew(): void {
    index = createCommandIndex(options.maxIndexed);
    end = 0;
    isFirst = true;
  }

  function adopt(found: CommandStream): void {
    for (const reason of found.warnings)
      if (!warned.includes(reason)) log.warn({ event: 'command_stream_warning', stream: found.name }, reason);
    warned = found.warnings;
    note(undefined);
    if (found.incarnation !== stream.incarnation) {
      log.warn(
        { event: 'command_stream_changed', stream: found.name },
        'the stream of commands is another one: sessions begin with what it holds',
      );
      beginAnew();
    } else if (found.lastSequence < end) {
      log.warn(
        { event: 'command_stream_shorter', stream: found.name, from: end, to: found.lastSequence },
        'NATS has lost the latest commands',
      );
      beginAnew();
      for (const set of listeners.values()) for (const each of set) each.onShorter(found.lastSequence);
    }
    stream = found;
    index.trim(found.firstSequence);
  }

  function take(followed: FollowedMessage, withPayload: boolean): void {
    const { sequence, subject, storedAtMs, message } = followed;
    const device = subject.split('.', 2)[1] ?? '';
    index.add(device, sequence);
    const set = listeners.get(device);
    if (withPayload && (set !== undefined || store.onCommand !== undefined)) {
      const { headers, data: payload } = message;
      const command = toStoredCommand({ sequence, subject, storedAtMs, headers, payload });
      store.onCommand?.(command);
      for (const listener of set ?? []) listener.onCommand(command);
    }
    // Only now: a session that ends meanwhile has not had it.
    end = sequence;
  }

  async function follow(connection: NatsConnection, signal: AbortSignal): Promise<void> {
    const manager = await manageStreams(connection, options.domain);
    const beganAtMs = performance.now();
    let misses = 0;
    for (; !signal.aborted && !isClosed; await pause(signal)) {
      try {
        const found = await findCommandStream(connection, manager, log, {
          mayMake: stream.made && misses >= missesUntilMade,
          keeping: options.keeping(),
        });
        if (signal.aborted) return;
        if ('problem' in found) {
          misses += 1;
          note(found.problem);
          continue;
        }
        if (misses >= missesUntilMade && found.incarnation !== stream.incarnation)
          log.warn({ event: 'stream_made_again', stream: found.name }, 'the stream of commands was gone');
        misses = 0;
        adopt(found);
        reader.connected({ requests, manager, domain: options.domain, stream: found });
        older.connected(connection, manager, found.name);
        await followOnce(connection, manager, signal, () => {
          counters.catchUpSec = (performance.now() - beganAtMs) / 1_000;
          change(true);
        });
      } catch (error) {
        if (signal.aborted || connection.isClosed()) return;
        note(messageOf(error));
      }
    }
  }

  /** Follows the stream until there is a reason to look at it anew. */
  async function followOnce(
    connection: NatsConnection,
    manager: JetStreamManager,
    signal: AbortSignal,
    onCaughtUp: () => void,
  ): Promise<void> {
    const { name, incarnation } = stream;
    const looking = new AbortController();
    const both = AbortSignal.any([signal, looking.signal]);
    void watch(manager, name, incarnation, both).then(() => looking.abort());
    try {
      while (!both.aborted) {
        const headersOnly = isFirst;
        const ended = new AbortController();
        const why = await followStream(connection, manager, {
          stream: name,
          filter: commandSubjects,
          from: end + 1,
          headersOnly,
          inboxPrefix,
          signal: AbortSignal.any([both, ended.signal]),
          onMessage: (followed) => take(followed, !headersOnly),
          onCaughtUp() {
            isFirst = false;
            if (headersOnly) ended.abort();
            else onCaughtUp();
          },
        });
        if (why === 'silent') return;
      }
    } finally {
      looking.abort();
    }
  }

  /** Ends when the stream is not what it was. */
  async function watch(
    manager: JetStreamManager,
    name: string,
    incarnation: string,
    signal: AbortSignal,
  ): Promise<void> {
    while (!signal.aborted) {
      await delay(watchMs, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted || link.stalled) continue;
      try {
        const info = await readStreamInfo(manager, name);
        const found = info === undefined ? undefined : readCommandStream(info);
        if (found === undefined || 'problem' in found || found.incarnation !== incarnation) return;
        stream = found;
        index.trim(found.firstSequence);
      } catch {
        // NATS is slow, or away; the follower notices.
      }
    }
  }

  async function pause(signal: AbortSignal): Promise<void> {
    change(false);
    await delay(retryMs, undefined, { signal, ref: false }).catch(() => {});
  }

  link.listen({
    connected(connection) {
      following.abort();
      following = new AbortController();
      void follow(connection, following.signal);
    },
    disconnected() {
      following.abort();
      reader.disconnected();
      older.disconnected();
      change(false);
    },
  });

  const store: CommandStore = {
    get stream() {
      return stream.name;
    },
    get incarnation() {
      return stream.incarnation;
    },
    get end() {
      return end;
    },
    get isCaughtUp() {
      return isCaughtUp;
    },
    get problem() {
      return problem;
    },
    get known() {
      return index.size;
    },
    counters,
    onCommand: undefined,
    follow(deviceId, listener) {
      const device = escapeToken(deviceId);
      const set = listeners.get(device) ?? new Set();
      listeners.set(device, set);
      set.add(listener);
      return () => {
        set.delete(listener);
        if (set.size === 0 && listeners.get(device) === set) listeners.delete(device);
      };
    },
    hasAfter(deviceId, sequence) {
      return sequence < index.floor || index.countAfter(escapeToken(deviceId), sequence, 1) > 0;
    },
    countAfter(deviceId, sequence, most) {
      const older = sequence < index.floor ? 1 : 0;
      return older + index.countAfter(escapeToken(deviceId), sequence, most);
    },
    async readAfter(deviceId, sequence, most, isWanted) {
      const device = escapeToken(deviceId);
      let sequences: number[];
      let upTo: number;
      const { floor } = index;
      if (sequence < floor) {
        counters.lookedUp += 1;
        sequences = await older.find(device, sequence, floor, most, isWanted);
        upTo = sequences.length < most ? floor : (sequences.at(-1) ?? floor);
      } else {
        sequences = index.after(device, sequence, most);
        upTo = sequences.at(-1) ?? sequence;
      }
      const found = await Promise.all(sequences.map((each) => store.read(each, isWanted)));
      return { commands: found.filter((command) => command !== undefined), upTo };
    },
    async read(sequence, isWanted) {
      const command = await reader.read(sequence, isWanted);
      counters.read += 1;
      if (command === undefined && isWanted()) counters.gone += 1;
      return command;
    },
    onChange(listener) {
      changed.push(listener);
    },
    close() {
      isClosed = true;
      following.abort();
      reader.disconnected();
      older.disconnected();
    },
  };
  log.info({ event: 'command_stream_found', stream: stream.name }, 'commands are delivered from the stream');
  return store;
}
