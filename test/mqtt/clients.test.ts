import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';

const burst = 10_000;
const largeBytes = 256 * 1_024;
let controlled: ControlledBroker;
let clients: MqttClient[];
let children: ChildProcess[];

beforeEach(async () => {
  clients = [];
  children = [];
  controlled = await openControlledBroker({
    acl: 'open',
    maxOutgoingBytes: 16 * 1_048_576,
    maxQueuedMessages: 2 * burst,
  });
});

afterEach(async () => {
  for (const child of children) if (child.exitCode === null) child.kill('SIGKILL');
  await Promise.all(clients.map((client) => client.endAsync(true)));
  await vi.waitFor(() => expect(controlled.broker.connectionCount()).toBe(0));
  await controlled.close();
});

const payloadsOf = (from = 0): string[] =>
  controlled.taken.slice(from).map(({ payload }) => Buffer.from(payload).toString());
const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe.each([
  ['3.1.1', { protocolVersion: 4, protocolId: 'MQTT' }],
  ['3.1', { protocolVersion: 3, protocolId: 'MQIsdp' }],
] as const)('MQTT.js, MQTT %s', (_name, version) => {
  async function connected(options: IClientOptions = {}): Promise<MqttClient> {
    const { id, password } = controlled.device;
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${controlled.port}`, {
      ...version,
      username: id,
      password,
      reconnectPeriod: 0,
      ...options,
    });
    clients.push(client);
    return client;
  }

  /** The messages that a client gets, as they come. */
  function collect(client: MqttClient): { topic: string; payload: Buffer; qos: number; retain: boolean }[] {
    const messages: { topic: string; payload: Buffer; qos: number; retain: boolean }[] = [];
    client.on('message', (topic, payload, { qos, retain }) => {
      messages.push({ topic, payload: Buffer.from(payload), qos, retain });
    });
    return messages;
  }

  it('publishes with QoS 0, 1 and 2 and gets what it subscribed to', async () => {
    const client = await connected();
    const messages = collect(client);
    expect(await client.subscribeAsync('js/#', { qos: 2 })).toMatchObject([{ topic: 'js/#', qos: 2 }]);
    for (const qos of [0, 1, 2] as const) await client.publishAsync(`js/${qos}`, `payload ${qos}`, { qos });
    await vi.waitFor(() => expect(messages).toHaveLength(3));
    expect(messages.map(({ topic, payload, qos }) => [topic, payload.toString(), qos])).toEqual(
      [0, 1, 2].map((qos) => [`js/${qos}`, `payload ${qos}`, qos]),
    );
    expect(payloadsOf()).toEqual(['payload 0', 'payload 1', 'payload 2']);
    await client.unsubscribeAsync('js/#');
    await client.publishAsync('js/1', 'unheard', { qos: 1 });
    await client.endAsync();
    expect(messages).toHaveLength(3);
  });

  it('keeps a persistent session', async () => {
    const session = { clientId: 'js-session', clean: false };
    const first = await connected(session);
    await first.subscribeAsync('kept', { qos: 1 });
    await first.endAsync();
    const publisher = await connected();
    for (let index = 0; index < 50; index++) await publisher.publishAsync('kept', String(index), { qos: 1 });
    const { id, password } = controlled.device;
    const again = mqtt.connect(`mqtt://127.0.0.1:${controlled.port}`, {
      ...version,
      ...session,
      username: id,
      password,
      reconnectPeriod: 0,
    });
    clients.push(again);
    const messages = collect(again);
    const present = await new Promise((resolve) =>
      again.once('connect', (packet) => resolve(packet.sessionPresent)),
    );
    // MQTT 3.1 has no such flag.
    expect(present).toBe(version.protocolVersion === 4);
    await vi.waitFor(() => expect(messages).toHaveLength(50));
    expect(messages.map(({ payload }) => payload.toString())).toEqual(
      Array.from({ length: 50 }, (_, i) => String(i)),
    );
  });

  it('leaves a will, and none after an end', async () => {
    const watcher = await connected();
    const messages = collect(watcher);
    await watcher.subscribeAsync('will/#', { qos: 1 });
    const will = (name: string) => ({
      topic: `will/${name}`,
      payload: Buffer.from('gone'),
      qos: 1 as const,
      retain: false,
    });
    await (await connected({ will: will('polite') })).endAsync();
    (await connected({ will: will('lost') })).stream.destroy();
    await vi.waitFor(() => expect(messages).toHaveLength(1));
    expect(messages[0]).toMatchObject({ topic: 'will/lost', qos: 1 });
  });

  it('is told of a wrong password with code 4', async () => {
    const { port, device } = controlled;
    const refused = mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, {
      ...version,
      username: device.id,
      password: 'wrong',
      reconnectPeriod: 0,
    });
    await expect(refused).rejects.toMatchObject({ code: 4 });
  });

  it('gets retained messages, until they are cleared', async () => {
    const publisher = await connected();
    await publisher.publishAsync('kept/a', 'one', { qos: 1, retain: true });
    const subscriber = await connected();
    const messages = collect(subscriber);
    await subscriber.subscribeAsync('kept/+', { qos: 1 });
    await vi.waitFor(() => expect(messages).toMatchObject([{ topic: 'kept/a', retain: true }]));
    await publisher.publishAsync('kept/a', '', { qos: 1, retain: true });
    await vi.waitFor(() => expect(messages).toHaveLength(2));
    const late = await connected();
    const none = collect(late);
    await late.subscribeAsync(['kept/+', 'end'], { qos: 1 });
    await publisher.publishAsync('end', 'x', { qos: 1 });
    await vi.waitFor(() => expect(none).toHaveLength(1));
    expect(none[0]?.topic).toBe('end');
  });

  it('carries large payloads whole', async () => {
    const client = await connected();
    const messages = collect(client);
    await client.subscribeAsync('large', { qos: 2 });
    const payload = Buffer.alloc(largeBytes, 'large payload ');
    for (const qos of [0, 1, 2] as const) await client.publishAsync('large', payload, { qos });
    await vi.waitFor(() => expect(messages).toHaveLength(3));
    expect(messages.map((message) => digest(message.payload))).toEqual(Array(3).fill(digest(payload)));
    expect(controlled.taken.map((message) => digest(message.payload))).toEqual(
      Array(3).fill(digest(payload)),
    );
  });

  it.each([0, 1, 2] as const)(
    `a burst of ${burst} messages of QoS %i arrives whole and in order`,
    async (qos) => {
      const subscriber = await connected();
      const arrived: string[] = [];
      subscriber.on('message', (_topic, payload) => {
        arrived.push(payload.toString());
      });
      await subscriber.subscribeAsync('burst', { qos });
      const publisher = await connected();
      const sent: Promise<unknown>[] = [];
      // MQTT.js has a listener for each message that the socket has not taken, and room for 1,000.
      publisher.stream.setMaxListeners(2 * burst);
      for (let index = 0; index < burst; index++)
        sent.push(publisher.publishAsync('burst', String(index), { qos }));
      await Promise.all(sent);
      const expected = Array.from({ length: burst }, (_, index) => String(index));
      await vi.waitFor(() => expect(controlled.taken).toHaveLength(burst), { timeout: 120_000 });
      expect(payloadsOf()).toEqual(expected);
      await vi.waitFor(() => expect(arrived).toHaveLength(burst), { timeout: 120_000 });
      expect(arrived).toEqual(expected);
    },
  );
});

