import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { root } from '../root.js';
import { startChild, stopChild, waitForOutput } from '../scope.js';
import { createRawStream, rawStreamOf, startNats } from './nats.js';
import type { RunningSystem, StartRequest, System } from './system.js';

/** Bare aedes: no passwords, no forwarding. */
export const aedes: System = {
  name: 'aedes',
  title: 'aedes, nothing stored, no passwords',
  stores: false,
  version: async () => readAedesVersion(),
  start: (request) => startAedes(request, false),
};

/** aedes with `js.publish` awaited in `authorizePublish`: the obvious way to store before acknowledging. */
export const aedesNats: System = {
  name: 'aedes-nats',
  title: 'aedes, js.publish awaited in authorizePublish',
  stores: true,
  version: async () => readAedesVersion(),
  start: (request) => startAedes(request, true),
};

function readAedesVersion(): string {
  const entry = createRequire(path.join(root, 'package.json')).resolve('aedes');
  const directory = entry.slice(0, entry.lastIndexOf('node_modules') + 'node_modules/aedes/'.length);
  return JSON.parse(readFileSync(path.join(directory, 'package.json'), 'utf8')).version;
}

async function startAedes({ scope }: StartRequest, storing: boolean): Promise<RunningSystem> {
  const nats = storing ? await startNats(scope) : undefined;
  if (nats !== undefined) await createRawStream(nats.url);
  const file = fileURLToPath(new URL('../peers/aedes-broker.js', import.meta.url));
  const child = startChild(process.execPath, [file, ...(nats === undefined ? [] : [nats.url])], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const stop = scope.add(async () => {
    await stopChild(child);
    await nats?.stop();
  });
  const port = await waitForOutput(
    child,
    'stdout',
    (text) => {
      const found = /port (\d+)/.exec(text)?.[1];
      return found === undefined ? undefined : Number(found);
    },
    'aedes',
  );
  return {
    name: storing ? 'aedes-nats' : 'aedes',
    mqttPort: port,
    parts: [
      { role: 'broker', pid: child.pid as number },
      ...(nats === undefined ? [] : [{ role: 'nats', pid: nats.pid } as const]),
    ],
    nats: nats === undefined ? undefined : rawStreamOf(nats),
    stop,
  };
}
