import { setTimeout as delay } from 'node:timers/promises';
import type { AckLevel } from '../../../ack-level.js';
import { messageOf, SvcMqttError } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { subjectsOfTemplate } from '../../../subject-template.js';
import { withFastGetters } from '../../fast-getters.js';
import type { JetStreamManager, NatsConnection, StreamInfo } from '../connection/nats-library.js';
import type { NatsLink } from '../connection/nats-link.js';
import type { Standstill } from '../lanes/standstill.js';
import { type AckPromise, openAckWatch } from './ack-watch.js';
import type { Durability } from './durability.js';
import {
  createStream,
  describePart,
  listStreams,
  logFound,
  manageStreams,
  readStreamInfo,
  requireStream,
  takes,
  type WantedStream,
} from './stream.js';
import {
  findStreamProblem,
  logWarnings,
  readUsableStream,
  type UnusableSubjects,
  type UsableStream,
} from './stream-config.js';
import { covers } from './subject-match.js';

/** The stream as it was when it was last looked at. */
export type StreamWatch = Awaited<ReturnType<typeof openStreamWatch>>;

const lookEveryMs = 2_000;
/** However often it is asked for. */
const lookAtMostEveryMs = 250;
/** A look that fails is nothing special while a cluster elects a leader. */
const failuresTold = 3;
/** After so many looks that miss it, what a gateway made is made again. */
const missesUntilMade = 2;
const decoder = new TextDecoder();

/** What is wrong with the stream: nothing is sent, nothing is stored, or not everything. */
interface Trouble extends Standstill {
  readonly stops: 'sending' | 'storing' | 'some';
}

/**
 * Finds the stream, or creates it, and looks at it every two seconds for as long as there is a connection: what is
 * required of a stream at the start has to hold while it is used. What was known holds until a look has found otherwise,
 * so nothing waits for a look.
 *
 * A stream that a gateway made is made again when two looks have missed it. One that somebody else made is left to whoever
 * removed it, until the next connection: a NATS server may come back without its data.
 *
 * @throws SvcMqttError NATS_STREAM, NATS_UNREACHABLE, or ACK_LEVEL when the level is promised and cannot be kept, or not known to be.
 */
