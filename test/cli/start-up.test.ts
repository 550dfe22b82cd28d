import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { cleanEnv, makeTempDir, projectDir } from './support.js';

const exec = promisify(execFile);

/** Writes the address of each module that is loaded to stderr. */
const hooks = `
  import { writeSync } from 'node:fs';
  export async function load(url, context, next) { writeSync(2, url + '\\n'); return next(url, context); }
`;
const register = `
  import { register } from 'node:module';
  register('data:text/javascript,' + ${JSON.stringify(encodeURIComponent(hooks))});
`;

/** The packages that a command loads until it has answered. */
async function packagesOf(args: readonly string[], env: Record<string, string> = {}): Promise<string[]> {
  const { stderr } = await exec(
    process.execPath,
    [
      '--import',
      `data:text/javascript,${encodeURIComponent(register)}`,
      join(projectDir, 'dist/cli/main.js'),
      ...args,
    ],
    { env: cleanEnv(env), maxBuffer: 16_777_216 },
  );
  const names = [...stderr.matchAll(/\/node_modules\/((?:@[^/\s]+\/)?[^/\s]+)/g)].map(
    ([, name]) => name ?? '',
  );
  return [...new Set(names)].sort();
}

test.each([
  [['--version']],
  [['--help']],
  [['device', 'list', '--help']],
  [['serve', '--help']],
  [['__complete', 'device', 'list', '--so']],
  [['__complete', 'serve', '--log-level', '']],
])('%j loads the parser of command lines and no other package', async (args) => {
  expect(await packagesOf(args)).toEqual(['commander']);
});

test('a command on devices loads neither the server nor the screen', async () => {
  const dir = makeTempDir();
  try {
    const packages = await packagesOf(['device', 'add', '--type', 'sensor'], { DATA_DIR: dir.path });
    expect(packages).toContain('drizzle-orm');
    for (const name of ['typebox', 'fastify', 'nats', 'aedes', 'ink', 'react', 'prom-client', 'ws'])
      expect(packages).not.toContain(name);
  } finally {
    dir.remove();
  }
});

test('a build puts the command where npx looks first', async () => {
  const { stdout } = await exec(join(projectDir, 'node_modules/.bin/svc-mqtt'), ['--version']);
  expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});
