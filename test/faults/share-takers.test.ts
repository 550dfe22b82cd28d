import { setTimeout as delay } from 'node:timers/promises';
import type { IPublishPacket, MqttClient } from 'mqtt';
import { connect } from 'nats';
import { expect, onTestFinished, test } from 'vitest';
import type { Credentials } from '../support/load.js';
import { addDevices, startGateway, startReplica, until } from './gateway.js';
import { connectMqttJs } from './mqtt-js.js';

/** Replicas with members of a shared subscription that die, stand still, or are of an earlier version. */

const subscribed = '$share/w/jobs/#';
const env = { ACL: 'open' };

type Client = MqttClient & { readonly got: IPublishPacket[] };

const jobsOf = ({ got }: Client) => got.map(({ payload }) => payload.toString()).toSorted();
const numbers = (what: string, count: number) =>
  Array.from({ length: count }, (_, number) => `${what} ${number}`).toSorted();

async function publishAll(publisher: Client, jobs: readonly string[], qos: 1 | 2 = 1): Promise<void> {
  await Promise.all(jobs.map((job) => publisher.publishAsync('jobs/a', job, { qos })));
}

/** A publisher on one replica, and a member of the share on each of two others; both have had messages. */
async function startShare() {
  const gateway = await startGateway(onTestFinished, { env });
  const doomed = await startReplica(onTestFinished, gateway);
  const other = await startReplica(onTestFinished, gateway);
  const devices = await addDevices(gateway.server.httpPort, 4);
  const [sender, first, second, watcher] = devices as [Credentials, Credentials, Credentials, Credentials];
  const publisher = await connectMqttJs(onTestFinished, gateway.server.mqttPort, sender);
  const onDoomed = await connectMqttJs(onTestFinished, doomed.mqttPort, first);
  const onOther = await connectMqttJs(onTestFinished, other.mqttPort, second);
  for (const member of [onDoomed, onOther]) await member.subscribeAsync(subscribed, { qos: 2 });
  await publishAll(publisher, numbers('before', 20));
  await until('both share them', () => onDoomed.got.length === 10 && onOther.got.length === 10);
  // Nothing of what comes then is in the memory of the one that dies.
  await delay(200);
  onDoomed.got.length = 0;
  onOther.got.length = 0;
  return { gateway, doomed, other, publisher, onDoomed, onOther, watcher };
}

test.for([1, 2] as const)(
  'what is published with QoS %i when a replica was killed goes to members elsewhere, and to others once',
  async (qos) => {
    const { gateway, doomed, other, publisher, onOther, watcher } = await startShare();
    const beside = await connectMqttJs(onTestFinished, other.mqttPort, watcher, { clientId: 'beside' });
    const stored = await connectMqttJs(onTestFinished, gateway.server.mqttPort, watcher, {
      clientId: 'stored',
      properties: { sessionExpiryInterval: 600 },
    });
    for (const client of [beside, stored]) await client.subscribeAsync('jobs/#', { qos: 2 });
    await doomed.end('SIGKILL');
    const jobs = numbers('job', 40);
    await publishAll(publisher, jobs, qos);
    await publisher.publishAsync('jobs/z', 'the end', { qos });
    await until('the end has come', () =>
      [onOther, beside, stored].every((client) => jobsOf(client).includes('the end')),
    );
    for (const client of [onOther, beside, stored]) expect(jobsOf(client)).toEqual([...jobs, 'the end']);
  },
);

test('a member that has connected beside the publisher meanwhile takes it, and nobody waits where there is none', async () => {
  const { gateway, doomed, other, publisher, watcher } = await startShare();
  await other.end('SIGKILL');
  doomed.signal('SIGSTOP');
  onTestFinished(() => doomed.signal('SIGCONT'));
  const publishing = publishAll(publisher, numbers('job', 20));
  await delay(500);
  const here = await connectMqttJs(onTestFinished, gateway.server.mqttPort, watcher);
  await here.subscribeAsync(subscribed, { qos: 1 });
  await publishing;
  expect(jobsOf(here)).toEqual(numbers('job', 20));
  await here.unsubscribeAsync(subscribed);
  const beganAtMs = performance.now();
  await publishAll(publisher, numbers('to nobody', 20));
  expect(performance.now() - beganAtMs).toBeLessThan(2_000);
});

