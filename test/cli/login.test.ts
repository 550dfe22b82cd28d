import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import type { SvcMqttError } from '../../src/errors.js';
import { startTestApi, type TestApi } from '../http/support.js';
import { fakeIo, fakeTerminal, jsonLines, makeTempDir, until } from './support.js';

const token = 'token-of-the-test-run';
let api: TestApi;
let open: TestApi;
let dir: ReturnType<typeof makeTempDir>;
let url: string;
beforeAll(async () => {
  api = await startTestApi({ config: { apiToken: token } });
  open = await startTestApi();
  url = `http://127.0.0.1:${api.port}`;
});
afterAll(async () => {
  await api?.close();
  await open?.close();
});
beforeEach(() => {
  dir = makeTempDir();
});
afterEach(() => dir.remove());

const file = () => join(dir.path, 'svc-mqtt', 'contexts.json');

async function run(args: readonly string[], options: { env?: Record<string, string>; stdin?: string } = {}) {
  const io = fakeIo({ ...options, env: { XDG_CONFIG_HOME: dir.path, ...options.env } });
  const outcome = await runProgram(args, io).catch((error: SvcMqttError) => error);
  return { outcome, out: io.out(), err: io.err(), lines: () => jsonLines(io.out()) };
}

describe('svc-mqtt login', () => {
  test('remembers address and key where nobody else can read them, and commands use both', async () => {
    const refused = await run(['connection', 'list', '--url', url]);
    expect(refused.outcome).toMatchObject({
      code: 'UNAUTHENTICATED',
      suggestion: expect.stringContaining('svc-mqtt login'),
    });
    const { outcome, out, err } = await run(['login', url], { stdin: `${token}\n` });
    expect(outcome).toBe(0);
    expect(out).toBe(
      `Logged in to ${url}: commands use it from now on, as the context 127.0.0.1:${api.port}.\n`,
    );
    expect(out + err).not.toContain(token);
    expect(err).toContain(file());
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(statSync(join(file(), '..')).mode & 0o777).toBe(0o700);
    for (const args of [
      ['connection', 'list'],
      ['top', '--once', '--json'],
    ]) {
      const used = await run(args);
      expect(used.outcome).toBe(0);
      expect(used.err).toContain(`On ${url} (context 127.0.0.1:${api.port}).\n`);
    }
    const named = await run(['connection', 'list', '--url', url]);
    expect(named).toMatchObject({ outcome: 0, err: 'No device is connected.\n' });
  });

  test('opens the API of this machine again after the first key has closed it', async () => {
    const env = { LISTEN_ADDR: `127.0.0.1:${api.port}` };
    expect((await run(['top', '--once'], { env })).outcome).toMatchObject({ code: 'UNAUTHENTICATED' });
    expect((await run(['login'], { env, stdin: token })).outcome).toBe(0);
    expect((await run(['top', '--once'], { env })).outcome).toBe(0);
  });

  test('asks on a terminal, where the key is not shown', async () => {
    const stdin = fakeTerminal();
    const io = { ...fakeIo({ env: { XDG_CONFIG_HOME: dir.path } }), stdin };
    const running = runProgram(['login', url, '--name', 'prod'], io);
    await until('the question is there', () => io.err().includes(`Key for ${url}: `));
    stdin.write(`${token}\r`);
    expect(await running).toBe(0);
    expect(io.out() + io.err()).not.toContain(token);
    expect(readFileSync(file(), 'utf8')).toContain(token);
  });

  test('remembers an API that asks for no key by its address alone', async () => {
    const { outcome, err } = await run(['login', `127.0.0.1:${open.port}`, '--name', 'open']);
    expect(outcome).toBe(0);
    expect(err).toContain('asks for no key so far');
    expect((await run(['connection', 'list'])).outcome).toBe(0);
  });

  test.each([
    ['a wrong key', 'not-the-token-at-all', 'UNAUTHENTICATED'],
    ['no key', '', 'USAGE'],
    ['two words', 'a b', 'USAGE'],
  ])('remembers nothing of %s', async (_name, stdin, code) => {
    const { outcome, out, err } = await run(['login', url], { stdin });
    expect(outcome).toMatchObject({ code });
    expect(out + err + String(outcome)).not.toContain(stdin === '' ? token : stdin);
    expect(existsSync(file())).toBe(false);
  });

  test.each([
    ['ftp://127.0.0.1', 'USAGE'],
    ['http://user:secret@127.0.0.1', 'USAGE'],
    ['http://127.0.0.1:1', 'API_UNREACHABLE'],
  ])('refuses %s', async (address, code) => {
    const { outcome } = await run(['login', address], { stdin: token });
    expect(outcome).toMatchObject({ code });
    expect(String(outcome)).not.toContain('secret');
  });

  test('warns before a key travels in clear', async () => {
    // Reaches this machine by an address that is none of its loopback ones.
    const { outcome, err } = await run(['login', `http://0.0.0.0:${api.port}`], { stdin: token });
    expect(outcome).toBe(0);
    expect(err).toMatch(/^Warning: over http:\/\/ everybody on the way to 0\.0\.0\.0 can read the key\.\n/);
  });
});

