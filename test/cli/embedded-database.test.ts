import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { buildProgram, runProgram } from '../../src/cli/program.js';
import { listLeaves } from '../../src/cli/reference/cli-reference.js';
import { fakeIo, jsonLines, makeTempDir, runCli } from './support.js';

/** A path at which there is nothing yet. */
function newPath(name: string): string {
  const dir = makeTempDir();
  onTestFinished(() => dir.remove());
  return join(dir.path, name);
}

/** What commands need besides their arguments. */
const needed: Readonly<Record<string, readonly string[]>> = {
  'device set': ['--expires', 'never'],
  'device revoke': ['--yes'],
  'device remove': ['--yes'],
  'policy set': ['--publish-rate', '1'],
  'claim create': ['--type', 'sensor'],
  'api-key create': ['--name', 'ci', '--role', 'viewer'],
};

const { program, uses } = buildProgram(() => {});
const commands = listLeaves(program)
  .filter(({ path, command }) => uses.get(command) === 'database' && !/add|import|migrate/.test(path))
  .map(({ path, command }) => [
    ...path.split(' '),
    ...command.registeredArguments.map(() => 'x'),
    ...(needed[path] ?? []),
  ]);

test.each([...commands, ['migrate', '--status'], ['migrate', '--dry-run']].map((args) => ({ args })))(
  'where there is no embedded database, none is made by $args',
  async ({ args }) => {
    const dataDir = newPath('data');
    const io = fakeIo({ env: { DATA_DIR: dataDir } });
    await expect(runProgram(args, io)).rejects.toMatchObject({
      code: 'DATABASE_EMBEDDED',
      exitStatus: 1,
      message: `There is no embedded database in ${dataDir}`,
      suggestion: "Run the command in the server's directory, or set DATA_DIR or DATABASE_URL",
    });
    expect([io.out(), existsSync(dataDir)]).toEqual(['', false]);
  },
);

test('device add makes the embedded database, says where, and the next command finds it', async () => {
  const dataDir = newPath('data');
  const env = { DATA_DIR: dataDir };
  const added = await runCli(['device', 'add', '--type', 'sensor', '--json'], env);
  expect(added.stderr).toBe(
    `Creating an embedded database in ${dataDir}, for servers with this DATA_DIR only.\n`,
  );
  const listed = await runCli(['device', 'list', '--json'], env);
  expect(listed).toMatchObject({ status: 0, stderr: '' });
  const [device] = jsonLines(added.stdout);
  expect(jsonLines(listed.stdout)).toMatchObject([{ id: device?.id }]);
});

test('migrate and device import make the embedded database and say where', async () => {
  const file = newPath('devices.jsonl');
  writeFileSync(file, '{"type":"sensor","id":"one","secret":"q8Zr1xW0vT7yLk3mNs5uBd"}\n');
  for (const args of [['migrate'], ['device', 'import', file]]) {
    const dataDir = newPath('data');
    const { status, stderr } = await runCli(args, { DATA_DIR: dataDir });
    expect({ args, status, stderr }).toEqual({
      args,
      status: 0,
      stderr: expect.stringContaining(`Creating an embedded database in ${dataDir}`),
    });
  }
});

test('a data directory that cannot be made is named once', async () => {
  const file = newPath('file');
  writeFileSync(file, '');
  const io = fakeIo({ env: { DATA_DIR: join(file, 'data') } });
  await expect(runProgram(['migrate'], io)).rejects.toMatchObject({
    message: `The embedded database in ${join(file, 'data')} cannot be used: ENOTDIR: not a directory`,
  });
});
