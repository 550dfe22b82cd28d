import { setTimeout as delay } from 'node:timers/promises';
import { type LoadProcess, startLoad } from '../load/load-process.js';
import type { PublisherResult } from '../load/publisher.js';
import { joinQuantiles, type Measurement, readCosts, readPeaks, takeMark } from '../measure.js';
import { readReceivedMessages } from '../systems/nats.js';
import type { RunningSystem, SystemName } from '../systems/system.js';
import { verifyStream } from '../verify.js';
import type { RunContext, Scenario } from './scenario.js';

interface Load {
  readonly name: string;
  readonly load: string;
  readonly systems: readonly SystemName[];
  readonly clients: number;
  readonly qos: number;
  readonly payloadBytes: number;
  readonly window: number;
  readonly ratePerSec?: number;
}

const everyone = ['gateway', 'nats-mqtt', 'mosquitto', 'aedes', 'aedes-nats'] as const;
const loads: readonly Load[] = [
  {
    name: 'durable',
    load: '50 clients, QoS 1, 64 B, 100 in flight each',
    systems: [...everyone, 'direct'],
    ...{ clients: 50, qos: 1, payloadBytes: 64, window: 100 },
  },
  {
    name: 'durable-mqtt5',
    load: '50 clients, QoS 1, 64 B, 100 in flight each: MQTT 3.1.1 beside MQTT 5',
    systems: ['gateway', 'gateway-mqtt5', 'gateway-mqtt5-properties', 'gateway-mqtt5-receipts'],
    ...{ clients: 50, qos: 1, payloadBytes: 64, window: 100 },
  },
  {
    name: 'durable-workers',
    load: '50 clients, QoS 1, 64 B, 100 in flight each: one process beside two workers',
    systems: ['gateway', 'gateway-workers'],
    ...{ clients: 50, qos: 1, payloadBytes: 64, window: 100 },
  },
  {
    name: 'synced',
    load: '50 clients, QoS 1, 64 B, 100 in flight each, each confirmed once it is on disk',
    systems: ['gateway-synced', 'gateway-synced-plain', 'atomic'],
    ...{ clients: 50, qos: 1, payloadBytes: 64, window: 100 },
  },
  {
    name: 'synced-r3',
    load: 'the same with three replicas on three nats-servers',
    systems: ['gateway-synced-r3', 'gateway-synced-r3-plain', 'atomic-r3'],
    ...{ clients: 50, qos: 1, payloadBytes: 64, window: 100 },
  },
  {
    name: 'synced-one',
    load: '1 client, QoS 1, 64 B, one message after the other, each confirmed once it is on disk',
    systems: ['gateway-synced', 'gateway-synced-plain'],
    ...{ clients: 1, qos: 1, payloadBytes: 64, window: 1 },
  },
  {
    name: 'synced-each',
    load: '50 clients, QoS 1, 64 B, 1 in flight each, each confirmed once it is on disk',
    systems: ['gateway-synced', 'gateway-synced-plain'],
    ...{ clients: 50, qos: 1, payloadBytes: 64, window: 1 },
  },
  {
    name: 'durable-wide',
    load: '2,000 clients, QoS 1, 256 B, 4 in flight each',
    systems: everyone,
    ...{ clients: 2_000, qos: 1, payloadBytes: 256, window: 4 },
  },
  {
    name: 'durable-large',
    load: '50 clients, QoS 1, 16 KiB, 8 in flight each',
    systems: ['gateway', 'nats-mqtt', 'mosquitto', 'direct'],
    ...{ clients: 50, qos: 1, payloadBytes: 16_384, window: 8 },
  },
  {
    name: 'fire',
    load: '50 clients, QoS 0, 64 B',
    systems: ['gateway', 'gateway-core', 'nats-mqtt', 'mosquitto', 'aedes'],
    ...{ clients: 50, qos: 0, payloadBytes: 64, window: 512 },
  },
  {
    name: 'exactly-once',
    load: '50 clients, QoS 2, 64 B, 100 in flight each',
    systems: ['gateway', 'gateway-sessions', 'nats-mqtt', 'mosquitto', 'aedes'],
    ...{ clients: 50, qos: 2, payloadBytes: 64, window: 100 },
  },
  {
    name: 'latency',
    load: '200 clients, QoS 1, 64 B, 20,000 messages a second together',
    systems: ['gateway', 'nats-mqtt', 'mosquitto', 'aedes', 'direct', 'direct-each'],
    ...{ clients: 200, qos: 1, payloadBytes: 64, window: 64, ratePerSec: 20_000 },
  },
];

const drainWithinMs = 30_000;

export const throughputScenarios: readonly Scenario[] = loads.map((load) => ({
  name: load.name,
  load: load.load,
  unit: 'message',
  systems: load.systems,
  devices: () => load.clients,
  clients: () => load.clients,
  run: (context) => runThroughput(context, load),
}));

