import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';
import { connectAsync, type MqttClient } from 'mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { killLeftovers, makeTempDir, runCli, startCli, until } from '../cli/support.js';
import { type Gateway, startGateway } from '../faults/gateway.js';
import { programFile } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';

/** The built program in a real terminal, tmux, and without one, against a server with real clients. */

const run = promisify(execFile);
const hasTmux = spawnSync('tmux', ['-V']).status === 0;

const later = undoAfterAll();
let gateway: Gateway;
let api = '';
let env: Record<string, string>;
const clients = new Map<string, MqttClient>();

beforeAll(async () => {
  gateway = await startGateway(later, { env: { API_TOKEN: 'token-of-the-test-run' } });
  api = `http://127.0.0.1:${gateway.server.httpPort}`;
  env = { LISTEN_ADDR: `127.0.0.1:${gateway.server.httpPort}`, API_TOKEN: 'token-of-the-test-run' };
  const names = Array.from({ length: 30 }, (_, index) => `sensor-${String(index).padStart(2, '0')}`);
  for (const name of [...names, '倉庫-温度-03', 'evil\u001b[31m\u0007id']) await connect(name);
});
afterEach(killLeftovers);
afterAll(async () => {
  for (const client of clients.values()) await client.endAsync(true);
});

async function connect(clientId: string): Promise<void> {
  const response = await fetch(`${api}/devices`, {
    method: 'POST',
    headers: { authorization: `Bearer ${env.API_TOKEN}` },
    body: '{"type":"sensor"}',
  });
  const { id, mqtt_password: password } = (await response.json()) as { id: string; mqtt_password: string };
  const client = await connectAsync(`mqtt://127.0.0.1:${gateway.server.mqttPort}`, {
    username: id,
    password,
    clientId,
    reconnectPeriod: 200,
  });
  clients.set(clientId, client);
}

interface Terminal {
  press(...keys: readonly string[]): Promise<void>;
  resize(columns: number, rows: number): Promise<void>;
  screen(): Promise<string>;
  shows(text: string | RegExp): Promise<string>;
  /** A variable of tmux, such as `cursor_flag`. */
  ask(variable: string): Promise<string>;
}

/** Runs the program in a terminal of its own, with a line before it and its exit status after it. */
async function openTerminal(
  columns: number,
  rows: number,
  more: Record<string, string> = {},
): Promise<Terminal> {
  const dir = makeTempDir();
  const socket = ['-S', `${dir.path}/tmux`];
  const tmux = async (...args: string[]) =>
    (await run('tmux', ['-u', ...socket, ...args], { env: { ...process.env, LC_ALL: 'C.UTF-8' } })).stdout;
  onTestFinished(async () => {
    await tmux('kill-server').catch(() => undefined);
    dir.remove();
  });
  const settings = Object.entries({ ...env, ...more }).map(([name, value]) => `${name}='${value}'`);
  // Ink takes a machine that builds for no terminal.
  const command = `echo BEFORE; env -u CI ${settings.join(' ')} '${process.execPath}' '${programFile}' top; echo "ENDED $?"; sleep 600`;
  await tmux('-f', '/dev/null', 'new-session', '-d', '-x', String(columns), '-y', String(rows), command);
  const screen = () => tmux('capture-pane', '-p');
  return {
    async press(...keys) {
      await tmux('send-keys', ...keys);
    },
    async resize(width, height) {
      await tmux('resize-window', '-x', String(width), '-y', String(height));
    },
    screen,
    async shows(text) {
      let seen = '';
      await until(`the screen shows ${text}`, async () => {
        seen = await screen();
        return typeof text === 'string' ? seen.includes(text) : text.test(seen);
      });
      return seen;
    },
    ask: async (variable) => (await tmux('display-message', '-p', `#{${variable}}`)).trim(),
  };
}

