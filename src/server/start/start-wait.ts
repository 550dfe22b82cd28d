import { setTimeout as delay } from 'node:timers/promises';
import { SvcMqttError } from '../../errors.js';
import type { Log } from '../../log.js';

/** A signal ended the wait of a start. */
export class StartAborted extends Error {
  override readonly name = 'StartAborted';

  constructor() {
    super('a signal ended the start');
  }
}

/** The patience of a start with what it needs and what may be starting as well. */
export type StartWait = ReturnType<typeof openStartWait>;

interface Closable {
  close(): Promise<void>;
}

const retryMs = 500;
const tellEveryMs = 5_000;

/**
 * Opens the wait, whose time begins now.
 *
 * @param options.timeMs for all that is waited for together; 0: everything is tried once.
 * @param options.signal ends the wait.
 * @param options.onWaiting is told, as the log is, what is waited for and why.
 */
export function openStartWait(options: {
  timeMs: number;
  log: Log;
  signal?: AbortSignal | undefined;
  onWaiting?: ((line: string) => void) | undefined;
}) {
  const { timeMs, log, signal, onWaiting } = options;
  const endMs = performance.now() + timeMs;

  return {
    /**
     * Opens something that is not waited for, and that heeds the signal itself; what it opened nevertheless is closed again.
     *
     * @throws what `open` threw; StartAborted after the signal.
     */
    async once<T extends Closable>(open: (signal: AbortSignal | undefined) => Promise<T>): Promise<T> {
      const opened = await open(signal).catch((error: unknown) => {
        throw signal?.aborted === true ? new StartAborted() : error;
      });
      if (signal?.aborted !== true) return opened;
      await opened.close();
      throw new StartAborted();
    },
    /**
     * Tries to open something until that succeeds, fails for good, or the time is over.
     *
     * @param what its name, for the log.
     * @throws what `open` threw last; StartAborted.
     */
    async until<T extends Closable>(what: string, open: () => Promise<T>): Promise<T> {
      let toldMs = Number.NEGATIVE_INFINITY;
      while (true) {
        try {
          return await orAborted(open(), signal, (opened) => opened.close());
        } catch (error) {
          const nowMs = performance.now();
          if (!(error instanceof SvcMqttError && error.mayPass) || nowMs >= endMs) throw error;
          if (nowMs - toldMs >= tellEveryMs) {
            toldMs = nowMs;
            const secondsLeft = Math.ceil((endMs - nowMs) / 1_000);
            log.warn(
              { event: 'start_waiting', what, reason: error.message, secondsLeft },
              `Waiting for ${what}, up to ${secondsLeft} s more`,
            );
            onWaiting?.(`Waiting for ${what}, up to ${secondsLeft} s more: ${error.message}`);
          }
        }
        await orAborted(delay(Math.min(retryMs, endMs - performance.now())), signal);
      }
    },
  };
}

/**
 * Waits for `work`, or for the signal.
 *
 * @param undo is given what `work` brings after the signal.
 * @throws what `work` throws; StartAborted.
 */
export async function orAborted<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  undo: (result: T) => unknown = () => undefined,
): Promise<T> {
  if (signal === undefined) return await work;
  let abort = () => {};
  const end = new Promise<never>((_resolve, reject) => {
    abort = () => reject(new StartAborted());
  });
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, end]);
  } catch (error) {
    if (error instanceof StartAborted) work.then(undo, () => undefined);
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