test('what a replica that stands still was to take goes to another member in time, and it goes on as before', async () => {
  const { doomed, publisher, onDoomed, onOther } = await startShare();
  doomed.signal('SIGSTOP');
  onTestFinished(() => doomed.signal('SIGCONT'));
  await publishAll(publisher, numbers('job', 20));
  await until('the other member has them', () => onOther.got.length === 20);
  expect(jobsOf(onOther)).toEqual(numbers('job', 20));
  // It is known to be absent by now.
  const beganAtMs = performance.now();
  await publishAll(publisher, numbers('next', 20));
  expect(performance.now() - beganAtMs).toBeLessThan(2_000);
  doomed.signal('SIGCONT');
  await until('it takes its part again', async () => {
    await publishAll(publisher, ['more']);
    return jobsOf(onDoomed).includes('more');
  });
});

test('nothing of a share is lost while NATS is away, nor doubled with QoS 2', async () => {
  const { gateway, publisher, onDoomed, onOther } = await startShare();
  const publishing: Promise<unknown>[] = [];
  for (let number = 0; number < 300; number += 1) {
    publishing.push(publisher.publishAsync('jobs/a', `job ${number}`, { qos: 2 }));
    if (number === 100 || number === 200) {
      await publishing[number - 50];
      await gateway.nats.kill();
      await gateway.nats.restart();
    }
  }
  await Promise.all(publishing);
  const all = () => [...jobsOf(onDoomed), ...jobsOf(onOther)].toSorted();
  await until('all have come', () => all().length >= 300);
  await delay(500);
  expect(all()).toEqual(numbers('job', 300));
});

test('nothing is lost when a replica ends in an orderly way while messages are published', async () => {
  const { doomed, publisher, onDoomed, onOther } = await startShare();
  const waiting = numbers('job', 3_000);
  let acknowledged = 0;
  async function publishOn(): Promise<void> {
    for (let job = waiting.pop(); job !== undefined; job = waiting.pop()) {
      await publisher.publishAsync('jobs/a', job, { qos: 1 });
      acknowledged += 1;
    }
  }
  const publishing = Array.from({ length: 50 }, publishOn);
  await until('it is under way', () => acknowledged > 500);
  await doomed.end('SIGTERM');
  expect(acknowledged).toBeLessThan(3_000);
  await Promise.all(publishing);
  // With QoS 1 one may have come twice.
  const all = () => [...new Set([...jobsOf(onDoomed), ...jobsOf(onOther)])].toSorted();
  await until('all have come', () => all().length === 3_000);
  expect(all()).toEqual(numbers('job', 3_000));
});

test('a replica of a version that knows no question is not asked, and takes its part', async () => {
  const gateway = await startGateway(onTestFinished, { env });
  const [sender] = (await addDevices(gateway.server.httpPort, 1)) as [Credentials];
  const publisher = await connectMqttJs(onTestFinished, gateway.server.mqttPort, sender);
  const old = await connect({ servers: gateway.nats.url });
  onTestFinished(() => old.close());
  const asked: string[] = [];
  old.subscribe('svc-mqtt.taker.>', { callback: (_error, { subject }) => void asked.push(subject) });
  const taken: string[] = [];
  old.subscribe('svc-mqtt.message.>', {
    callback: (_error, message) =>
      void taken.push(decodeURIComponent(message.headers?.get('Mqtt-Shares') ?? '')),
  });
  const said = { replica: '0123456789abcdef', prefixes: [], shares: ['w/jobs/#'], asks: true };
  const told = old.subscribe('svc-mqtt.interest', { max: 2 });
  old.publish('svc-mqtt.interest', JSON.stringify(said));
  // Its own, and the answer.
  for await (const _ of told);
  await publishAll(publisher, numbers('job', 20));
  // What is acknowledged is stored; this connection hears of it a moment later.
  await expect.poll(() => taken.length).toBe(20);
  expect(taken).toEqual(Array.from({ length: 20 }, () => '[["w/jobs/#","0123456789abcdef"]]'));
  expect(asked).toEqual([]);
});
