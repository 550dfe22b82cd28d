import type { Worker } from 'node:cluster';
import { fileURLToPath } from 'node:url';
import { SvcMqttError } from '../../errors.js';
import type { Log } from '../../log.js';
import type { StoreStandstill } from '../forward/embedded/store-space.js';
import type { FromWorker, ToWorker, WorkerFailure, WorkerReady } from './messages.js';
import { openRelay } from './relay.js';

const firstRestartMs = 200;
const longestRestartMs = 30_000;
/** A worker is asked for its pulse so often; one that said nothing so many times in a row hangs: half a minute in all. */
const pulseMs = 5_000;
const mostUnanswered = 6;
/** One that starts reads its program first, which takes a busy machine long: two minutes. */
const mostUnansweredAtStart = 24;
/** A worker that was ready for so long is started again as if it had never ended. */
const steadyMs = 60_000;
/** A worker that was ready for less has ended at once. */
const atOnceMs = 1_000;
/** So often in a row: starting it again does not help. */
const mostEndsAtOnce = 5;
/** Drained connections, database and HTTP API close within this. */
const closeTimeoutMs = 15_000;
const stopMessage: ToWorker = { type: 'stop', signal: 'the end of the server' };

class Slot {
  readonly number: number;
  worker: Worker | undefined;
  readyMs: number | undefined;
  /** How often it was asked for its pulse since it said something; undefined until it listens. */
  unanswered: number | undefined;
  failure: WorkerFailure | undefined;
  /** Ends since the worker was steady, and those of them at once, in a row. */
  ends = 0;
  endsAtOnce = 0;
  timer: NodeJS.Timeout | undefined;

  constructor(number: number) {
    this.number = number;
  }
}

/**
 * Starts the workers and keeps them running: one that ends is started again, after 0.2 s, then twice as long each time, 30 s at most.
 * They share the listening sockets: whoever has time accepts, and what waits to be accepted outlives a worker. The cluster's
 * other way, one process that accepts and hands out, takes one connection from a busy worker's queue in a turn of its loop.
 *
 * @param options.begin what a worker is told first.
 * @param options.shutdownTimeoutSec SHUTDOWN_TIMEOUT_SEC.
 */
