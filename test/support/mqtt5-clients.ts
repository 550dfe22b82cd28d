import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import mqtt from 'mqtt';
import type { OnFinished } from '../faults/gateway.js';
import type { Credentials } from './load.js';

/** What a client tells its user. */
export type Seen =
  /** The reason code of CONNACK. */
  | readonly ['connected', number]
  | readonly ['subscribed', number]
  /** QoS of a message, and the reason code with which its exchange ended. */
  | readonly ['answered', number, number]
  /** Topic, payload, content type and user properties. */
  | readonly ['command', string, string, string, readonly (readonly [string, string])[]]
  /** The reason code of the server's DISCONNECT. */
  | readonly ['ended', number];

/** A client library or program of MQTT 5. */
export interface ForeignClient {
  readonly name: string;
  /** What is not installed; undefined: all is there. */
  readonly missing: string | undefined;
  /**
   * Connects as a device, subscribes to its commands with QoS 1, publishes `hello` with QoS 0, 1 and 2 to
   * `raw/<device id>/<qos>` with content type `text/plain` and the user properties a=1, a=2, then with QoS 1 to a topic
   * that is refused. Stays until its connection ends.
   *
   * @returns what it sees, as it comes.
   */
  start(onFinished: OnFinished, port: number, device: Credentials, refusedTopic: string): Seen[];
}

const properties = { contentType: 'text/plain', userProperties: { a: ['1', '2'] } };
const here = path.dirname(fileURLToPath(import.meta.url));

const mqttJs: ForeignClient = {
  name: 'MQTT.js',
  missing: undefined,
  start(onFinished, port, { id, password }, refusedTopic) {
    const seen: Seen[] = [];
    const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, {
      protocolVersion: 5,
      username: id,
      password,
      reconnectPeriod: 0,
    });
    onFinished(() => client.endAsync(true));
    client.on('connect', ({ reasonCode }) => seen.push(['connected', reasonCode ?? -1]));
    client.on('disconnect', ({ reasonCode }) => seen.push(['ended', reasonCode ?? -1]));
    client.on('message', (topic, payload, { properties: of }) => {
      const user = Object.entries(of?.userProperties ?? {}).flatMap(([name, value]) =>
        [value].flat().map((each) => [name, each] as const),
      );
      seen.push(['command', topic, payload.toString(), of?.contentType ?? '', user]);
    });
    client.on('error', () => {});
    client.once('connect', async () => {
      const [granted] = await client.subscribeAsync(`cmd/${id}/#`, { qos: 1 });
      seen.push(['subscribed', granted?.qos ?? -1]);
      const publish = async (topic: string, qos: 0 | 1 | 2) => {
        const code = await client.publishAsync(topic, 'hello', { qos, properties }).then(
          () => 0,
          (error: { code: number }) => error.code,
        );
        if (qos > 0) seen.push(['answered', qos, code]);
      };
      for (const qos of [0, 1, 2] as const) await publish(`raw/${id}/${qos}`, qos);
      await publish(refusedTopic, 1);
    });
    return seen;
  },
};

/** Starts a program that ends with the test; answers each of its lines. */
function run(
  onFinished: OnFinished,
  program: string,
  args: readonly string[],
  onLine: (line: string) => void,
): ChildProcess {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  onFinished(() => {
    if (child.exitCode === null) child.kill('SIGKILL');
  });
  createInterface({ input: child.stdout }).on('line', onLine);
  return child;
}

const isThere = (program: string) => spawnSync(program, ['--help']).error === undefined;

const mosquitto: ForeignClient = {
  name: 'mosquitto_pub and mosquitto_sub -V 5',
  missing: isThere('mosquitto_pub') && isThere('mosquitto_sub') ? undefined : 'mosquitto-clients',
  start(onFinished, port, { id, password }, refusedTopic) {
    const seen: Seen[] = [];
    const login = ['-V', '5', '-h', '127.0.0.1', '-p', String(port), '-u', id, '-P', password, '-d'];
    const named = (args: string) => args.split(' ').flatMap((arg) => arg.split('~'));
    const publish = (topic: string, qos: number) =>
      new Promise((resolve) => {
        const listed = named(
          '-D publish content-type text/plain -D publish user-property a 1 -D publish user-property a 2',
        );
        const child = run(
          onFinished,
          'mosquitto_pub',
          [...login, '-q', String(qos), '-t', topic, '-m', 'hello', ...listed],
          (line) => {
            const answer = /received (?:PUBACK|PUBCOMP) \(Mid: \d+, RC:(\d+)\)/.exec(line);
            if (answer !== null) seen.push(['answered', qos, Number(answer[1])]);
          },
        );
        child.once('close', resolve);
      });
    const publishAll = async () => {
      for (const qos of [0, 1, 2]) await publish(`raw/${id}/${qos}`, qos);
      await publish(refusedTopic, 1);
    };
    const args = [...login, '-i', 'sub', '-q', '1', '-t', `cmd/${id}/#`, '-F', 'command|%t|%p|%C|%P'];
    // Line by line, though it writes into a pipe.
    run(onFinished, 'stdbuf', ['-oL', 'mosquitto_sub', ...args], (line) => {
      const [connack, suback, disconnect] = [
        /received CONNACK \((\d+)\)/.exec(line),
        /^Subscribed \(mid: \d+\): (\d+)/.exec(line),
        /Received DISCONNECT \((\d+)\)/.exec(line),
      ];
      if (connack !== null) seen.push(['connected', Number(connack[1])]);
      if (disconnect !== null) seen.push(['ended', Number(disconnect[1])]);
      if (suback !== null) {
        seen.push(['subscribed', Number(suback[1])]);
        void publishAll();
      }
      const [what, topic = '', payload = '', type = '', user = ''] = line.split('|');
      if (what !== 'command') return;
      const pairs = user.split(' ').map((pair) => pair.split(':') as [string, string]);
      seen.push(['command', topic, payload, type, pairs]);
    });
    return seen;
  },
};

/** A program that prints what it sees. */
function telling(name: string, missing: string | undefined, command: readonly string[]): ForeignClient {
  return {
    name,
    missing,
    start(onFinished, port, { id, password }, refusedTopic) {
      const seen: Seen[] = [];
      const [program = '', ...args] = command;
      run(onFinished, program, [...args, String(port), id, password, refusedTopic], (line) =>
        seen.push(JSON.parse(line)),
      );
      return seen;
    },
  };
}

const python = process.env.TEST_PYTHON ?? 'python3';
const hasPahoPython =
  spawnSync(python, ['-c', 'from paho.mqtt.enums import CallbackAPIVersion']).status === 0;

/** Builds the client in C; answers the program, or what is missing. */
function buildPahoC(): { readonly program: string; readonly missing: string | undefined } {
  const directory = mkdtempSync(path.join(tmpdir(), 'paho-c-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const program = path.join(directory, 'paho-mqtt5');
  const source = path.join(here, 'paho-mqtt5.c');
  const { status, stderr } = spawnSync('cc', ['-O1', '-o', program, source, '-lpaho-mqtt3c']);
  const missing = status === 0 ? undefined : `a C compiler with libpaho-mqtt-dev: ${stderr ?? 'no cc'}`;
  return { program, missing };
}

const pahoC = buildPahoC();

/** Clients of four makers, in three languages and a program. */
export const foreignClients: readonly ForeignClient[] = [
  mqttJs,
  mosquitto,
  telling('Paho for Python, version 2', hasPahoPython ? undefined : 'paho-mqtt (Python)', [
    python,
    path.join(here, 'paho-mqtt5.py'),
  ]),
  telling('Paho for C', pahoC.missing, [pahoC.program]),
];
