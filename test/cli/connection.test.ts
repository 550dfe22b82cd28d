import { connectAsync, type MqttClient } from 'mqtt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import type { SvcMqttError } from '../../src/errors.js';
import { type Gateway, openDatabase, startGateway } from '../faults/gateway.js';
import { freePort } from '../support/free-port.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { fakeIo, fakeTerminal, jsonLines, until } from './support.js';

/** The commands against a server with real clients. */

const later = undoAfterAll();
const clients = new Map<string, MqttClient>();
let gateway: Gateway;
let env: Record<string, string>;

beforeAll(async () => {
  gateway = await startGateway(later, { env: { API_TOKEN: 'token-of-the-test-run' } });
  env = { LISTEN_ADDR: `127.0.0.1:${gateway.server.httpPort}`, API_TOKEN: 'token-of-the-test-run' };
  for (const name of ['pump-1', 'pump-2', '倉庫-03', 'evil\u001b[31mid']) await connect(name);
});
afterAll(async () => {
  for (const client of clients.values()) await client.endAsync(true);
});

async function connect(clientId: string): Promise<void> {
  const response = await fetch(`http://${env.LISTEN_ADDR}/devices`, {
    method: 'POST',
    headers: { authorization: `Bearer ${env.API_TOKEN}` },
    body: JSON.stringify({ type: 'sensor', id: `device-${clients.size}` }),
  });
  const { id, mqtt_password: password } = (await response.json()) as { id: string; mqtt_password: string };
  const client = await connectAsync(`mqtt://127.0.0.1:${gateway.server.mqttPort}`, {
    username: id,
    password,
    clientId,
    reconnectPeriod: 0,
  });
  await client.subscribeAsync(`cmd/${id}/#`, { qos: 1 });
  await client.publishAsync(`raw/${id}`, 'x', { qos: 1 });
  clients.set(clientId, client);
}

async function run(args: readonly string[], more: Record<string, string> = {}) {
  return await runWhole(['connection', ...args], { ...env, ...more });
}

async function runWhole(args: readonly string[], env: Record<string, string>, columns?: number) {
  const io = fakeIo({ env });
  if (columns !== undefined) Object.assign(io.stdout, { isTTY: true, columns });
  const outcome = await runProgram(args, io).catch((error: SvcMqttError) => error);
  return { outcome, out: io.out(), err: io.err(), lines: () => jsonLines(io.out()) };
}

const idOf = async (client: string) =>
  String((await run(['list', '--filter', client, '--json'])).lines()[0]?.id);

describe('connections', () => {
  test('are listed, sorted, filtered and limited', async () => {
    const all = await run(['list']);
    expect(all).toMatchObject({ outcome: 0, err: '' });
    expect(all.out).not.toContain('\u001b');
    const lines = all.out.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^ID\tDEVICE\tTYPE\tCLIENT ID\tADDRESS\t/);
    expect(lines.slice(1).map((line) => /device-\d/.exec(line)?.[0])).toEqual([
      'device-0',
      'device-1',
      'device-2',
      'device-3',
    ]);
    const reversed = await run(['list', '--sort', 'client', '--reverse', '--limit', '2', '--json']);
    expect(reversed.lines()).toMatchObject([{ client: '倉庫-03' }, { client: 'pump-2' }]);
    expect(reversed.err).toBe('4 connections match; --limit shows more of them.\n');
    const filtered = await run(['list', '--filter', 'pump-2', '--json']);
    expect(filtered.lines()).toMatchObject([{ device: 'device-1', type: 'sensor', subscriptions: 1 }]);
    expect(await run(['list', '--filter', 'nobody'])).toEqual(
      expect.objectContaining({ outcome: 0, out: '', err: 'No connection matches “nobody”.\n' }),
    );
    const byRate = await run(['list', '--sort', 'rate', '--json']);
    for (const line of byRate.lines()) expect(line.rate).toEqual(expect.any(Number));
  });

  test('are shown with their subscriptions and last topics', async () => {
    const id = await idOf('pump-1');
    const shown = await run(['show', id], { LISTEN_ADDR: ':0' });
    expect(shown.outcome).toMatchObject({ code: 'USAGE' });
    const { out } = await run(['show', id, '--url', env.LISTEN_ADDR ?? ''], { LISTEN_ADDR: ':0' });
    expect(out).toMatch(/^client id {6}pump-1$/m);
    expect(out).toMatch(/^messages in {4}1 \(QoS 0\/1\/2: 0\/1\/0\)$/m);
    expect(out).toMatch(/^subscriptions {2}cmd\/device-0\/# {2}QoS 1$/m);
    expect(out).toMatch(/^last topics {4}raw\/device-0$/m);
    expect(out).not.toMatch(/^takes/m);
    expect((await run(['show', id, '--json'])).lines()).toMatchObject([{ id, device: 'device-0' }]);
    expect((await run(['show', 'none'])).outcome).toMatchObject({ code: 'CONNECTION_NOT_FOUND' });
  });

  test('are ended, and what is not there is named at the end', async () => {
    const id = await idOf('pump-2');
    const closed = new Promise<void>((resolve) => clients.get('pump-2')?.once('close', resolve));
    const kicked = await run(['kick', 'no\u001bne', id, '--yes', '--json']);
    await closed;
    expect(kicked.outcome).toMatchObject({
      code: 'CONNECTION_NOT_FOUND',
      message: 'There is no connection no\\u001bne',
    });
    expect(kicked.lines()).toEqual([
      { id: 'no\u001bne', outcome: 'unknown' },
      { id, outcome: 'kicked' },
    ]);
    expect(await run(['kick', await idOf('pump-1'), '--yes'])).toMatchObject({
      outcome: 0,
      out: expect.stringMatching(/^\S+ kicked\n$/),
    });
  });

  test.each([
    [{ API_TOKEN: '' }, 'UNAUTHENTICATED'],
    [{ API_TOKEN: 'not-the-token-at-all' }, 'UNAUTHENTICATED'],
    [{ LISTEN_ADDR: '127.0.0.1:1' }, 'API_UNREACHABLE'],
  ])('are not shown with %j', async (more, code) => {
    for (const args of [['list'], ['show', 'a'], ['kick', 'a', '--yes']])
      expect((await run(args, more)).outcome).toMatchObject({ code });
  });

  test('fit a terminal, a line each', async () => {
    for (const columns of [80, 200]) {
      const { out } = await runWhole(['connection', 'ls'], env, columns);
      const lines = out.trimEnd().split('\n');
      expect(lines).toHaveLength(1 + clientsConnected());
      for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
      expect(out).toMatch(/ \d+s\n/);
      expect(lines[0]?.includes('ADDRESS')).toBe(columns === 200);
    }
  });
});