describe.skipIf(!hasTmux && process.env.CI === undefined)('in a terminal', () => {
  test('shows, filters, details, kicks and leaves the terminal as it was', async () => {
    const terminal = await openTerminal(140, 30);
    const first = await terminal.shows('1–18 of 32');
    expect(first).toMatch(/svc-mqtt \d+\.\d+\.\d+ +replica \w+ +up /);
    expect(first).toContain('CONNECTED');
    expect(first).not.toContain('BEFORE');
    expect(await terminal.ask('cursor_flag')).toBe('0');

    await terminal.press('/');
    await terminal.press('-l', '倉庫');
    await terminal.press('Enter');
    await terminal.shows(/倉庫-温度-03.*127\.0\.0\.1/);
    await terminal.shows('1–1 of 1 (32 in all)');
    await terminal.press('Escape');
    await terminal.shows('1–18 of 32');
    await terminal.press('/');
    await terminal.press('-l', 'evil');
    await terminal.shows('1–1 of 1 (32 in all)');
    await terminal.press('Enter');
    await terminal.press('Enter');
    await terminal.shows('LAST TOPICS');
    await terminal.shows('evil\\u001b[31m\\u0007id');
    const kicked = new Promise<void>((resolve) =>
      clients.get('evil\u001b[31m\u0007id')?.once('close', resolve),
    );
    await terminal.press('x');
    await terminal.shows(/Kick client /);
    await terminal.press('y');
    await kicked;
    await terminal.shows('This connection has ended');
    await terminal.press('Escape');
    await terminal.shows('filter evil');
    await terminal.press('Escape');
    await terminal.shows('of 32');

    await terminal.press('End');
    await terminal.shows('15–32 of 32');
    await terminal.resize(60, 12);
    const small = await terminal.shows(/DEVICE +CLIENT ID +MSG\/S▼ +LAST MSG/);
    expect(small).not.toContain('ADDRESS');
    expect(small.trimEnd().split('\n').length).toBeLessThanOrEqual(12);
    await terminal.press('?');
    await terminal.shows('KEYS');
    await terminal.press('q');
    await terminal.press('q');
    const last = await terminal.shows('ENDED 0');
    expect(last).toContain('BEFORE');
    expect(last).not.toContain('DEVICE');
    expect(await terminal.ask('cursor_flag')).toBe('1');
    expect(await terminal.ask('alternate_on')).toBe('0');
  });

  test('shows devices, sessions, replicas and events, each with its own keys', async () => {
    const [id] = [...clients.values()].map(({ options }) => String(options.username));
    const sleeper = await connectAsync(`mqtt://127.0.0.1:${gateway.server.mqttPort}`, {
      ...clients.get('sensor-00')?.options,
      clientId: 'sleeper',
      clean: false,
    });
    await sleeper.subscribeAsync(`cmd/${id}/#`, { qos: 1 });
    await sleeper.endAsync();
    const answer = await fetch(`${api}/devices/${id}/commands`, {
      method: 'POST',
      headers: { authorization: `Bearer ${env.API_TOKEN}` },
      body: '{"topic":"fan","payload":"1"}',
    });
    expect(answer.status).toBe(200);

    const terminal = await openTerminal(80, 24);
    await terminal.shows('1–12 of 32');
    await terminal.press('2');
    await terminal.shows(/DEVICE +TYPE +STATE +LAST SEEN +PENDING/);
    await terminal.press('/');
    await terminal.press('-l', String(id));
    await terminal.press('Enter');
    await terminal.shows(new RegExp(`${id} +sensor +active +\\S+ +1\\b`));
    await terminal.press('Enter');
    await terminal.shows(/sleeper +away \S+ +1 pending/);
    await terminal.press('3');
    await terminal.shows(/AWAY +PENDING[\s\S]*sleeper +away +\S+ +1\b/);
    await terminal.press('x');
    await terminal.shows(/End session sleeper of /);
    await terminal.press('y');
    await terminal.shows('There is no session that outlives its connection');
    await terminal.press('Tab');
    await terminal.shows(/answers +\S+ +32\b/);
    await terminal.press('Tab');
    await terminal.shows(/connected +\S+/);
    await terminal.press('1');
    await terminal.press('/');
    await terminal.press('-l', 'sensor-00');
    await terminal.press('Enter');
    await terminal.shows('1–1 of 1 (32 in all)');
    await terminal.press('p');
    await terminal.shows(`MESSAGES OF ${id}`);
    const passing = setInterval(
      () => clients.get('sensor-00')?.publish(`raw/${id}/t`, '{"celsius":21.5}'),
      200,
    );
    onTestFinished(() => clearInterval(passing));
    await terminal.shows(/raw\/.*16 B +\{"celsius":21\.5\}/);
    await terminal.press('Escape');
    await terminal.shows('1–1 of 1');
    await terminal.press('C-c');
    await terminal.shows('ENDED 0');
  });

  test('ends with the advice when the first answer is that the key is missing or wrong', async () => {
    for (const token of ['', 'not-the-token-at-all']) {
      const terminal = await openTerminal(200, 24, { API_TOKEN: token });
      const last = await terminal.shows('ENDED 1');
      const lines = last.trimEnd().split('\n');
      expect(lines).toEqual(['BEFORE', expect.stringMatching(/^svc-mqtt: .*API_KEY/), 'ENDED 1']);
      expect(await terminal.ask('alternate_on')).toBe('0');
      expect(await terminal.ask('cursor_flag')).toBe('1');
    }
  });

  test('says that the server is gone, keeps what it knows, and finds it again', async () => {
    const terminal = await openTerminal(100, 24, { NO_COLOR: '1' });
    await terminal.shows('sensor-');
    await gateway.server.end('SIGTERM');
    const gone = await terminal.shows(/does not answer.*trying again in \d s/);
    expect(gone).toContain('sensor-');
    await gateway.restart();
    await terminal.shows(/of 32/);
    await until('the clients are back', async () => !(await terminal.screen()).includes('trying again'));
    await terminal.press('C-c');
    await terminal.shows('ENDED 0');
    expect(await terminal.ask('alternate_on')).toBe('0');
  });
});