export async function startSupervisor(options: {
  count: number;
  begin(number: number): ToWorker;
  onWaiting(line: string): void;
  onNeedsRoom(standstill: StoreStandstill): void;
  shutdownTimeoutSec: number;
  log: Log;
}) {
  const { count, log } = options;
  const { default: cluster } = await import('node:cluster');
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  const workerFile = import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js';
  cluster.setupPrimary({
    exec: fileURLToPath(new URL(workerFile, import.meta.url)),
    args: [],
    serialization: 'advanced',
  });

  const slots: Slot[] = [];
  let started = false;
  let stopping = false;
  let onEnded = () => {};
  const ready = withResolvers<WorkerReady>();
  const failed = withResolvers<never>();

  const running = () => slots.filter(({ worker }) => worker !== undefined);
  const readySlots = () => slots.filter(({ readyMs }) => readyMs !== undefined);

  /** A worker that is ending takes nothing more; its end is heard of. */
  function send({ worker }: Slot, message: ToWorker): void {
    if (worker?.isConnected() === true) worker.send(message, undefined, () => undefined);
  }

  function tellAll(message: ToWorker): void {
    for (const slot of slots) send(slot, message);
  }

  const slotOf = (number: number) => slots[number - 1] as Slot;
  const relay = openRelay({
    others: (asker) => readySlots().flatMap(({ number }) => (number === asker ? [] : [number])),
    send: (number, message) => send(slotOf(number), message),
  });

  function start(slot: Slot): void {
    const worker = cluster.fork();
    slot.worker = worker;
    slot.unanswered = undefined;
    slot.failure = undefined;
    slot.timer = undefined;
    worker.on('message', (message: FromWorker) => take(slot, message));
    let over = false;
    const end = (how: Record<string, unknown>) => {
      if (over) return;
      over = true;
      ended(slot, how);
    };
    // Of a process that could not be started there is no other sign.
    worker.on('error', (error) => {
      if (worker.process.pid === undefined) end({ reason: error.message });
    });
    worker.process.once('exit', (status, signal) => end(signal === null ? { status } : { signal }));
    log.info(
      { event: 'worker_started', worker: slot.number, pid: worker.process.pid },
      'A worker was started',
    );
  }

  function take(slot: Slot, message: FromWorker): void {
    slot.unanswered = 0;
    // What was sent before is lost, the end as well.
    if (message.type === 'listening') send(slot, stopping ? stopMessage : options.begin(slot.number));
    else if (message.type === 'ready') {
      slot.readyMs = performance.now();
      log.info({ event: 'worker_ready', worker: slot.number }, 'A worker takes devices');
      tellAll({ type: 'ready-count', count: readySlots().length });
      if (readySlots().length < count) return;
      started = true;
      ready.resolve(message);
    } else if (message.type === 'failed') slot.failure = message;
    else if (message.type === 'waiting') options.onWaiting(message.line);
    else if (message.type === 'needs-room') options.onNeedsRoom(message.standstill);
    else if (message.type === 'ask-metrics') relay.ask(slot.number, message.id);
    else if (message.type === 'metrics') relay.take(slot.number, message);
  }

  function ended(slot: Slot, how: Record<string, unknown>): void {
    const { number, failure, readyMs } = slot;
    const pid = slot.worker?.process.pid;
    slot.worker = undefined;
    slot.readyMs = undefined;
    relay.leave(number);
    tellAll({ type: 'ready-count', count: readySlots().length });
    if (stopping) {
      onEnded();
      return;
    }
    const fields = { event: 'worker_ended', worker: number, pid, ...how };
    if (!started) {
      log.error(fields, 'A worker ended while it started');
      ready.reject(toError(number, failure));
      return;
    }
    const upMs = readyMs === undefined ? 0 : performance.now() - readyMs;
    if (upMs >= steadyMs) slot.ends = 0;
    slot.ends += 1;
    slot.endsAtOnce = upMs < atOnceMs && failure?.mayPass !== true ? slot.endsAtOnce + 1 : 0;
    if (slot.endsAtOnce >= mostEndsAtOnce) {
      log.error(fields, 'A worker ended at once again');
      failed.reject(toError(number, failure, `${mostEndsAtOnce} times at once, the last time `));
      return;
    }
    const restartMs = Math.min(firstRestartMs * 2 ** (slot.ends - 1), longestRestartMs);
    log.error(
      { ...fields, ...(failure === undefined ? {} : { reason: failure.detail }), restartMs },
      'A worker ended; it is started again',
    );
    slot.timer = setTimeout(() => start(slot), restartMs);
  }

  /** Ends the workers that hang: the ordinary way to a new one begins with the end of the old. */
  function takePulse(): void {
    for (const slot of running()) {
      if (slot.unanswered === undefined) continue;
      slot.unanswered += 1;
      if (slot.unanswered <= (slot.readyMs === undefined ? mostUnansweredAtStart : mostUnanswered)) {
        send(slot, { type: 'pulse' });
        continue;
      }
      log.error({ event: 'worker_hangs', worker: slot.number }, 'A worker answers nothing; it is killed');
      slot.worker?.process.kill('SIGKILL');
    }
  }

  async function stop(): Promise<void> {
    stopping = true;
    clearInterval(pulse);
    for (const { timer } of slots) clearTimeout(timer);
    const allEnded = new Promise<void>((resolve) => {
      onEnded = () => {
        if (running().length === 0) resolve();
      };
    });
    tellAll(stopMessage);
    onEnded();
    const late = setTimeout(
      () => {
        for (const { worker } of running()) worker?.process.kill('SIGKILL');
      },
      options.shutdownTimeoutSec * 1_000 + closeTimeoutMs,
    );
    await allEnded;
    clearTimeout(late);
  }

  for (let number = 1; number <= count; number += 1) {
    const slot = new Slot(number);
    slots.push(slot);
    start(slot);
  }
  const pulse = setInterval(takePulse, pulseMs);
  let stopped: Promise<void> | undefined;
  return {
    /** What the last of them said when all were ready; rejects with why one could not start. */
    ready: ready.promise,
    /** Rejects when a worker ends at once again and again. */
    failed: failed.promise,
    tellAll,
    /** Has every worker drain and end, and waits for it. Idempotent. */
    close(): Promise<void> {
      stopped ??= stop();
      return stopped;
    },
  };
}

function toError(number: number, failure: WorkerFailure | undefined, often = ''): SvcMqttError {
  if (failure !== undefined) {
    const { code, detail, suggestion, mayPass } = failure;
    return new SvcMqttError(code, detail, {
      ...(suggestion === undefined ? {} : { suggestion }),
      mayPass,
    });
  }
  return new SvcMqttError('WORKER_FAILED', `Worker ${number} ended ${often}before it was ready`, {
    suggestion: 'The log says why',
  });
}

/** `Promise.withResolvers`, which Node.js 20 lacks. Nobody has to listen to its failure. */
function withResolvers<T>() {
  const settling = {} as { resolve(value: T): void; reject(error: unknown): void };
  const promise = new Promise<T>((resolve, reject) => Object.assign(settling, { resolve, reject }));
  promise.catch(() => undefined);
  return { promise, ...settling };
}
