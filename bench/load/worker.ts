import { openAnswering } from './answering.js';
import { openAsker } from './asker.js';
import { openAtomic } from './atomic.js';
import { openChurn } from './churn.js';
import { openConnector } from './connector.js';
import { openDirect } from './direct.js';
import { openPublisher } from './publisher.js';
import { openService } from './service.js';
import { openSubscribers } from './subscribers.js';
import { openWatcher } from './watcher.js';

/** What a load process can be; each role answers the calls of `LoadProcess.call`. */
export const roles = {
  publisher: openPublisher,
  direct: openDirect,
  atomic: openAtomic,
  connector: openConnector,
  subscribers: openSubscribers,
  churn: openChurn,
  answering: openAnswering,
  service: openService,
  asker: openAsker,
  watcher: openWatcher,
};

export type Role = keyof typeof roles;
export type RoleConfig<R extends Role> = Parameters<(typeof roles)[R]>[0];
export type RoleCalls<R extends Role> = ReturnType<(typeof roles)[R]>;

export interface Request {
  readonly id: number;
  readonly call: string;
  readonly argument: unknown;
}

let calls: Record<string, (argument: unknown) => unknown> | undefined;

async function answer(request: Request): Promise<unknown> {
  if (request.call === 'open') {
    const { role, config } = request.argument as { role: Role; config: never };
    calls = roles[role](config) as unknown as typeof calls;
    return undefined;
  }
  const call = calls?.[request.call];
  if (call === undefined) throw new Error(`no call ${request.call}`);
  return await call(request.argument);
}

if (process.send !== undefined) {
  process.on('message', (request: Request) => {
    answer(request).then(
      (result) => process.send?.({ id: request.id, result }),
      (error: unknown) => process.send?.({ id: request.id, error: String(error) }),
    );
  });
  // The parent is gone: nobody wants the load any more.
  process.on('disconnect', () => process.exit(0));
  // Ctrl-C reaches the whole process group; the parent ends this process when it is done with it.
  process.on('SIGINT', () => {});
}