describe('without a terminal', () => {
  test('prints one plain snapshot', async () => {
    const { status, stdout, stderr } = await runCli(['top', '--sort', 'client', '--limit', '3'], env);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/DEVICE +TYPE +CLIENT ID▲ +ADDRESS/);
    const rows = stdout.split('\n').filter((line) => line.includes(' sensor '));
    expect(rows.map((line) => /evil\S+|sensor-\d\d/.exec(line)?.[0])).toEqual([
      'evil\\u001b[31m\\u0007id',
      'sensor-00',
      'sensor-01',
    ]);
    expect(stdout).toContain('and 29 more');
    expect(stdout).not.toContain('\u001b[');
  });

  test('prints one JSON object, or one a second', async () => {
    const once = await runCli(['top', '--json', '--once', '--filter', 'sensor-07'], env);
    expect(once.stdout.split('\n')).toHaveLength(2);
    expect(JSON.parse(once.stdout)).toMatchObject({
      total: 32,
      matching: 1,
      stats: { connections: { connected: 32 } },
      connections: [{ client: 'sensor-07', type: 'sensor', rate: 0 }],
    });
    const { child, output, ended } = startCli(['top', '--json', '--limit', '1'], env);
    await until('there are three lines', () => output.stdout.split('\n').length > 3);
    child.kill('SIGINT');
    expect((await ended).status).toBe(0);
    for (const line of output.stdout.trimEnd().split('\n'))
      expect(JSON.parse(line)).toMatchObject({ total: 32 });
  });

  test.each([
    [{ LISTEN_ADDR: '127.0.0.1:1' }, [], 1, 'http://127.0.0.1:1 does not answer'],
    [
      { LISTEN_ADDR: '127.0.0.1:1', HTTP_TLS_CERT: '/no.crt', HTTP_TLS_KEY: '/no.key' },
      [],
      1,
      'https://127.0.0.1:1 does not answer',
    ],
    [{ API_TOKEN: 'not-the-token-at-all' }, [], 1, 'API_KEY'],
    [{ API_TOKEN: '' }, [], 1, 'API_KEY'],
    [{}, ['--url', 'ftp://x'], 2, 'The address of the API cannot be "ftp://x"'],
    [{}, ['--url', 'http://a:b@x'], 2, 'The address of the API cannot carry a password'],
    [{}, ['--url', 'a b'], 2, 'The address of the API cannot be "a b"'],
    [{}, ['--url', '127.0.0.1:1'], 1, 'http://127.0.0.1:1 does not answer'],
    [{}, ['--url', 'localhost:1'], 1, 'http://localhost:1 does not answer'],
    [{}, ['--sort', 'colour'], 2, 'Allowed choices are device'],
    [{ LISTEN_ADDR: ':0' }, [], 2, 'Give --url'],
  ])('%j %j ends with one line on stderr', async (more, args, status, words) => {
    const ran = await runCli(['top', '--once', ...args], { ...env, ...more });
    expect([ran.status, ran.stdout]).toEqual([status, '']);
    expect(ran.stderr).toContain(words);
    expect(ran.stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  test('a viewer may look and not kick', async () => {
    const created = await runCli(['api-key', 'create', '--name', 'looker', '--role', 'viewer', '--json'], {
      DATABASE_URL: gateway.databaseUrl,
    });
    const { key } = JSON.parse(created.stdout) as { key: string };
    const looked = await runCli(['top', '--once', '--json'], { ...env, API_TOKEN: '', API_KEY: key });
    const [first] = (JSON.parse(looked.stdout) as { connections: { id: string }[] }).connections;
    const headers = { authorization: `Bearer ${key}` };
    const kicked = await fetch(`${api}/connections/${first?.id}`, { method: 'DELETE', headers });
    expect(kicked.status).toBe(403);
    expect(((await kicked.json()) as { detail: string }).detail).toContain('operator');
  });
});
