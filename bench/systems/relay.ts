import { fileURLToPath } from 'node:url';
import { startChild, stopChild, waitForOutput } from '../scope.js';
import { createDirectStream, startNats } from './nats.js';
import type { RunningSystem, StartRequest, System } from './system.js';

/** The least that a Node.js process can do between the same sockets: what a gateway costs beyond it is its own. */
export const relay: System = {
  name: 'relay',
  title: 'a Node.js program that passes bytes on between MQTT and NATS, checks and stores nothing',
  stores: false,
  version: async () => process.version,
  start: (request) => startRelay(request, 'relay'),
};

/** The same with records of sessions in NATS and commands read from their stream. */
export const relayStored: System = {
  name: 'relay-stored',
  title: 'the same that writes sessions to NATS and reads commands from their stream',
  stores: false,
  version: async () => process.version,
  start: (request) => startRelay(request, 'relay-stored'),
};

async function startRelay({ scope }: StartRequest, name: 'relay' | 'relay-stored'): Promise<RunningSystem> {
  const server = await startNats(scope);
  const { url, pid, monitoringUrl } = server;
  await createDirectStream(url, { name: 'CMD', subjects: ['cmd.>'] });
  await createDirectStream(url, {
    name: 'KV_svc-mqtt-sessions',
    subjects: ['$KV.svc-mqtt-sessions.>'],
    max_msgs_per_subject: 1,
  });
  const file = fileURLToPath(new URL('../peers/relay.js', import.meta.url));
  const child = startChild(process.execPath, [file, url, ...(name === 'relay' ? [] : ['stored'])], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const stop = scope.add(async () => {
    await stopChild(child);
    await server.stop();
  });
  const find = (text: string) => /port (\d+)/.exec(text)?.[1];
  return {
    name,
    mqttPort: Number(await waitForOutput(child, 'stdout', find, 'relay')),
    parts: [
      { role: 'broker', pid: child.pid as number },
      { role: 'nats', pid },
    ],
    nats: { url, pid, monitoringUrl, stream: undefined, subjectOf: (id) => `raw.${id}` },
    stop,
  };
}
