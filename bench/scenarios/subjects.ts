import { setTimeout as delay } from 'node:timers/promises';
import { headers } from 'nats';
import type { Measurement } from '../measure.js';
import { readStorageBytes, readStreamMessages, withNats } from '../systems/nats.js';
import type { NatsAccess } from '../systems/system.js';
import { readMemory } from '../usage.js';
import type { RunContext, Scenario } from './scenario.js';

/** Messages in the stream, of however many devices. */
const messages = 1_000_000;
const few = 100;
const payload = Buffer.alloc(64, 'x');
/** The answer to one of so many is waited for: a stream takes in 10,000, and drops what comes beyond. */
const answeredEvery = 2_000;

/** What NATS needs for the subjects of a fleet in one stream, beside what it needs for their messages. */
export const subjects: Scenario = {
  name: 'subjects',
  load: '1,000,000 messages of 64 bytes in one stream, of 100 devices and of 100,000; no MQTT',
  unit: 'message',
  systems: ['direct'],
  byNameOnly: true,
  devices: () => 1,
  clients: () => 0,
  run: runSubjects,
};

async function runSubjects({ system, sizes }: RunContext): Promise<Measurement> {
  const { nats } = system;
  if (nats?.restart === undefined) throw new Error('there is no NATS to fill');
  const many = sizes.stormDevices;
  const emptyBytes = readMemory(nats.pid).rssBytes;
  const figures: Record<string, number> = { 'MB, empty': emptyBytes / 1e6 };
  for (const devices of [few, many]) {
    await empty(nats);
    await nats.restart('SIGTERM');
    await fill(nats, devices);
    await delay(sizes.restMs);
    const name = `${devices.toLocaleString('en')} devices`;
    figures[`MB, ${name}`] = readMemory(nats.pid).rssBytes / 1e6;
    figures[`MB on disk, ${name}`] = (await readStorageBytes(nats.monitoringUrl)) / 1e6;
    figures[`s to start, ${name}`] = (await nats.restart('SIGTERM')) / 1_000;
    figures[`MB after it, ${name}`] = readMemory(nats.pid).rssBytes / 1e6;
    figures[`s to start after a kill, ${name}`] = (await nats.restart('SIGKILL')) / 1_000;
  }
  const stored = await readStreamMessages(nats.url, 'RAW');
  return {
    scenario: subjects.name,
    system: system.name,
    ratePerSec: undefined,
    cpuUs: {},
    latency: undefined,
    peakBytes: {},
    foreignCores: undefined,
    verified: `${stored} stored`,
    problems: stored === messages ? [] : [`${messages - stored} messages are missing`],
    figures,
  };
}

async function empty({ url }: NatsAccess): Promise<void> {
  await withNats(url, async (connection) => {
    await (await connection.jetstreamManager({ timeout: 30_000 })).streams.purge('RAW');
  });
}

/** The devices in turn, as they would send. */
async function fill({ url, subjectOf }: NatsAccess, devices: number): Promise<void> {
  await withNats(url, async (connection) => {
    const lines = headers();
    for (let sent = 1; sent <= messages; sent += 1) {
      const id = String(sent % devices).padStart(12, '0');
      lines.set('Mqtt-Topic', `raw/${id}`);
      if (sent % answeredEvery === 0)
        await connection.request(subjectOf(id), payload, { headers: lines, timeout: 30_000 });
      else connection.publish(subjectOf(id), payload, { headers: lines });
    }
  });
}
