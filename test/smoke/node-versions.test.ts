import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { addDevice, connected, publishAndWait, until } from '../faults/gateway.js';
import { processesOf } from '../faults/processes.js';
import { freePort } from '../support/free-port.js';
import { readStored } from '../support/load.js';
import { startServerProcess } from '../support/server-process.js';

/** Node programs to try, separated by colons; every supported major version where `CI` is set. */
const programs = (process.env.TEST_NODE_PROGRAMS ?? '').split(':').filter((program) => program !== '');
const tried = programs.length > 0 ? programs : [process.execPath];
const supportedMajors = [20, 22, 24];

const majorOf = (program: string) =>
  Number(/^v(\d+)\./.exec(execFileSync(program, ['--version'], { encoding: 'utf8' }))?.[1]);

describe('start, add, publish, stored, stop, as the README says, on Node', () => {
  test.skipIf(process.env.CI === undefined || process.env.CI === '' || process.env.CI === 'false')(
    'every supported version is tried',
    () => {
      expect(tried.map(majorOf)).toEqual(expect.arrayContaining(supportedMajors));
    },
  );

  test.for(
    tried.flatMap((program) => [1, 2].map((workers) => [majorOf(program), workers, program] as const)),
  )('%i, WORKERS=%i', { timeout: 300_000 }, async ([, workers, node], { onTestFinished }) => {
    const dataDir = await mkdtemp(path.join(tmpdir(), 'svc mqtt smoke-'));
    onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
    const natsPort = await freePort();
    const env = { DATA_DIR: dataDir, EMBEDDED_NATS_PORT: String(natsPort), WORKERS: String(workers) };
    const server = await startServerProcess(env, { node });
    onTestFinished(async () => {
      await server.end();
    });
    expect(await server.readiness()).toEqual({
      status: 200,
      database: 'ok',
      nats: 'ok',
      storage: 'ok',
      listeners: 'ok',
    });

    const device = await addDevice(server.httpPort);
    const client = await connected(onTestFinished, server.mqttPort, device);
    await publishAndWait(client, device, 'smoke');
    const stored = await readStored(`nats://127.0.0.1:${natsPort}`);
    expect(stored).toEqual([{ subject: `raw.${device.id}`, payload: 'smoke' }]);

    expect(await server.end()).toBe(0);
    await client.waitClosed();
    await until('no process is left', async () => (await processesOf(dataDir)).length === 0);
    // Neither warnings of Node nor anything else besides the log.
    expect(server.stderr.filter((line) => !line.startsWith('{'))).toEqual([]);
    expect(server.log.filter(({ level }) => Number(level) >= 40)).toEqual([]);
  });
});
