import type { Readable, Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { SvcMqttError } from '../../errors.js';
import { toFailure } from './report.js';

/** A stream of the terminal, or of what stands in for it in a test. */
export type OutputStream = Writable & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
};
export type InputStream = Readable & { readonly isTTY?: boolean };

/** All that a command touches of its process. */
export interface CommandIo {
  readonly stdin: InputStream;
  /** Results only. */
  readonly stdout: OutputStream;
  /** Notes, questions, progress and errors. */
  readonly stderr: OutputStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** From now on SIGHUP, as long as nothing ends the command, calls back instead of ending it. */
  onHangUp(callback: () => void): void;
  /**
   * Has a second signal, which ends the command at once, call this first and wait for it; what it throws is told. A third
   * waits for nothing.
   *
   * @returns takes it back.
   */
  onEndAtOnce(tell: () => Promise<void>): () => void;
  /** Aborted by the first SIGINT, SIGTERM or SIGHUP, with the signal's name as the reason. */
  readonly signal: AbortSignal;
  /** Aborted once nobody reads stdout any more. */
  readonly outputClosed: AbortSignal;
  /** Chooses how a failure that nothing caught is told before it ends the process; one line on stderr otherwise. */
  onDefect(tell: (error: unknown) => void): void;
}

/** Whether something can be drawn there. A terminal without a size is none: what is drawn would clear its history. */
export function canDraw(stream: OutputStream, env: CommandIo['env']): boolean {
  return stream.isTTY === true && stream.rows !== 0 && env.TERM !== 'dumb';
}

/**
 * Writes text and waits while the stream is full, so that a slow reader slows the command and memory stays flat.
 * Answers when the stream is closed, too: who closed it has seen enough, and `outputClosed` says so.
 */
export async function write(stream: OutputStream, text: string): Promise<void> {
  if (stream.destroyed || stream.write(text)) return;
  await new Promise<void>((resolve) => {
    const done = () => {
      stream.off('drain', done).off('close', done).off('error', done);
      resolve();
    };
    stream.on('drain', done).on('close', done).on('error', done);
  });
}

/** Waits until what was written has left the process. */
export async function flush(stream: OutputStream): Promise<void> {
  if (stream.destroyed) return;
  await new Promise<void>((resolve) => {
    stream.write('', () => resolve());
  });
}

/**
 * Makes sure that a secret has left the process, which nothing can show again.
 *
 * @param made what is there all the same, such as `The claim is made`.
 * @param todo how to come to another secret.
 * @throws SvcMqttError INTERNAL.
 */
export async function requireWritten(
  { stdout, outputClosed }: Pick<CommandIo, 'stdout' | 'outputClosed'>,
  made: string,
  todo: string,
): Promise<void> {
  await flush(stdout);
  // The stream tells of its failure behind that.
  await setImmediate();
  if (outputClosed.aborted)
    throw new SvcMqttError('INTERNAL', `${made}, and could not be written`, { suggestion: todo });
}

/** Rejects with the signal's reason once it aborts; never resolves. Its listener goes with `release`. */
export function whenAborted(signal: AbortSignal): { promise: Promise<never>; release(): void } {
  let release = () => {};
  const promise = new Promise<never>((_resolve, reject) => {
    const abort = () => reject(interruptedBy(signal));
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    release = () => signal.removeEventListener('abort', abort);
  });
  promise.catch(() => {});
  return { promise, release };
}

/** How long a command that a signal cannot end at once stays silent about that. */
const silentMs = 1_000;

/**
 * Waits for work that goes on after a signal, since only its end says what it has changed.
 *
 * @param options.endsAtOnce the work changes nothing, or nothing that would be lost: a signal ends the wait.
 * @throws Interrupted, and as `work`.
 */
export async function waitFor<T>(
  work: Promise<T>,
  io: Pick<CommandIo, 'signal' | 'stderr'>,
  options: { readonly endsAtOnce?: boolean } = {},
): Promise<T> {
  const aborted = whenAborted(io.signal);
  let timer: NodeJS.Timeout | undefined;
  aborted.promise.catch(() => {
    const note = 'Waiting for what is under way; another signal ends the command at once.\n';
    timer = setTimeout(() => io.stderr.write(note), silentMs).unref();
  });
  try {
    return await (options.endsAtOnce === true ? Promise.race([work, aborted.promise]) : work);
  } finally {
    aborted.release();
    clearTimeout(timer);
  }
}

/** @throws Interrupted when a signal has come. */
export function requireGoing(signal: AbortSignal): void {
  if (signal.aborted) throw interruptedBy(signal);
}

export function interruptedBy(signal: AbortSignal): Interrupted {
  return new Interrupted(String(signal.reason));
}

/** A signal ended the command before its end. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';

  /** What is said of it; undefined: nothing, since who sent the signal knows. */
  readonly told: string | undefined;

  constructor(signal: string, told?: string) {
    super(signal);
    this.told = told;
  }

  get exitStatus(): number {
    return signalStatus(this.message);
  }
}

/**
 * The failure, or the signal, that ended something in its midst, told behind what is known of the rest.
 *
 * @param preface such as `3 of 5 devices were added, and then`.
 */
export function prefaced(error: unknown, preface: string): unknown {
  if (error instanceof Interrupted) return new Interrupted(error.message, `${preface}: interrupted`);
  const { code, message, suggestion } = toFailure(error);
  return new SvcMqttError(code, `${preface}: ${message}`, {
    cause: error,
    ...(suggestion === undefined ? {} : { suggestion }),
  });
}

/** What a shell reports for a process that a signal ended. */
export function signalStatus(signal: string): number {
  return 128 + ({ SIGHUP: 1, SIGINT: 2, SIGTERM: 15 }[signal] ?? 15);
}