describe('the logins', () => {
  beforeEach(async () => {
    await run(['login', url, '--name', 'one'], { stdin: token });
    await run(['login', `127.0.0.1:${open.port}`, '--name', 'two']);
  });

  test('are shown without their keys, chosen and forgotten', async () => {
    const shown = await run(['context', '--json']);
    expect(shown.lines()).toEqual([
      { name: 'one', url, current: false },
      { name: 'two', url: `http://127.0.0.1:${open.port}`, current: true },
    ]);
    const table = await run(['context']);
    expect(table.out).toContain(url);
    expect(table.out + shown.out).not.toContain(token);
    expect((await run(['context', 'one'])).out).toBe(`Commands use ${url} from now on.\n`);
    expect((await run(['connection', 'list'])).err).toContain('(context one)');
    expect((await run(['context', 'three'])).outcome).toMatchObject({ code: 'USAGE' });
    expect((await run(['logout'])).out).toBe(`Forgot one (${url}).\n`);
    expect(readFileSync(file(), 'utf8')).not.toContain(token);
    expect((await run(['context', '--json'])).lines()).toMatchObject([{ name: 'two', current: false }]);
    expect((await run(['logout'])).outcome).toMatchObject({ code: 'USAGE' });
    expect((await run(['logout', 'two'])).outcome).toBe(0);
    expect((await run(['context'])).err).toBe('No logins; `svc-mqtt login URL` remembers one.\n');
  });

  test('give way to a variable, and a variable to an option', async () => {
    const at = async (args: string[], env: Record<string, string> = {}) =>
      (await run(['connection', 'list', ...args], { env })).outcome;
    const dead = '127.0.0.1:1';
    expect(await at([])).toBe(0);
    expect(await at([], { API_URL: dead })).toMatchObject({ code: 'API_UNREACHABLE' });
    expect(await at([], { LISTEN_ADDR: dead })).toMatchObject({ code: 'API_UNREACHABLE' });
    expect(await at(['--context', 'two'], { API_URL: dead, LISTEN_ADDR: dead })).toBe(0);
    expect(await at(['--url', url], { API_CONTEXT: 'two', LISTEN_ADDR: dead })).toBe(0);
    expect(await at(['--context', 'none-such'])).toMatchObject({ code: 'USAGE' });
    expect(await at([], { API_URL: dead, API_CONTEXT: 'two' })).toMatchObject({ code: 'USAGE' });
    const own = await run(['connection', 'list', '--context', 'local'], { env: { LISTEN_ADDR: dead } });
    expect(own.outcome).toMatchObject({ code: 'API_UNREACHABLE' });
    const shown = await run(['context'], { env: { API_URL: dead } });
    expect(shown.err).toBe(`A setting goes before: commands use http://${dead}.\n`);
  });

  test('of one address keep their key from every other', async () => {
    await run(['context', 'one']);
    const seen: (string | null)[] = [];
    const { createServer } = await import('node:http');
    const server = createServer((request, response) => {
      seen.push(request.headers.authorization ?? null);
      response.end('{}');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    await run(['connection', 'list', '--url', `http://127.0.0.1:${port}`]);
    server.close();
    expect(seen).toEqual([null]);
  });

  test.each([
    ['others may read it', 0o640, 'others may read it'],
    ['others may write it', 0o602, 'every user may write'],
  ])('are not used when %s', async (_name, mode, words) => {
    chmodSync(file(), mode);
    for (const args of [['connection', 'list'], ['context'], ['logout'], ['login', url]]) {
      const { outcome } = await run(args, { stdin: token });
      expect(outcome).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(words) });
    }
  });

  test('that are no logins are not written over', async () => {
    for (const text of ['', '{}', '[]', 'x']) {
      writeFileSync(file(), text, { mode: 0o600 });
      expect((await run(['login', url], { stdin: token })).outcome).toMatchObject({ code: 'CONFIG_INVALID' });
    }
    expect(readFileSync(file(), 'utf8')).toBe('x');
  });
});

test('without a home there are no logins, and none is remembered', async () => {
  const io = fakeIo({ env: { HOME: '', LISTEN_ADDR: `127.0.0.1:${open.port}` } });
  expect(await runProgram(['connection', 'list'], io)).toBe(0);
  const second = fakeIo({ env: {}, stdin: token });
  await expect(runProgram(['login', url], second)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
});

test('the directory of the logins becomes private when it was not', async () => {
  mkdirSync(join(dir.path, 'svc-mqtt'), { mode: 0o755 });
  await run(['login', url], { stdin: token });
  expect(statSync(join(dir.path, 'svc-mqtt')).mode & 0o777).toBe(0o700);
});