const clientsConnected = () => [...clients.values()].filter(({ connected }) => connected).length;

describe('devices', () => {
  const database = () => ({ ...env, DATABASE_URL: gateway.databaseUrl });

  test('are listed in a terminal with who is connected', async () => {
    const { out, err } = await runWhole(['device', 'ls'], database(), 80);
    expect(err).toBe('');
    const [header, ...lines] = out.trimEnd().split('\n');
    expect(header).toMatch(/^ID +TYPE +STATE +ONLINE +LAST SEEN +CREATED +EXPIRES/);
    expect(lines[3]).toMatch(/^device-3 +sensor +active +yes +\d+s ago +\d+s ago +-/);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(80);
    const gone = lines.filter((line) => / active +- /.test(line));
    expect(gone).toHaveLength(4 - clientsConnected());
  });

  test('are listed without it, which is said, where the API cannot be asked or serves others', async () => {
    const silent = { ...database(), LISTEN_ADDR: `127.0.0.1:${await freePort()}` };
    const unknown = await runWhole(['device', 'list'], silent, 80);
    expect(unknown.out).not.toContain('ONLINE');
    expect(unknown.err).toBe(
      `Which devices are connected is not known: http://${silent.LISTEN_ADDR} does not answer: the connection is refused.\n`,
    );
    const other = { ...database(), DATABASE_URL: await openDatabase(later) };
    await runWhole(['device', 'add', '--type', 'sensor', '--id', 'device-3'], other);
    const foreign = await runWhole(['device', 'list'], other, 80);
    expect(foreign.out).not.toContain('ONLINE');
    expect(foreign.err).toMatch(/serves another database than this command uses\.\n$/);
    expect((await runWhole(['device', 'list'], silent)).err).toBe('');
  });

  test('are shown with their connections', async () => {
    const { out } = await runWhole(['device', 'show', 'device-3'], database());
    expect(out).toMatch(/^connected {8}since 20\S+ \S+Z, client \S+ from \S+ by tcp, connection \S+$/m);
    const json = async (id: string, more = {}) =>
      (await runWhole(['device', 'show', id, '--json'], { ...database(), ...more })).lines()[0]?.online;
    expect(await json('device-3')).toBe(true);
    await runWhole(['device', 'add', '--type', 'sensor', '--id', 'absent'], database());
    expect(await json('absent')).toBe(false);
    expect(await json('device-3', { API_TOKEN: 'not-the-token-at-all' })).toBe(null);
    const absent = await runWhole(['device', 'show', 'absent'], database());
    expect(absent.out).toMatch(/^connected {8}no$/m);
  });

  test('are kicked by their id, after a question in a terminal', async () => {
    const none = await run(['kick', '--device', 'absent', '--yes']);
    expect(none.outcome).toMatchObject({ code: 'CONNECTION_NOT_FOUND' });
    for (const args of [[], ['--device', 'device-3', 'an-id']])
      expect((await run(['kick', ...args, '--yes'])).outcome).toMatchObject({ code: 'USAGE' });
    expect((await run(['kick', '--device', 'device-3'])).outcome).toMatchObject({
      code: 'USAGE',
      message: 'Kicking needs a yes, and there is no terminal to ask on',
    });
    expect(await answer('n')).toBe(1);
    const [client] = [...clients.values()].slice(-1);
    expect(client?.connected).toBe(true);
    const closed = new Promise((resolve) => client?.once('close', () => resolve(undefined)));
    expect(await answer('y')).toBe(0);
    await closed;
  });

  async function answer(letter: string): Promise<unknown> {
    const [stdin, stderr] = [fakeTerminal(), fakeTerminal()];
    let asked = '';
    stderr.on('data', (chunk) => {
      asked += String(chunk);
    });
    const args = ['connection', 'kick', '--device', 'device-3'];
    const outcome = runProgram(args, { ...fakeIo({ env }), stdin, stderr });
    await until('the question is asked', () => asked.includes('[y/N]'));
    expect(asked).toMatch(/Kick connection \S+ of device device-3\? Its client may come back at once\./);
    stdin.write(`${letter}\r`);
    return await outcome;
  }
});