export async function openStreamWatch(link: NatsLink, wanted: WantedStream, promise: AckPromise, log: Log) {
  const { needed } = subjectsOfTemplate(wanted.template);
  const firstConnection = link.connection;
  if (firstConnection === undefined) {
    throw new SvcMqttError('NATS_UNREACHABLE', 'The connection to NATS ended during the start', {
      suggestion: 'Check the NATS server',
    });
  }
  let stream = await requireStream(firstConnection, wanted, log);
  const worth = await openAckWatch(promise, log, {
    connection: firstConnection,
    keeping: stream.keeping,
    /** A stream that was made just now may have no leader yet. */
    async readAgain() {
      const manager = await manageStreams(firstConnection, wanted.domain);
      const info = await readStreamInfo(manager, stream.name).catch(() => undefined);
      if (info !== undefined) stream = readUsableStream(info, stream.made);
      return stream.keeping;
    },
  });
  let looking = new AbortController();
  let hurry = new AbortController();
  let lookedAtMs = 0;
  let changedAtMs = 0;
  let trouble: Trouble | undefined;
  let unusable: readonly UnusableSubjects[] = [];

  async function follow(connection: NatsConnection, signal: AbortSignal, onChanged: () => void) {
    const look = openLook(connection, signal, onChanged);
    let failures = 0;
    if (connection === firstConnection) await pause(signal);
    for (; !signal.aborted; await pause(signal)) {
      if (link.stalled) continue;
      lookedAtMs = performance.now();
      try {
        await look();
        failures = 0;
      } catch (error) {
        failures += 1;
        if (!signal.aborted && failures === failuresTold) {
          log.warn(
            { event: 'stream_look_failed', reason: messageOf(error) },
            'whether the stream is as it was is not known',
          );
        }
      }
    }
  }

  async function pause(looking: AbortSignal): Promise<void> {
    hurry = new AbortController();
    const signal = AbortSignal.any([looking, hurry.signal]);
    await delay(lookEveryMs, undefined, { signal, ref: false }).catch(() => {});
  }

  function openLook(connection: NatsConnection, signal: AbortSignal, onChanged: () => void) {
    let mayAskByName = true;
    let mayCreate = connection !== firstConnection;
    let misses = 0;

    /** Asked by name, a cluster knows a stream that its list lacks for some seconds after a change of leader. */
    async function findByName(manager: JetStreamManager): Promise<StreamInfo | undefined> {
      if (!mayAskByName) return undefined;
      try {
        const info = await readStreamInfo(manager, stream.name);
        return info !== undefined && takes(info, needed) ? info : undefined;
      } catch (error) {
        if ((error as { code?: string }).code !== 'PERMISSIONS_VIOLATION') throw error;
        mayAskByName = false;
        return undefined;
      }
    }

    return async () => {
      const manager = await manageStreams(connection, wanted.domain);
      let found = await findByName(manager);
      if (found === undefined) {
        const { covering, touching } = await listStreams(manager, needed);
        if (signal.aborted) return;
        found = covering;
        if (found === undefined && touching.length > 0) {
          note(`of ${needed}, ${describePart(touching)}`, 'some');
          return;
        }
      }
      if (signal.aborted) return;
      if (found !== undefined) {
        misses = 0;
        mayCreate = false;
        await adopt(found);
        return;
      }
      misses += 1;
      changedAtMs = performance.now();
      const again = stream.made && misses >= missesUntilMade;
      if (!mayCreate && !again) {
        note(`no stream takes ${needed}`, 'storing');
        return;
      }
      const created = await createStream(connection, manager, wanted, log);
      if (created === undefined) {
        note(`no stream takes ${needed}, and ${wanted.stream} exists with other subjects`, 'storing');
        return;
      }
      if (!mayCreate) {
        log.warn(
          { event: 'stream_made_again', stream: created.name },
          'the stream that svc-mqtt had made was gone, with all that it held, and is made again',
        );
      }
      misses = 0;
      mayCreate = false;
      await change(created);
      note(undefined, 'some');
    };

    async function adopt(info: StreamInfo): Promise<void> {
      if (info.config.name !== stream.name) logFound(info, log);
      const made = stream.made && info.config.name === stream.name;
      const found = readUsableStream(info, made);
      logWarnings(found, stream, log);
      note(findStreamProblem(info.config), 'sending');
      await change(found);
    }

    async function change(found: UsableStream): Promise<void> {
      const { batchProblem, incarnation } = stream;
      stream = found;
      if (found.incarnation !== incarnation) changedAtMs = performance.now();
      if (found.batchProblem !== batchProblem) onChanged();
      await worth.look(connection, found.keeping);
    }
  }

  /** Takes down what is wrong now, and says so when it is something else than before. */
  function note(reason: string | undefined, stops: Trouble['stops']): void {
    if (reason === trouble?.reason) return;
    if (reason === undefined) {
      trouble = undefined;
      log.info({ event: 'nats_stream_usable', stream: stream.name }, 'the stream can be used again');
      return;
    }
    trouble = { reason, sinceMs: trouble?.sinceMs ?? Date.now(), stops };
    log.error({ event: 'nats_stream_unusable', reason }, 'the stream cannot be used');
  }

  return withFastGetters({
    get stream(): UsableStream {
      return stream;
    },
    get durability(): Durability {
      return worth.durability;
    },
    /** When the stream was last seen to be gone, made anew or with another leader: what was sent before may be lost. `performance.now()`. */
    get changedAtMs(): number {
      return changedAtMs;
    },
    /** The stream stores nothing; undefined while nothing speaks against it. */
    get standstill(): Standstill | undefined {
      return trouble === undefined || trouble.stops === 'some' ? worth.breach : trouble;
    },
    /**
     * Why a message to this subject must not be sent: the stream would not confirm it, so that it would be stored anew at
     * each attempt. Undefined when it may be sent.
     */
    findProblem(subject: Uint8Array, level?: AckLevel): string | undefined {
      const problem = trouble?.stops === 'sending' ? trouble.reason : worth.findProblem(level);
      if (unusable.length === 0 && problem === undefined) return undefined;
      const text = decoder.decode(subject);
      if (problem !== undefined && covers(needed, text)) return problem;
      const own = level ?? promise.level;
      return unusable.find(
        (some) =>
          (some.level === undefined || some.level === own) &&
          some.subjects.some((each) => covers(each, text)),
      )?.problem;
    },
    /** Levels that policies promise. */
    setPromised(levels: ReadonlySet<AckLevel>): void {
      worth.setPromised(levels);
      hurry.abort();
    },
    /** Further subjects to which nothing is sent, those of policies: in place of the ones given before. */
    setUnusable(subjects: readonly UnusableSubjects[]): void {
      unusable = subjects;
    },
    /**
     * From now on looks over this connection: at once, unless it is the one that the watch was opened with.
     *
     * @param onChanged whether the stream takes batches has changed.
     */
    connected(connection: NatsConnection, onChanged: () => void): void {
      looking.abort();
      looking = new AbortController();
      void follow(connection, looking.signal, onChanged);
    },
    disconnected(): void {
      looking.abort();
    },
    /** What a stream answered says that it is not as it was: look now. */
    lookSoon(): void {
      if (performance.now() - lookedAtMs >= lookAtMostEveryMs) hurry.abort();
    },
  });
}
