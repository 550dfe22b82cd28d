import { setTimeout as delay } from 'node:timers/promises';
import {
  addDevice,
  addDevices,
  connected,
  mebibyte,
  type OnFinished,
  publishAndWait,
  startGateway,
  until,
} from '../faults/gateway.js';
import { type Credentials, readStored } from '../support/load.js';
import { createDatabase, startPostgres } from '../support/postgres.js';
import { openRawClient, pubrelPacket, type ReceivedPacket } from '../support/raw-client.js';
import { drawScripts, type Script, writeStream } from './broken-streams.js';
import type { Bench, Proof } from './proof.js';
import { purge } from './stream.js';
import { judge, type Told } from './verdict.js';

const clients = 300;
const atOnce = 20;
const devices = 10;
const answerWithinMs = 60_000;
/** A broken stream that is not ended by the gateway is given up: it may only wait for more. */
const giveUpMs = 100;
const mostGrowthBytes = 256 * mebibyte;
/** Packet types. */
const [connack, puback, pubrec] = [2, 4, 5];

export const fuzzProof: Proof = {
  name: 'fuzz',
  claim: 'Whatever a client of any version sends, others are served, and what was acknowledged is stored',
  faults: 'streams',
  rounds: 100,
  withinMs: 10 * 60_000,
  findObstacle: async () => undefined,
  open,
};

async function open(onFinished: OnFinished): Promise<Bench> {
  const postgres = await startPostgres();
  onFinished(() => postgres.stop());
  const { nats, server } = await startGateway(onFinished, {
    databaseUrl: await createDatabase(postgres.url),
  });
  const senders = await addDevices(server.httpPort, devices);
  const bystander = await addDevice(server.httpPort);
  const before = server.residentBytes();
  let rounds = 0;

  return {
    versions: { 'nats-server': nats.version },
    async run(random) {
      await purge(nats.url);
      rounds += 1;
      const client = await connected(onFinished, server.mqttPort, bystander);
      const told: Told[] = [];
      const problems: string[] = [];
      const scripts = drawScripts(random.seed, clients);
      let next = 0;
      await Promise.all(
        Array.from({ length: atOnce }, async () => {
          while (next < scripts.length) {
            const index = next;
            next += 1;
            const sender = senders[index % senders.length] as Credentials;
            const outcome = await play(
              scripts[index] as Script,
              server.mqttPort,
              sender,
              `${rounds}-${index}`,
            );
            told.push(...outcome.told);
            problems.push(...outcome.problems);
          }
        }),
      );
      // Somebody who does all right has noticed nothing.
      await publishAndWait(client, bystander, 'still here');
      client.destroy();
      await until(
        'no connection is left',
        async () => (await readConnections(server.httpPort)) === 0,
        30_000,
      );
      const growth = server.residentBytes() - before;
      if (growth > mostGrowthBytes) problems.push(`the gateway grew by ${Math.round(growth / mebibyte)} MiB`);
      for (const line of server.log.filter(({ level }) => (level as number) >= 50))
        problems.push(`logged: ${String(line.event)} ${String(line.msg)}`);
      const verdict = judge(told, await readStored(nats.url));
      return {
        done: scripts.map(
          ({ version, tail, strange }) => `MQTT ${version}, ${strange ? 'CONNECT' : tail.type}`,
        ),
        verdict,
        problems,
        figures: { 'growth of the gateway, MiB': growth / mebibyte },
      };
    },
  };
}

/** Sends one script. Answers what its client was told, for each quality of service. */
async function play(
  script: Script,
  port: number,
  device: Credentials,
  name: string,
): Promise<{ told: Told[]; problems: string[] }> {
  const clientIdOf = (qos: 1 | 2) => `${name}-${qos}`;
  const stream = writeStream(script, {
    deviceId: device.id,
    password: device.password,
    clientId: name,
    payload: (number, qos) => `${clientIdOf(qos)} ${number}`,
  });
  const acknowledged = { 1: new Set<number>(), 2: new Set<number>() };
  const problems: string[] = [];
  const told = () =>
    ([1, 2] as const).map((qos) => ({
      clientId: clientIdOf(qos),
      deviceId: device.id,
      qos,
      acknowledged: acknowledged[qos],
    }));
  // Wrong logins are counted by address: those of the strange do not lock out the others.
  const client = await openRawClient(port, script.strange ? '127.0.0.2' : '127.0.0.1');
  try {
    for (const chunk of stream.chunks) {
      client.send(chunk);
      await delay(0);
    }
    const whole = script.tail.type === 'none' && !script.strange;
    let read = 0;
    let answer: number | undefined;
    const readAll = (): void => {
      for (; read < client.received.length; read += 1) {
        const { type, body } = client.received[read] as ReceivedPacket;
        if (type === connack) answer = body[1];
        if ((type !== puback && type !== pubrec) || (body[2] ?? 0) >= 0x80) continue;
        const packetId = body.readUInt16BE(0);
        const sent = stream.numbers.get(packetId);
        if (sent === undefined) continue;
        acknowledged[sent.qos].add(sent.number);
        if (type === pubrec) client.send(pubrelPacket(packetId));
      }
    };
    const isAnswered = (): boolean => {
      readAll();
      return answer === 0 && acknowledged[1].size + acknowledged[2].size === stream.numbers.size;
    };
    const isOver = (): boolean => client.closed || (whole && isAnswered());
    const endMs = performance.now() + (whole && !script.hasty ? answerWithinMs : giveUpMs);
    while (!isOver() && performance.now() < endMs) await delay(5);
    const isComplete = isAnswered();
    if (!isComplete && whole && !script.hasty)
      problems.push(
        answer === 0
          ? `${name}: a right stream of MQTT ${script.version}, and not all of it is acknowledged`
          : `${name}: MQTT ${script.version} is not let in, CONNACK ${answer ?? 'missing'}`,
      );
  } catch (error) {
    problems.push(`${name}: ${String(error)}`);
  } finally {
    client.destroy();
  }
  return { told: told(), problems };
}

async function readConnections(httpPort: number): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
  return [...text.matchAll(/^svc_mqtt_connections(?:\{[^}]*\})? (\d+)/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  );
}
