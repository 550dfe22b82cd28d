import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { type Gateway, startGateway } from '../faults/gateway.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { cleanEnv, makeTempDir, projectDir } from './support.js';

/** What comes out of a pipe, such as that of <(command), is not there a second time. */

const later = undoAfterAll();
const token = 'token-of-the-test-run';
let gateway: Gateway;
let dir: string;

beforeAll(async () => {
  gateway = await startGateway(later, { env: { API_TOKEN: token } });
  const made = makeTempDir();
  later(async () => made.remove());
  dir = made.path;
});

/** Runs a command that reads the value of a setting from its stdin. */
async function runWith(env: Record<string, string>, value: string, args: readonly string[]) {
  const program = [process.execPath, join(projectDir, 'dist', 'cli', 'main.js'), ...args];
  const child = spawn('sh', ['-c', 'printf %s "$0" | "$@"', value, ...program], {
    env: cleanEnv(env),
    cwd: tmpdir(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
    });
  }
  return await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, ...output }));
  });
}

const verbs: readonly (readonly string[])[] = [
  ['device', 'add', '--type', 'a', '--id', 'd1'],
  ['device', 'add', '--type', 'a', '--output', '@added.csv'],
  ['device', 'list'],
  ['device', 'show', 'd1'],
  ['device', 'set', 'd1', '--metadata', 'a=b'],
  ['device', 'rotate', 'd1', '--yes'],
  ['device', 'export', '--output', '@exported.csv'],
  ['device', 'import', '@added.csv', '--continue', '--report', '@report.csv'],
  ['device', 'revoke', 'd1', '--yes'],
  ['device', 'enable', 'd1'],
  ['device', 'remove', 'd1', '--yes'],
  ['policy', 'set', 'a', '--publish', 'x'],
  ['policy', 'show', 'a'],
  ['policy', 'list'],
  ['policy', 'remove', 'a', '--yes'],
  ['claim', 'create', '--type', 'a'],
  ['claim', 'list'],
  ['api-key', 'create', '--name', 'k', '--role', 'viewer'],
  ['api-key', 'list'],
  ['api-key', 'revoke', 'k'],
  ['audit'],
];

const overApi = [
  ...verbs,
  ['connection', 'list'],
  ['session', 'list'],
  ['device', 'send', '--type', 'none', 'x', 'y', '--yes'],
  ['context'],
].map((args) => ['API_KEY', args] as const);
const onDatabase = [...verbs, ['migrate'], ['doctor', '--no-message'], ['config', 'print']].map(
  (args) => ['DATABASE_URL', args] as const,
);
const onNats = [
  ['tail-nats', '--timeout', '1s'],
  ['tail-nats', '--timeout', '1s', 'raw.x'],
].map((args) => ['NATS_URL', args] as const);

test.each([...overApi, ...onDatabase, ...onNats])(
  'a command reads each setting once: %s, %j',
  async (name, args) => {
    const { DATABASE_URL = '', NATS_URL = '', LISTEN_ADDR = '' } = gateway.env;
    const values = { API_KEY: token, DATABASE_URL, NATS_URL };
    const [there, here] = [{ API_URL: `http://${LISTEN_ADDR}` }, { LISTEN_ADDR, NATS_URL }];
    const { [name]: _, ...env } = { ...(name === 'API_KEY' ? there : here) } as Record<string, string>;
    const files = args.map((arg) => arg.replace('@', join(dir, `${name}-`)));
    const ran = await runWith({ ...env, [`${name}_FILE`]: '/dev/stdin' }, values[name], files);
    // With --continue an import of what is there already refuses the rows.
    expect(ran).toMatchObject({ status: args[1] === 'import' ? 1 : 0 });
    expect(JSON.stringify(ran)).not.toContain(`${name}_FILE: `);
  },
);
