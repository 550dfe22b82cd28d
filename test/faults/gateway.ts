import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../support/free-port.js';
import type { Credentials } from '../support/load.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { borrowPostgres, createDatabase, postgresTemplateVariable } from '../support/postgres.js';
import {
  connectPacket,
  openRawClient,
  pingreqPacket,
  publishPacket,
  type RawClient,
} from '../support/raw-client.js';
import { type LaunchOptions, type ServerProcess, startServerProcess } from '../support/server-process.js';

/** Registers what is to be undone when the test is over, whatever its outcome; undone in reverse order. */
export type OnFinished = (undo: () => Promise<void> | void) => void;

/** A server process with a PostgreSQL database and a nats-server of its own. */
export interface Gateway {
  readonly nats: TestNatsServer;
  readonly databaseUrl: string;
  readonly env: Record<string, string>;
  /** The server of now: `restart` replaces it. */
  readonly server: ServerProcess;
  /** Starts the server again, on the same ports, after it has ended. */
  restart(): Promise<void>;
}

/** Starts a server against a real PostgreSQL and a real nats-server. */
export async function startGateway(
  onFinished: OnFinished,
  options: {
    env?: Record<string, string>;
    /** Default: a database of its own, migrated. */
    databaseUrl?: string;
    nats?: Parameters<typeof startNatsServer>[0];
    launch?: LaunchOptions;
    /** Called with the URL of NATS before the server starts. */
    beforeServer?(natsUrl: string): Promise<void>;
  } = {},
): Promise<Gateway> {
  const nats = await startNatsServer(options.nats);
  onFinished(() => nats.stop());
  await options.beforeServer?.(nats.url);
  const databaseUrl = options.databaseUrl ?? (await openDatabase(onFinished));
  const env: Record<string, string> = {
    DATABASE_URL: databaseUrl,
    NATS_URL: nats.url,
    MQTT_PORT: String(await freePort()),
    LISTEN_ADDR: `127.0.0.1:${await freePort()}`,
    ...options.env,
  };
  let server = await startServerProcess(env, options.launch);
  onFinished(async () => {
    await server.end('SIGKILL');
  });
  return {
    nats,
    databaseUrl,
    env,
    get server() {
      return server;
    },
    async restart() {
      server = await startServerProcess(env, options.launch);
    },
  };
}

/** Starts another server on the database and the NATS of a gateway. */
export async function startReplica(
  onFinished: OnFinished,
  { env }: Gateway,
  more: Record<string, string> = {},
): Promise<ServerProcess> {
  const ports = { MQTT_PORT: String(await freePort()), LISTEN_ADDR: `127.0.0.1:${await freePort()}` };
  const server = await startServerProcess({ ...env, ...ports, ...more });
  onFinished(async () => {
    await server.end('SIGKILL');
  });
  return server;
}

/** A migrated database of the test's own on the PostgreSQL of the test run. */
export async function openDatabase(onFinished: OnFinished): Promise<string> {
  const postgres = await borrowPostgres();
  onFinished(() => postgres.release());
  return createDatabase(postgres.url, process.env[postgresTemplateVariable]);
}

/** Adds a device through the API: again, as the API asks for it, while the database does not answer in time. */
export async function addDevice(httpPort: number): Promise<Credentials> {
  const add = () =>
    fetch(`http://127.0.0.1:${httpPort}/devices`, { method: 'POST', body: '{"type":"sensor"}' });
  let answer = await add();
  await until('the database answers', async () => {
    if (answer.status === 503) answer = await add();
    return answer.status !== 503;
  });
  if (answer.status !== 200) throw new Error(`POST /devices: ${answer.status} ${await answer.text()}`);
  const device = (await answer.json()) as { id: string; mqtt_password: string };
  return { id: device.id, password: device.mqtt_password };
}

export function addDevices(httpPort: number, count: number): Promise<Credentials[]> {
  return Promise.all(Array.from({ length: count }, () => addDevice(httpPort)));
}

/** Connects and answers what the CONNACK says, with the client. */
export async function connectDevice(
  port: number,
  device: Credentials,
  options: Parameters<typeof connectPacket>[0] = {},
): Promise<{ client: RawClient; code: number | undefined; sessionPresent: boolean }> {
  const client = await openRawClient(port);
  client.send(connectPacket({ userName: device.id, password: device.password, clientId: 'c', ...options }));
  const answer = await client.next();
  return { client, code: answer.body[1], sessionPresent: answer.body[0] === 1 };
}

/** Connects, requires CONNACK 0, and sees to it that the connection ends with the test. */
export async function connected(
  onFinished: OnFinished,
  port: number,
  device: Credentials,
  options: Parameters<typeof connectPacket>[0] = {},
): Promise<RawClient> {
  const { client, code } = await connectDevice(port, device, options);
  onFinished(() => client.destroy());
  if (code !== 0) throw new Error(`CONNACK ${code}`);
  return client;
}

/** The CONNACK's return code for a device; the connection is closed again. */
export async function tryConnect(port: number, device: Credentials): Promise<number | undefined> {
  const { client, code } = await connectDevice(port, device, { clientId: `try-${Math.random()}` });
  client.destroy();
  return code;
}

/** Publishes with QoS 1 to the device's own topic and waits for the PUBACK. */
export async function publishAndWait(
  client: RawClient,
  device: Credentials,
  payload: string,
  packetId = 1,
): Promise<void> {
  client.send(publishPacket({ topic: `raw/${device.id}`, payload, qos: 1, packetId }));
  const answer = await client.next();
  if (answer.type !== 4 || answer.body.readUInt16BE(0) !== packetId)
    throw new Error(`not the PUBACK of ${packetId}: packet type ${answer.type}`);
}

/** Requires that a message published now is taken and not acknowledged: the PINGREQ behind it is answered, it is not. */
export async function expectUnanswered(
  onFinished: OnFinished,
  port: number,
  device: Credentials,
): Promise<void> {
  const client = await connected(onFinished, port, device, { clientId: `probe-${Math.random()}` });
  client.send(publishPacket({ topic: `raw/${device.id}`, payload: 'probe', qos: 1, packetId: 1 }));
  // The second round trip gives an acknowledgement that waits for the end of a turn its chance.
  for (let ping = 0; ping < 2; ping += 1) {
    client.send(pingreqPacket);
    const { type } = await client.next();
    if (type !== 13) throw new Error(`packet type ${type} instead of PINGRESP`);
  }
  client.destroy();
}

/** Waits until a condition holds; fails, naming it, when it does not in time. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  withinMs = 120_000,
): Promise<void> {
  const endMs = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`waited ${withinMs} ms in vain until ${what}`);
    await delay(20);
  }
}

/** Whether a process exists and is no zombie. */
export async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => undefined);
  return stat !== undefined && !/^\d+ \(.*\) Z /s.test(stat);
}

export const mebibyte = 1_048_576;
