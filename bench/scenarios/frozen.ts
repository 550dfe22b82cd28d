import { setTimeout as delay } from 'node:timers/promises';
import { startLoad } from '../load/load-process.js';
import { joinQuantiles, type Measurement, readBrokerRss, readPeaks } from '../measure.js';
import { verifyStream } from '../verify.js';
import type { RunContext, Scenario } from './scenario.js';
import { checkLoad } from './throughput.js';

const clients = 50;
const payloadBytes = 64;
/** Those that fill every bound: more in flight than a client may have, and more bytes than the process may hold. */
const floodClients = 50;
const floodPayloadBytes = 4_096;
const floodWindow = 700;
const pingEveryMs = 1_000;
const recoverWithinMs = 120_000;
/** MAX_IN_FLIGHT_BYTES as it is by default. */
const boundBytes = 67_108_864;

/** NATS stands still under full load: nothing is acknowledged, nothing grows, pings are answered. */
export const frozen: Scenario = {
  name: 'frozen',
  load: 'durable, then NATS is stopped (SIGSTOP) for 60 s while 50 further clients send 4 KiB messages until they are not read; a ping on every connection each second',
  unit: 'message',
  systems: ['gateway'],
  byNameOnly: true,
  devices: () => clients + floodClients,
  clients: () => clients + floodClients,
  run: runFrozen,
};

async function runFrozen(context: RunContext): Promise<Measurement> {
  const { scope, fleet, sizes, system } = context;
  const { nats } = system;
  if (nats === undefined) throw new Error('there is no NATS to freeze');
  const port = system.mqttPort;
  const identities = fleet.identities.slice(0, clients);
  const flooders = fleet.identities.slice(clients, clients + floodClients);
  const steady = await startLoad(scope, 'publisher', {
    ...{ port, identities, firstIndex: 0, qos: 1, payloadBytes, window: 100, ratePerSec: undefined },
  });
  const flood = await startLoad(scope, 'publisher', {
    ...{ port, identities: flooders, firstIndex: clients, qos: 1, ratePerSec: undefined },
    ...{ payloadBytes: floodPayloadBytes, window: floodWindow },
  });
  await steady.call('connect');
  await flood.call('connect');
  await steady.call('start');
  await delay(sizes.warmUpMs);
  const beforeBytes = readBrokerRss(system);
  let highestBytes = beforeBytes;
  const ofSteady = { pings: 0, pongs: 0 };
  const ofFlood = { pings: 0, pongs: 0 };

  process.kill(nats.pid, 'SIGSTOP');
  const before = await steady.call('snapshot');
  await delay(pingEveryMs);
  // Only now: the steady clients' messages have been taken, so that their connections are read and pings heard.
  await flood.call('start');
  const endMs = performance.now() + sizes.frozenMs;
  while (performance.now() < endMs) {
    const [steadyNow, floodNow] = await Promise.all([
      steady.call('ping', { timeoutMs: pingEveryMs }),
      flood.call('ping', { timeoutMs: pingEveryMs }),
    ]);
    for (const [sum, now] of [
      [ofSteady, steadyNow],
      [ofFlood, floodNow],
    ] as const) {
      sum.pings += now.pings;
      sum.pongs += now.pongs;
    }
    highestBytes = Math.max(highestBytes, readBrokerRss(system));
  }
  const during = await steady.call('snapshot');
  process.kill(nats.pid, 'SIGCONT');

  await delay(2_000);
  const again = await steady.call('snapshot');
  const result = await steady.call('finish', { timeoutMs: recoverWithinMs }, recoverWithinMs + 10_000);
  const floodResult = await flood.call('finish', { timeoutMs: recoverWithinMs }, recoverWithinMs + 10_000);
  const latency = joinQuantiles(await steady.call('latency'));
  const peakBytes = readPeaks(system);
  await steady.stop();
  await flood.stop();

  const problems = [...checkLoad(result), ...checkLoad(floodResult)];
  if (again.done === during.done) problems.push('nothing was acknowledged within 2 s of the end');
  const { verified, stored } = await verifyStream(nats, {
    ...{ result, identities, firstIndex: 0, payloadBytes, contents: false, lossy: true },
    extraMessages: floodResult.sent,
  });
  const acknowledged = result.done + floodResult.done;
  if (stored < acknowledged) problems.push(`${acknowledged - stored} acknowledged messages were lost`);
  return {
    scenario: frozen.name,
    system: system.name,
    ratePerSec: undefined,
    cpuUs: {},
    latency,
    peakBytes,
    foreignCores: undefined,
    verified,
    problems,
    figures: {
      'RSS before MiB': beforeBytes / 2 ** 20,
      'highest RSS MiB': highestBytes / 2 ** 20,
      'growth over bound MiB': (highestBytes - beforeBytes - boundBytes) / 2 ** 20,
      'growth in all over bound MiB': ((peakBytes.broker ?? 0) - beforeBytes - boundBytes) / 2 ** 20,
      'pings answered %': (ofSteady.pongs * 100) / Math.max(ofSteady.pings, 1),
      'pings answered at the bound %': (ofFlood.pongs * 100) / Math.max(ofFlood.pings, 1),
      'acknowledged while frozen': during.done - before.done,
      'stored twice': Math.max(0, stored - result.sent - floodResult.sent),
    },
  };
}