async function runThroughput(context: RunContext, load: Load): Promise<Measurement> {
  const { system, sizes } = context;
  const publisher = await startPublisher(context, load);
  await publisher.call('connect');
  await publisher.call('start');
  await delay(sizes.warmUpMs);
  await publisher.call('clearLatency');
  const fromCount = await publisher.call('snapshot');
  const from = takeMark(system, [publisher.pid]);
  await delay(sizes.measureMs);
  const toCount = await publisher.call('snapshot');
  const to = takeMark(system, [publisher.pid]);
  const latency = joinQuantiles(await publisher.call('latency'));
  const result = await publisher.call('finish', { timeoutMs: drainWithinMs });
  const peakBytes = readPeaks(system);
  await publisher.stop();

  const messages = toCount.done - fromCount.done;
  const { verified, problems, share } = await check(context, load, result);
  const ratePerSec = (messages * 1_000 * share) / (toCount.atMs - fromCount.atMs);
  return {
    scenario: load.name,
    system: system.name,
    ratePerSec,
    ...readCosts(system, from, to, Math.max(messages, 1)),
    latency,
    peakBytes,
    verified,
    problems,
    figures: {
      'MB/s': (ratePerSec * load.payloadBytes) / 1e6,
      ...(load.qos === 0 ? { 'delivered %': share * 100 } : {}),
    },
  };
}

/** The direct publishers answer the same calls as the MQTT clients that it stands for. */
async function startPublisher(
  context: RunContext,
  load: Load,
): Promise<Pick<LoadProcess<'publisher'>, 'pid' | 'call' | 'stop'>> {
  const { scope, system, fleet } = context;
  const identities = fleet.identities.slice(0, load.clients);
  const { payloadBytes, window } = load;
  const ratePerSec = load.ratePerSec;
  if ((system.name === 'direct' || system.name === 'direct-each') && system.nats !== undefined) {
    const { url, subjectOf } = system.nats;
    const subjects = identities.map(({ id }) => subjectOf(id));
    const direct = await startLoad(scope, 'direct', {
      natsUrl: url,
      subjects,
      connections: system.name === 'direct' ? 1 : load.clients,
      payloadBytes,
      window,
      ratePerSec,
    });
    return { ...direct, call: direct.call as unknown as LoadProcess<'publisher'>['call'] };
  }
  if ((system.name === 'atomic' || system.name === 'atomic-r3') && system.nats !== undefined) {
    const { url, subjectOf } = system.nats;
    const subjects = identities.map(({ id }) => subjectOf(id));
    const atomic = await startLoad(scope, 'atomic', {
      ...{ natsUrl: url, subjects, payloadBytes },
      // The largest that NATS takes, and as many as the gateway has under way.
      ...{ batchMessages: 1_000, batches: 2 },
    });
    return { ...atomic, call: atomic.call as unknown as LoadProcess<'publisher'>['call'] };
  }
  return await startLoad(scope, 'publisher', {
    port: system.mqttPort,
    identities,
    firstIndex: 0,
    qos: load.qos,
    payloadBytes,
    window,
    ratePerSec,
    dialect: system.dialect,
    session: system.session,
  });
}

/** Everything acknowledged is where it must be; for QoS 0, how much of what was sent has arrived. */
async function check(
  context: RunContext,
  load: Load,
  result: PublisherResult,
): Promise<{ verified: string | undefined; problems: string[]; share: number }> {
  const { system, fleet } = context;
  const problems = checkLoad(result);
  if (system.nats === undefined) return { verified: undefined, problems, share: 1 };
  if (load.qos === 0) return { ...(await countArrived(system, result)), problems };
  if (system.nats.stream === undefined) return { verified: undefined, problems, share: 1 };
  const verification = await verifyStream(system.nats, {
    result,
    identities: fleet.identities.slice(0, load.clients),
    firstIndex: 0,
    payloadBytes: load.payloadBytes,
    extraMessages: 0,
    contents: context.checkContents,
    lossy: false,
  });
  problems.push(...verification.problems);
  return { verified: verification.verified, problems, share: 1 };
}

export function checkLoad(result: PublisherResult): string[] {
  const problems: string[] = [];
  if (result.disconnected > 0) problems.push(`${result.disconnected} clients were disconnected`);
  if (result.strayed > 0) problems.push(`${result.strayed} acknowledgements that nothing had asked for`);
  if (result.unacknowledged > 0) problems.push(`${result.unacknowledged} messages were not acknowledged`);
  return problems;
}

/** QoS 0 may be dropped: what NATS received, or the stream took, is what counts. */
async function countArrived(
  system: RunningSystem,
  result: PublisherResult,
): Promise<{ verified: string; share: number }> {
  const { nats } = system;
  const stored = system.name === 'gateway' ? nats?.stream : undefined;
  if (nats === undefined) return { verified: '', share: 1 };
  if (stored === undefined) {
    await delay(500);
    const received = Math.min(await readReceivedMessages(nats.monitoringUrl), result.sent);
    return { verified: `${received} of ${result.sent} received by NATS`, share: received / result.sent };
  }
  const verification = await verifyStream(nats, {
    ...{ result, identities: [], firstIndex: 0, payloadBytes: 0, extraMessages: 0 },
    ...{ contents: false, lossy: true },
  });
  return { verified: verification.verified, share: Math.min(1, verification.stored / result.sent) };
}
