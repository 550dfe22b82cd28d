import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Scope } from '../scope.js';
import { stopChild, trackChild, within } from '../scope.js';
import type { Role, RoleCalls, RoleConfig } from './worker.js';

/** A process that makes load, and the calls it answers. */
export interface LoadProcess<R extends Role> {
  readonly pid: number;
  call<C extends keyof RoleCalls<R>>(
    name: C,
    argument?: RoleCalls<R>[C] extends (...args: infer A) => unknown ? A[0] : never,
    timeoutMs?: number,
  ): Promise<RoleCalls<R>[C] extends (...args: never[]) => infer T ? Awaited<T> : never>;
  stop(): Promise<void>;
}

const defaultTimeoutMs = 60_000;

export async function startLoad<R extends Role>(
  scope: Scope,
  role: R,
  config: RoleConfig<R>,
): Promise<LoadProcess<R>> {
  const file = fileURLToPath(new URL('./worker.js', import.meta.url));
  const child = trackChild(
    fork(file, [], {
      execArgv: ['--max-semi-space-size=32'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    }),
  );
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let requests = 0;
  child.on('message', (answer: { id: number; result?: unknown; error?: string }) => {
    const request = waiting.get(answer.id);
    waiting.delete(answer.id);
    if (answer.error === undefined) request?.resolve(answer.result);
    else request?.reject(new Error(`the load of role ${role}: ${answer.error}`));
  });
  child.once('exit', (code, signal) => {
    for (const { reject } of waiting.values())
      reject(new Error(`the load of role ${role} ended with ${signal ?? code}`));
  });
  const call = (name: string, argument: unknown, timeoutMs = defaultTimeoutMs) =>
    within(
      new Promise<unknown>((resolve, reject) => {
        requests += 1;
        waiting.set(requests, { resolve, reject });
        child.send({ id: requests, call: name, argument });
      }),
      timeoutMs,
      `the call ${name} of the load`,
    );
  const stop = scope.add(() => stopChild(child, 'SIGTERM'));
  await call('open', { role, config });
  return {
    pid: child.pid as number,
    call: call as LoadProcess<R>['call'],
    stop,
  };
}
