import { setTimeout as delay } from 'node:timers/promises';
import { type LoadProcess, startLoad } from '../load/load-process.js';
import type { Identity } from '../load/packets.js';
import { joinQuantiles, type Measurement, readCosts, readPeaks, takeMark } from '../measure.js';
import { median } from '../median.js';
import { readLastSequence, readStreamMessages, withNats } from '../systems/nats.js';
import type { NatsAccess, RunningSystem } from '../systems/system.js';
import type { RunContext, Scenario } from './scenario.js';

const commandsEach = 6;
const commandBytes = 100;
/** Pairs of a storm without sessions and a return, one after the other: a figure is the median of them. */
const rounds = 3;
const stormWithinMs = 180_000;
/** After the clients have gone, so that their going is not counted with the next coming. */
const pauseMs = 4_000;
/** Sessions are written as late as this after the last acknowledgement. */
const lateMs = 2_000;
const storeWithinMs = 60_000;
const setUpAtOnce = 500;
const sessionStream = 'KV_svc-mqtt-sessions';

/** A fleet that lost its network comes back to what was sent meanwhile. */
export const comeBack: Scenario = {
  name: 'return',
  load: '10,000 devices with a session and 6 commands each that wait come back at once; in turns with a storm of clean sessions of the same devices',
  unit: 'connect',
  systems: ['gateway', 'relay', 'relay-stored'],
  devices: (sizes) => sizes.stormClients,
  clients: (sizes) => sizes.stormClients,
  run: runReturn,
};

async function runReturn({ scope, fleet, sizes, system }: RunContext): Promise<Measurement> {
  const { nats } = system;
  if (nats === undefined) throw new Error('there is no NATS to send commands to');
  const identities = fleet.identities.slice(0, sizes.stormClients);
  const port = system.mqttPort;
  const clean = await startLoad(scope, 'connector', { port, identities, prefix: 'storm' });
  const kept = await startLoad(scope, 'connector', { port, identities, prefix: 'kept', session: true });
  await kept.call('connect', { atOnce: setUpAtOnce }, stormWithinMs);
  await kept.call('subscribe', undefined, stormWithinMs);
  await leave(kept);

  const storms: Round[] = [];
  const returns: Round[] = [];
  const writes: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    storms.push(await connectAll(system, clean, identities.length, 0));
    await leave(clean);
    await sendCommands(nats, identities, round);
    const before = await readLastSequence(nats.url, sessionStream);
    returns.push(await connectAll(system, kept, identities.length, commandsEach));
    writes.push(((await readLastSequence(nats.url, sessionStream)) - before) / identities.length);
    await leave(kept);
  }
  const counts = await kept.call('counts');
  const peakBytes = readPeaks(system);
  await clean.stop();
  await kept.stop();

  const lost = 2 * rounds * identities.length - sum([...storms, ...returns], (each) => each.accepted);
  const missing = rounds * identities.length * commandsEach - counts.delivered;
  const problems = [
    ...(lost > 0 ? [`${lost} logins were lost`] : []),
    ...(missing > 0 ? [`${missing} commands did not arrive`] : []),
    ...(counts.strayed > 0 ? [`${counts.strayed} commands came in a wrong order or twice`] : []),
  ];
  const over = (all: readonly Round[], read: (each: Round) => number) => median(all.map(read));
  const storm = over(storms, cpuOf);
  const back = over(returns, cpuOf);
  const [first] = returns as [Round];
  return {
    scenario: comeBack.name,
    system: system.name,
    ratePerSec: over(returns, (each) => each.ratePerSec),
    cpuUs: {
      ...first.costs.cpuUs,
      broker: over(returns, ({ costs }) => costs.cpuUs.broker ?? 0),
      nats: over(returns, ({ costs }) => costs.cpuUs.nats ?? 0),
    },
    foreignCores: over(returns, ({ costs }) => costs.foreignCores),
    latency: joinQuantiles(...returns.map((each) => each.latency)),
    peakBytes,
    verified: `${counts.delivered} commands, in order`,
    problems,
    figures: {
      'storm µs/connect': storm,
      'return µs/connect': back,
      'over 1.6 storms, µs/command': (back - 1.6 * storm) / commandsEach,
      'writes of a session': median(writes),
      'storm p99 ms': over(storms, ({ latency }) => joinQuantiles(latency).p99Us / 1_000),
      'last command p99 ms': over(returns, ({ lastCommand }) => joinQuantiles(lastCommand).p99Us / 1_000),
      'last command p99 ×': median(
        returns.map(
          ({ lastCommand }, round) =>
            joinQuantiles(lastCommand).p99Us / joinQuantiles((storms[round] as Round).latency).p99Us,
        ),
      ),
    },
  };
}

type Round = Awaited<ReturnType<typeof connectAll>>;

async function connectAll(
  system: RunningSystem,
  load: LoadProcess<'connector'>,
  clients: number,
  commands: number,
) {
  const from = takeMark(system, [load.pid]);
  const result = await load.call('connect', { atOnce: clients, commands }, stormWithinMs);
  await delay(lateMs);
  const costs = readCosts(system, from, takeMark(system, [load.pid]), clients);
  return { ...result, costs, ratePerSec: (result.accepted * 1_000) / result.elapsedMs };
}

async function leave(load: LoadProcess<'connector'>): Promise<void> {
  await load.call('disconnect');
  await delay(pauseMs);
}

/** To one device after the other, so that those of a device do not lie together in the stream. */
async function sendCommands(nats: NatsAccess, identities: readonly Identity[], round: number): Promise<void> {
  await withNats(nats.url, async (connection) => {
    for (let each = 0; each < commandsEach; each += 1) {
      const payload = Buffer.alloc(commandBytes);
      payload.writeUInt32BE(round * commandsEach + each);
      for (const { id } of identities) connection.publish(`cmd.${id}.go`, payload);
      await connection.flush();
    }
  });
  const wanted = (round + 1) * commandsEach * identities.length;
  const endMs = performance.now() + storeWithinMs;
  while ((await readStreamMessages(nats.url, 'CMD')) < wanted) {
    if (performance.now() > endMs) throw new Error('the commands are not all stored');
    await delay(100);
  }
  await delay(lateMs);
}

function cpuOf({ costs }: Round): number {
  return (costs.cpuUs.broker ?? 0) + (costs.cpuUs.nats ?? 0);
}

function sum<T>(all: readonly T[], read: (each: T) => number): number {
  return all.reduce((total, each) => total + read(each), 0);
}
