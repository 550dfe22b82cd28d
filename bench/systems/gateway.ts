import { closeSync, openSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Dialect } from '../load/packets.js';
import { programFile, readProgramVersion } from '../root.js';
import { startChild, stopChild, waitForOutput } from '../scope.js';
import { createRawStream, startNats, startNatsCluster } from './nats.js';
import type { RunningSystem, StartRequest, System, SystemName } from './system.js';

type GatewayName = Extract<SystemName, `gateway${string}`>;

/** The gateway with its default limits, but for connects per second, a nats-server and the fleet's PostgreSQL. */
export const gateway: System = {
  name: 'gateway',
  title: 'svc-mqtt, stored in JetStream',
  stores: true,
  version: async () => readProgramVersion(),
  start: (request) => startGateway(request, 'gateway'),
};

/** The same with clients of MQTT 5, whose messages have no properties. */
export const gatewayMqtt5 = speaking('gateway-mqtt5', '5', 'svc-mqtt, clients of MQTT 5');

/** The same with properties on each message. */
export const gatewayMqtt5Properties = speaking(
  'gateway-mqtt5-properties',
  '5-properties',
  'svc-mqtt, clients of MQTT 5, each message with an alias, a content type and three user properties',
);

/** The same with where it is stored on each PUBACK. */
export const gatewayMqtt5Receipts = speaking(
  'gateway-mqtt5-receipts',
  '5-receipts',
  'svc-mqtt, clients of MQTT 5 that ask for receipts',
);

function speaking(name: GatewayName, dialect: Dialect, title: string): System {
  return {
    name,
    title,
    stores: true,
    version: async () => readProgramVersion(),
    start: async (request) => ({ ...(await startGateway(request, name)), dialect }),
  };
}

/** The same on a NATS that syncs to disk before it confirms. */
export const gatewaySynced: System = {
  name: 'gateway-synced',
  title: 'svc-mqtt, synced to disk before PUBACK',
  stores: true,
  version: async () => readProgramVersion(),
  start: (request) => startGateway(request, 'gateway-synced'),
};

/** The same with NATS_INGEST=plain: one message a sync. */
export const gatewaySyncedPlain: System = {
  name: 'gateway-synced-plain',
  title: 'svc-mqtt, synced to disk message by message',
  stores: true,
  version: async () => readProgramVersion(),
  start: (request) => startGateway(request, 'gateway-synced-plain'),
};

/** The same with WORKERS=2. */
export const gatewayWorkers: System = {
  name: 'gateway-workers',
  title: 'svc-mqtt with two workers',
  stores: true,
  version: async () => readProgramVersion(),
  start: (request) => startGateway(request, 'gateway-workers'),
};

/** On three nats-servers that all have the stream, and sync before they confirm. */
export const gatewaySyncedReplicated: System = {
  name: 'gateway-synced-r3',
  title: 'svc-mqtt, synced to disk on three nats-servers before PUBACK',
  stores: true,
  version: async () => readProgramVersion(),
  start: (request) => startGateway(request, 'gateway-synced-r3'),
};

/** The same with NATS_INGEST=plain. */
export const gatewaySyncedReplicatedPlain: System = {
  name: 'gateway-synced-r3-plain',
  title: 'svc-mqtt, synced to disk on three nats-servers message by message',
  stores: true,
  version: async () => readProgramVersion(),
  start: (request) => startGateway(request, 'gateway-synced-r3-plain'),
};

/** The same with ENABLE_JETSTREAM=false: messages go to core NATS and nothing is stored. */
export const gatewayCore: System = {
  name: 'gateway-core',
  title: 'svc-mqtt, core NATS (nothing stored)',
  stores: false,
  version: async () => readProgramVersion(),
  start: (request) => startGateway(request, 'gateway-core'),
};

async function startGateway(request: StartRequest, name: GatewayName): Promise<RunningSystem> {
  const jetstream = name !== 'gateway-core';
  const { scope, fleet, profileDirectory } = request;
  const servers = name.includes('-r3')
    ? await startNatsCluster(scope)
    : [await startNats(scope, { syncAlways: name.startsWith('gateway-synced') })];
  const [nats] = servers;
  if (nats === undefined) throw new Error('no nats-server was started');
  if (servers.length > 1) await createRawStream(nats.url, { replicas: 3, batches: true });
  const logFile = path.join(scope.directory, 'gateway.log');
  const log = openSync(logFile, 'w');
  const child = startChild(
    process.execPath,
    [
      ...(profileDirectory === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDirectory}`]),
      ...[programFile, 'serve'],
    ],
    {
      env: {
        PATH: process.env.PATH,
        DATABASE_URL: fleet.databaseUrl,
        NATS_URL: servers.map(({ url }) => url).join(','),
        ENABLE_JETSTREAM: String(jetstream),
        WORKERS: name === 'gateway-workers' ? '2' : '1',
        NATS_INGEST: name.endsWith('-plain') ? 'plain' : 'auto',
        // All clients share an address here, and `storm` asks what a connect costs.
        MAX_CONNECTS_PER_SECOND: '1000000',
        MAX_CONNECTS_PER_SECOND_PER_ADDRESS: '1000000',
        MQTT_HOST: '127.0.0.1',
        MQTT_PORT: '0',
        LISTEN_ADDR: '127.0.0.1:0',
        LOG_FORMAT: 'json',
      },
      // Straight to a file, so that reading the log takes no time of anybody.
      stdio: ['ignore', log, log],
    },
  );
  closeSync(log);
  const stop = scope.add(async () => {
    await stopChild(child);
    for (const server of servers) await server.stop();
  });
  const mqttPort = await waitForOutput(
    child,
    'stderr',
    () => {
      const ready = /"event":"serve_ready".*/.exec(readFileSync(logFile, 'utf8'))?.[0];
      return ready === undefined ? undefined : Number(/"mqttPort":(\d+)/.exec(ready)?.[1]);
    },
    `the gateway (log: ${logFile})`,
  );
  return {
    name,
    mqttPort,
    parts: [
      { role: 'broker', pid: child.pid as number },
      ...servers.map(({ pid }) => ({ role: 'nats', pid }) as const),
      { role: 'postgres', pid: fleet.postgresPid },
    ],
    nats: {
      url: nats.url,
      pid: nats.pid,
      monitoringUrl: nats.monitoringUrl,
      stream: jetstream ? 'RAW' : undefined,
      subjectOf: (id) => `raw.${id}`,
    },
    stop,
  };
}
