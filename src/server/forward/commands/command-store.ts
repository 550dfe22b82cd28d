import { setTimeout as delay } from 'node:timers/promises';
import { messageOf } from '../../../errors.js';
import { headerTextOf } from '../connection/nats-headers.js';
import type { JetStreamManager, NatsConnection } from '../connection/nats-library.js';
import type { NatsRequests } from '../connection/nats-requests.js';
import type { StateContext } from '../state/state-stream.js';
import { openArchive } from '../stored/archive.js';
import type { StoredListener } from '../stored/stored-messages.js';
import { manageStreams, readStreamInfo } from '../stream/stream.js';
import { type FollowedMessage, followStream } from '../stream/stream-follower.js';
import { escapeToken } from '../subject.js';
import { createCommandIndex } from './command-index.js';
import {
  awaitCommandStream,
  type CommandStream,
  commandSubjects,
  findCommandStream,
  readCommandStream,
} from './command-stream.js';
import { deviceOf, type StoredCommand, toStoredCommand } from './stored-command.js';

/** The commands for devices, by device id, as the stream has them. */
export type CommandStore = ReturnType<typeof startCommandStore>;

interface Options extends StateContext {
  /** Commands of which is known whose they are. */
  readonly maxIndexed: number;
  readonly requests: NatsRequests;
}

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
  options: Options,
): Promise<CommandStore | { readonly unavailable: string }> {
  const found = await awaitCommandStream(options, options.requests);
  return 'problem' in found ? { unavailable: found.problem } : startCommandStore(options, found);
}

function startCommandStore(options: Options, first: CommandStream) {
  const { link, log, inboxPrefix, requests } = options;
  const listeners = new Map<string, Set<StoredListener<StoredCommand>>>();
  const changed: (() => void)[] = [];
  const archive = openArchive({
    inboxPrefix,
    createIndex: () => createCommandIndex(options.maxIndexed),
    subjectsOf: (device: string) => ({ filter: `cmd.${device}.>`, isOwn: () => true }),
    toMessage: toStoredCommand,
  });
  let stream = first;
  /** What was stored before the start is taken in without its payload. */
  let isFirst = true;
  let following = new AbortController();
  let isClosed = false;
  /** What was said of the stream. */
  let warned: readonly string[] = [];

  function change(caughtUp: boolean): void {
    if (store.isCaughtUp === caughtUp) return;
    store.isCaughtUp = caughtUp;
    if (caughtUp) for (const set of [...listeners.values()]) for (const each of [...set]) each.onCaughtUp();
    for (const listener of changed) listener();
  }

  function note(reason: string | undefined): void {
    if (reason === store.problem) return;
    store.problem = reason;
    if (reason === undefined)
      log.info({ event: 'command_stream_usable', stream: stream.name }, 'commands are delivered again');
    else log.error({ event: 'command_stream_unusable', reason }, 'commands are not stored, or not delivered');
  }

  function beginAnew(): void {
    archive.forget();
    store.end = 0;
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
    } else if (found.lastSequence < store.end) {
      log.warn(
        { event: 'command_stream_shorter', stream: found.name, from: store.end, to: found.lastSequence },
        'NATS has lost the latest commands',
      );
      beginAnew();
      for (const set of listeners.values()) for (const each of set) each.onShorter(found.lastSequence);
    }
    stream = found;
    archive.index.trim(found.firstSequence);
  }

  function take(followed: FollowedMessage, withPayload: boolean): void {
    const { sequence, subject, storedAtMs, message } = followed;
    const device = deviceOf(subject);
    archive.index.add(device, sequence);
    const set = listeners.get(device);
    if (withPayload && (set !== undefined || store.onCommand !== undefined)) {
      const headers = headerTextOf(message);
      const command = toStoredCommand({ sequence, subject, storedAtMs, headers, payload: message.data });
      store.onCommand?.(command);
      for (const listener of set ?? []) listener.onMessage(command);
    }
    // Only now: a session that ends meanwhile has not had it.
    store.end = sequence;
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
        archive.connected({ requests, connection, manager, domain: options.domain, stream: found });
        await followOnce(connection, manager, signal, () => {
          archive.counters.catchUpSec = (performance.now() - beganAtMs) / 1_000;
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
          from: store.end + 1,
          upTo: stream.lastSequence,
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
        archive.index.trim(found.firstSequence);
      } catch {
        // NATS is slow, or away; the follower notices.
      }
    }
  }

  async function pause(signal: AbortSignal): Promise<void> {
    change(false);
    await delay(retryMs, undefined, { signal, ref: false }).catch(() => {});
  }

  const store = {
    /** Name of the stream. */
    get stream(): string {
      return stream.name;
    },
    get incarnation(): string {
      return stream.incarnation;
    },
    end: 0,
    isCaughtUp: false,
    /** Why commands are not stored or not delivered now; undefined: they are. */
    problem: undefined as string | undefined,
    get known(): number {
      return archive.index.size;
    },
    counters: archive.counters,
    /** Sees every command as it is stored, whatever its device. */
    onCommand: undefined as ((command: StoredCommand) => void) | undefined,
    follow(deviceId: string, listener: StoredListener<StoredCommand>): () => void {
      const device = escapeToken(deviceId);
      const set = listeners.get(device) ?? new Set();
      listeners.set(device, set);
      set.add(listener);
      return () => {
        set.delete(listener);
        if (set.size === 0 && listeners.get(device) === set) listeners.delete(device);
      };
    },
    lastSequence: archive.lastSequence,
    hasAfter: (deviceId: string, sequence: number) => archive.hasAfter(escapeToken(deviceId), sequence),
    countAfter: (deviceId: string, sequence: number, most: number) =>
      archive.countAfter(escapeToken(deviceId), sequence, most),
    readAfter: (deviceId: string, sequence: number, most: number, isWanted: () => boolean) =>
      archive.readAfter(escapeToken(deviceId), sequence, most, isWanted),
    read: archive.read,
    /** Calls when `isCaughtUp` may have changed. */
    onChange(listener: () => void): void {
      changed.push(listener);
    },
    close(): void {
      isClosed = true;
      following.abort();
      archive.disconnected();
    },
  };
  link.listen({
    connected(connection) {
      following.abort();
      following = new AbortController();
      void follow(connection, following.signal);
    },
    disconnected() {
      following.abort();
      archive.disconnected();
      change(false);
    },
  });
  log.info({ event: 'command_stream_found', stream: stream.name }, 'commands are delivered from the stream');
  return store;
}
