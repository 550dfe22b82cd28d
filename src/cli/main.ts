#!/usr/bin/env node
import { runProgram } from './program.js';
import type { CommandIo } from './terminal/io.js';
import { flush, Interrupted, signalStatus } from './terminal/io.js';
import { describeFailure } from './terminal/report.js';
import { escapeControls } from './terminal/text.js';

/** In a terminal npm passes on the SIGINT that the whole process group has got already: that is one Ctrl-C. */
const sameInterruptMs = 250;

/** Runs the process: the only place that reads its arguments and environment and sets its exit status. */
async function main(): Promise<void> {
  const stop = new AbortController();
  const outputClosed = new AbortController();
  let outputFailure: NodeJS.ErrnoException | undefined;
  let stoppedAt = 0;
  let hangUp: (() => void) | undefined;
  let tellAtEnd: (() => Promise<void>) | undefined;
  /** Ends the process, whatever becomes of the command meanwhile. */
  let ending: Promise<never> | undefined;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (!stop.signal.aborted) {
        if (signal === 'SIGHUP' && hangUp !== undefined) {
          hangUp();
          return;
        }
        stoppedAt = Date.now();
        stop.abort(signal);
        return;
      }
      const bothInterrupts = signal === 'SIGINT' && stop.signal.reason === 'SIGINT';
      if (bothInterrupts && Date.now() - stoppedAt <= sameInterruptMs) return;
      stoppedAt = Date.now();
      const tell = tellAtEnd;
      tellAtEnd = undefined;
      if (tell === undefined) process.exit(signalStatus(signal));
      ending = tell()
        .catch(report)
        .then(() => process.exit(signalStatus(signal)));
    });
  }
  let tellDefect: (error: unknown) => void = report;
  process.on('uncaughtException', (error) => {
    try {
      tellDefect(error);
    } finally {
      process.exit(1);
    }
  });
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') outputFailure = error;
    outputClosed.abort();
  });
  process.stderr.on('error', () => {});

  const io: CommandIo = {
    get stdin() {
      return process.stdin;
    },
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    onHangUp: (callback) => {
      hangUp = callback;
    },
    onEndAtOnce: (tell) => {
      tellAtEnd = tell;
      return () => {
        tellAtEnd = undefined;
      };
    },
    signal: stop.signal,
    outputClosed: outputClosed.signal,
    onDefect: (tell) => {
      tellDefect = tell;
    },
  };
  let status: number;
  try {
    status = await runProgram(process.argv.slice(2), io);
  } catch (error) {
    await ending;
    status = report(error);
  }
  await ending;
  await flush(process.stdout);
  if (outputFailure !== undefined) status = report(outputFailure);
  await flush(process.stderr);
  // What a command left open, such as an idle terminal, must not keep the process.
  process.exit(status);
}

/** Says on stderr what ended the command; answers the exit status. */
function report(error: unknown): number {
  if (error instanceof Interrupted) {
    if (error.told !== undefined) process.stderr.write(`svc-mqtt: ${escapeControls(error.told)}\n`);
    return error.exitStatus;
  }
  const level =
    /--log-level[= ](debug|trace)\b/.exec(process.argv.join(' '))?.[1] ?? process.env.LOG_LEVEL ?? '';
  const { text, exitStatus } = describeFailure(error, { withStack: level === 'debug' || level === 'trace' });
  process.stderr.write(text);
  return exitStatus;
}

void main();
