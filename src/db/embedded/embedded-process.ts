import { type ChildProcess, fork } from 'node:child_process';
import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { messageOf } from '../../errors.js';
import type { EmbeddedLine, EmbeddedMessage } from './embedded-child.js';

const closeTimeoutMs = 15_000;
const maxLineLength = 65_536;

/**
 * Starts the database's process. It gets no environment, so no secrets; no terminal signals; and no inherited
 * output, which would keep a pipeline open when it outlives a command.
 */
export function forkChild(directory: string): ChildProcess {
  const here = fileURLToPath(import.meta.url);
  const fromSource = here.endsWith('.ts');
  const file = path.join(path.dirname(here), `embedded-child${fromSource ? '.ts' : '.js'}`);
  return fork(file, [directory], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    detached: true,
    env: {},
    execArgv: fromSource ? ['--import', pathToFileURL(createRequire(here).resolve('tsx')).href] : [],
  });
}

/** Waits until a new process has claimed the directory, or lost it to another, or failed for the reason answered. */
export async function claimOutcome(child: ChildProcess): Promise<string | undefined> {
  return await new Promise((resolve) => {
    const onMessage = (message: EmbeddedMessage) => {
      if (message.type !== 'staying') done(message.type === 'crashed' ? message.reason : undefined);
    };
    const onExit = (code: number | null, signal: string | null) =>
      done(`it ended with ${signal ?? `status ${code}`}`);
    const onError = (error: Error) => done(messageOf(error));
    const done = (reason: string | undefined) => {
      child.off('message', onMessage).off('exit', onExit);
      resolve(reason);
    };
    child.on('message', onMessage).on('exit', onExit).on('error', onError);
  });
}

/** Follows the lines of the database's process until it is ready, has failed, or is gone. */
export async function followUntilReady(
  socket: Socket,
  onLine: (line: EmbeddedLine) => void,
): Promise<{ ready: boolean; reason?: string }> {
  return await new Promise((resolve) => {
    socket.once('close', () => resolve({ ready: false }));
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (text + chunk).split('\n');
      text = lines.pop() ?? '';
      if (text.length > maxLineLength) socket.destroy();
      for (const each of lines) {
        const line = JSON.parse(each) as EmbeddedLine;
        onLine(line);
        if ('state' in line && line.state === 'ready') resolve({ ready: true });
        if ('state' in line && line.state === 'failed') resolve({ ready: false, reason: line.reason });
      }
    });
  });
}

/** Lets go of a process that another one started: it says that it stays, or has ended. */
export async function letGo(anchor: Socket): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => anchor.destroy(), closeTimeoutMs);
    anchor.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
    if (anchor.closed) resolve();
    anchor.end();
  });
}

/** Lets go of the process: it ends, or says that it stays for others who use it. */
export async function releaseChild(child: ChildProcess): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), closeTimeoutMs);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    child.once('exit', done);
    child.on('message', (message: EmbeddedMessage) => {
      if (message.type === 'staying') done();
    });
    if (child.exitCode !== null || child.signalCode !== null) done();
    else if (child.connected) child.send('release', () => {});
  });
  child.removeAllListeners().on('error', () => {});
  if (child.connected) child.disconnect();
  child.unref();
}