const mosquittoMissing = ['mosquitto_pub', 'mosquitto_sub'].filter(
  (name) => spawnSync(name, ['--help']).error !== undefined,
);
const inCi = process.env.CI === 'true';

it('mosquitto_pub and mosquitto_sub are installed', ({ skip }) => {
  if (!inCi) skip(mosquittoMissing.length > 0, `not installed: ${mosquittoMissing.join(', ')}`);
  expect(mosquittoMissing).toEqual([]);
});

describe.skipIf(mosquittoMissing.length > 0 && !inCi)('the clients of mosquitto', () => {
  interface Finished {
    readonly code: number | null;
    readonly stdout: string;
    readonly stderr: string;
  }

  function start(
    program: string,
    args: string[],
    input = '',
  ): { child: ChildProcess; finished: Promise<Finished> } {
    const child = spawn(program, args, { stdio: 'pipe' });
    children.push(child);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString('latin1');
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.stdin.end(input);
    const finished = new Promise<Finished>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => resolve({ code, stdout, stderr }));
    });
    return { child, finished };
  }

  const login = (password = controlled.device.password): string[] => [
    ...['-h', '127.0.0.1', '-p', String(controlled.port)],
    ...['-u', controlled.device.id, '-P', password],
  ];
  const pub = (args: string[], input?: string): Promise<Finished> =>
    start('mosquitto_pub', [...login(), ...args], input).finished;

  /**
   * Starts mosquitto_sub for this many messages and waits until it has subscribed: it gets a retained message of the
   * last filter of its SUBSCRIBE first.
   */
  async function sub(args: string[], count: number): Promise<{ finished: Promise<Finished> }> {
    await pub(['-r', '-q', '1', '-t', 'subscribed', '-m', 'yes']);
    controlled.taken.length = 0;
    const limits = ['-t', 'subscribed', '-C', String(count + 1), '-W', '120'];
    const { child, finished } = start('mosquitto_sub', [
      ...login(),
      '-F',
      '>%t|%q|%r|%p',
      ...args,
      ...limits,
    ]);
    await new Promise<void>((resolve, reject) => {
      child.stdout?.once('data', () => resolve());
      void finished.then(({ stderr }) => reject(new Error(`mosquitto_sub ended: ${stderr}`)), reject);
    });
    return { finished };
  }
  const messagesOf = ({ stdout }: Finished): string[] =>
    stdout
      .split('\n')
      .filter((line) => line.startsWith('>') && !line.startsWith('>subscribed|'))
      .map((line) => line.slice(1));

  it.each(['mqttv31', 'mqttv311'])('publish and subscribe with QoS 0, 1 and 2, %s', async (version) => {
    const subscriber = await sub(['-V', version, '-q', '2', '-t', 'm/#'], 3);
    for (const qos of ['0', '1', '2']) {
      const { code, stderr } = await pub(['-V', version, '-q', qos, '-t', `m/${qos}`, '-m', `hello ${qos}`]);
      expect([code, stderr]).toEqual([0, '']);
    }
    const finished = await subscriber.finished;
    expect(finished.code).toBe(0);
    expect(messagesOf(finished)).toEqual(['m/0|0|0|hello 0', 'm/1|1|0|hello 1', 'm/2|2|0|hello 2']);
    expect(payloadsOf()).toEqual(['hello 0', 'hello 1', 'hello 2']);
  });

  it('are told of a wrong password', async () => {
    const args = (password: string): string[] => [...login(password), '-t', 'a', '-m', 'x', '-q', '1'];
    const wrong = await start('mosquitto_pub', args('wrong')).finished;
    expect(wrong.code).not.toBe(0);
    expect(wrong.stderr).toMatch(/bad user name or password/i);
    controlled.revoke('dev1');
    const revoked = await start('mosquitto_pub', args(controlled.device.password)).finished;
    expect(revoked.code).not.toBe(0);
    expect(revoked.stderr).toMatch(/not authori[sz]ed/i);
    expect(controlled.taken).toHaveLength(0);
  });

  it('keep a persistent session', async () => {
    const session = ['-c', '-i', 'mosquitto-session', '-q', '1', '-t', 'kept'];
    const first = await start('mosquitto_sub', [...login(), ...session, '-E']).finished;
    expect(first.code).toBe(0);
    for (const text of ['one', 'two']) await pub(['-q', '1', '-t', 'kept', '-m', text]);
    const again = await start('mosquitto_sub', [...login(), ...session, '-C', '2', '-W', '120']).finished;
    expect([again.code, again.stdout]).toEqual([0, 'one\ntwo\n']);
  });

  it('leave a will when they are killed', async () => {
    const watcher = await sub(['-t', 'will', '-q', '1'], 1);
    const { accepted } = controlled.broker.counters;
    const dying = start('mosquitto_sub', [
      ...login(),
      ...['-d', '-t', 'x', '--will-topic', 'will', '--will-payload', 'killed', '--will-qos', '1'],
    ]);
    await vi.waitFor(() => expect(controlled.broker.counters.accepted).toBe(accepted + 1));
    dying.child.kill('SIGKILL');
    expect(messagesOf(await watcher.finished)).toEqual(['will|1|0|killed']);
  });

  it('get retained messages', async () => {
    await pub(['-r', '-q', '1', '-t', 'retained', '-m', 'stays']);
    const { stdout } = await start('mosquitto_sub', [
      ...login(),
      '-t',
      'retained',
      '-C',
      '1',
      '-W',
      '10',
      '-F',
      '%r %p',
    ]).finished;
    expect(stdout).toBe('1 stays\n');
    await pub(['-r', '-q', '1', '-t', 'retained', '-n']);
    const none = await start('mosquitto_sub', [...login(), '-t', 'retained', '-C', '1', '-W', '1']).finished;
    expect([none.code, none.stdout]).toEqual([27, '']);
  });

  it('carry large payloads', async () => {
    const text = 'x'.repeat(largeBytes);
    const subscriber = await sub(['-t', 'large', '-q', '2'], 1);
    expect((await pub(['-q', '2', '-t', 'large', '-s'], text)).code).toBe(0);
    expect(digest(controlled.taken[0]?.payload ?? Buffer.alloc(0))).toBe(digest(Buffer.from(text)));
    expect(messagesOf(await subscriber.finished)).toEqual([`large|2|0|${text}`]);
  });

  it(`a burst of ${burst} lines arrives whole and in order`, async () => {
    const lines = Array.from({ length: burst }, (_, index) => String(index));
    const subscriber = await sub(['-t', 'burst', '-q', '1'], burst);
    expect((await pub(['-q', '1', '-t', 'burst', '-l'], `${lines.join('\n')}\n`)).code).toBe(0);
    expect(payloadsOf()).toEqual(lines);
    expect(messagesOf(await subscriber.finished)).toEqual(lines.map((line) => `burst|1|0|${line}`));
  });
});
