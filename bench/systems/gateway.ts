import { closeSync, existsSync, openSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Dialect } from '../load/packets.js';
import { programFile, readProgramVersion, root } from '../root.js';
import { startChild, stopChild, waitForOutput } from '../scope.js';
import { readCpuUs } from '../usage.js';
import { createRawStream, type NatsServer, startNats, startNatsCluster } from './nats.js';
import type {
  Part,
  Replica,
  RestartedSystem,
  RunningSystem,
  StartRequest,
  System,
  SystemName,
} from './system.js';

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

/** The same with clients whose sessions outlive their connections. */
export const gatewaySessions: System = {
  name: 'gateway-sessions',
  title: 'svc-mqtt, clients with sessions that outlive their connections',
  stores: true,
  version: async () => readProgramVersion(),
  start: async (request) => ({ ...(await startGateway(request, 'gateway-sessions')), session: true }),
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

/** Three of them. */
export const gatewayFleet = several('gateway-fleet', 'svc-mqtt, three replicas', [{}, {}, {}]);

/** Tells of connections, and of none, in turns: whenever the process gets SIGWINCH. */
const toldInTurns = `data:text/javascript,${encodeURIComponent(`
  const { EventFeed } = await import(${JSON.stringify(new URL(`file://${path.join(root, 'dist/server/event-feed.js')}`).href)});
  const { listen } = EventFeed.prototype;
  let telling = false;
  process.on('SIGWINCH', () => (telling = !telling));
  EventFeed.prototype.listen = function (listener) {
    return listen.call(this, (event) => telling && listener(event));
  };
`)}`;

/** One that tells services of connections when the scenario says so. Two processes differ by more than that costs. */
export const gatewayEvents = several(
  'gateway-events',
  'svc-mqtt with DEVICE_EVENTS, whose connections are told of in every other round',
  [{ DEVICE_EVENTS: 'true', NODE_OPTIONS: `--import=${toldInTurns}` }],
);

/** Notes what becomes of messages, or, from the next SIGWINCH on, does not, so that there is nothing to write. */
const notedInTurns = (begins: boolean) =>
  `data:text/javascript,${encodeURIComponent(`
  const { LedgerEntry } = await import(${JSON.stringify(new URL(`file://${path.join(root, 'dist/server/mqtt/live/ledger-entry.js')}`).href)});
  const { prototype } = LedgerEntry;
  const methods = ['connect', 'receive', 'store', 'refuse', 'deliver'].map((name) => [name, prototype[name]]);
  let notes = ${!begins};
  const change = () => {
    notes = !notes;
    for (const [name, method] of methods) prototype[name] = notes ? method : () => {};
  };
  change();
  process.on('SIGWINCH', change);
`)}`;
const ledgerFirst = { NODE_OPTIONS: `--import=${notedInTurns(true)}` };
const ledgerSecond = { NODE_OPTIONS: `--import=${notedInTurns(false)}` };

/** Six, of which every other one keeps a ledger; they change when the scenario says so. Processes differ by more than it costs. */
export const gatewayLedger = several(
  'gateway-ledger',
  'svc-mqtt, six replicas, of which three keep a ledger, in turns',
  [ledgerFirst, ledgerSecond, ledgerFirst, ledgerSecond, ledgerFirst, ledgerSecond],
);

/** Replicas of one NATS, each with settings of its own. */
function several(name: GatewayName, title: string, settings: readonly Record<string, string>[]): System {
  return {
    name,
    title,
    stores: true,
    version: async () => readProgramVersion(),
    async start(request) {
      const servers = [await startNats(request.scope)];
      const programs: (RestartedSystem & Replica)[] = [];
      for (const own of settings) programs.push(await startProgram(request, name, servers, [], own));
      const [first] = programs as [RestartedSystem & Replica];
      const brokers = programs.map(({ pid }) => ({ role: 'broker', pid }) as const);
      return {
        ...{ name, mqttPort: first.mqttPort, nats: first.nats, replicas: programs },
        parts: [...brokers, ...first.parts.filter(({ role }) => role !== 'broker')],
        async stop() {
          for (const program of programs) await program.stop();
        },
      };
    },
  };
}

async function startGateway(request: StartRequest, name: GatewayName): Promise<RunningSystem> {
  const { scope } = request;
  const servers = name.includes('-r3')
    ? await startNatsCluster(scope)
    : [await startNats(scope, { syncAlways: name.startsWith('gateway-synced') })];
  const [nats] = servers;
  if (nats === undefined) throw new Error('no nats-server was started');
  if (servers.length > 1) await createRawStream(nats.url, { replicas: 3, batches: true });
  return await startProgram(request, name, servers, []);
}

/**
 * Collects garbage and writes how many bytes of heap and buffers are left into the file of `BENCH_HEAP_FILE`, whenever the
 * process gets SIGUSR2.
 */
const meter = `data:text/javascript,${encodeURIComponent(`
  import { renameSync, writeFileSync } from 'node:fs';
  process.on('SIGUSR2', () => {
    gc();
    const { heapUsed, external } = process.memoryUsage();
    writeFileSync(process.env.BENCH_HEAP_FILE + '.new', String(heapUsed + external));
    renameSync(process.env.BENCH_HEAP_FILE + '.new', process.env.BENCH_HEAP_FILE);
  });
`)}`;
const heapWithinMs = 30_000;
let programs = 0;

/**
 * @param parts those of the system, which a program that is started again takes the place of.
 * @param own settings of this program.
 */
async function startProgram(
  request: StartRequest,
  name: GatewayName,
  servers: readonly NatsServer[],
  parts: Part[],
  own: Readonly<Record<string, string>> = {},
): Promise<RestartedSystem & Replica> {
  const metered = parts.length > 0;
  const jetstream = name !== 'gateway-core';
  const [nats] = servers as [NatsServer];
  const { scope, fleet, profileDirectory } = request;
  programs += 1;
  const logFile = path.join(scope.directory, `gateway-${programs}.log`);
  const heapFile = path.join(scope.directory, `heap-${programs}`);
  const log = openSync(logFile, 'w');
  const startedMs = performance.now();
  const child = startChild(
    process.execPath,
    [
      ...(profileDirectory === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDirectory}`]),
      ...(metered ? ['--expose-gc', '--import', meter] : []),
      // As `npm start`, the image and the unit of systemd start it.
      ...['--min-semi-space-size=16', '--max-semi-space-size=32', programFile, 'serve'],
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
        BENCH_HEAP_FILE: heapFile,
        ...own,
      },
      // Straight to a file, so that reading the log takes no time of anybody.
      stdio: ['ignore', log, log],
    },
  );
  closeSync(log);
  const pid = child.pid as number;
  const stopProgram = scope.add(() => stopChild(child));
  const { mqttPort, httpPort } = await waitForOutput(
    child,
    'stderr',
    () => {
      const ready = /.*"event":"serve_ready".*/.exec(readFileSync(logFile, 'utf8'))?.[0];
      return ready === undefined
        ? undefined
        : (JSON.parse(ready) as { readonly mqttPort: number; readonly httpPort: number });
    },
    `the gateway (log: ${logFile})`,
  );
  // In the place of those of before.
  parts.splice(
    0,
    parts.length,
    { role: 'broker', pid },
    ...servers.map((server) => ({ role: 'nats', pid: server.pid }) as const),
    { role: 'postgres', pid: fleet.postgresPid },
  );
  return {
    name,
    pid,
    mqttPort,
    apiUrl: `http://127.0.0.1:${httpPort}`,
    parts,
    startMs: performance.now() - startedMs,
    startCpuUs: readCpuUs(pid),
    nats: {
      url: nats.url,
      pid: nats.pid,
      monitoringUrl: nats.monitoringUrl,
      stream: jetstream ? 'RAW' : undefined,
      subjectOf: (id) => `raw.${id}`,
    },
    async restart() {
      await stopProgram();
      return await startProgram(request, name, servers, parts);
    },
    async readHeapBytes() {
      rmSync(heapFile, { force: true });
      child.kill('SIGUSR2');
      const endMs = performance.now() + heapWithinMs;
      while (!existsSync(heapFile)) {
        if (performance.now() > endMs) throw new Error('the gateway does not say how large its heap is');
        await delay(20);
      }
      return Number(readFileSync(heapFile, 'utf8'));
    },
    async stop() {
      await stopProgram();
      for (const server of servers) await server.stop();
    },
  };
}
