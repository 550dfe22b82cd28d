import { execFile, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { projectDir } from '../cli/support.js';
import { startGateway } from '../faults/gateway.js';
import { programFile } from '../support/server-process.js';

const readme = readFileSync(join(projectDir, 'README.md'), 'utf8');
const shown = [...readme.matchAll(/^```console\n(.*?)^```/gms)].map(([, block]) => block).join('');

/** Ids, secrets and times, which are others each time, under one name each. */
const leveled = (text: string) =>
  text
    .replaceAll(/\b[a-z2-7]{32}\b/g, 'SECRET')
    .replaceAll(/\b[a-z2-7]{16}\b/g, 'ID')
    .replaceAll(/\b\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME');

const lacks = ['curl', 'mosquitto_pub'].filter(
  (program) => spawnSync(program, ['--help']).error !== undefined,
);

test('the commands of the README answer what it shows', async ({ onTestFinished, skip }) => {
  if (process.env.CI !== 'true') skip(lacks.length > 0, `this machine lacks ${lacks.join(' and ')}`);
  const { server, env } = await startGateway(onTestFinished);
  let id = '';
  let secret = '';
  const sampleId = /"id":"(\w+)"/.exec(shown)?.[1] as string;
  const sampleSecret = /"mqtt_password":"(\w+)"/.exec(shown)?.[1] as string;
  expect(shown.split(/^\$ /m).length).toBeGreaterThan(4);

  for (const step of shown.split(/^\$ /m).slice(1)) {
    const [command = '', ...expected] = step.trimEnd().split('\n');
    const line = command
      .replaceAll(sampleId, id)
      .replaceAll(sampleSecret, secret)
      .replace('localhost:9091', `127.0.0.1:${server.httpPort}`)
      .replace(/^mosquitto_pub/, `mosquitto_pub -h 127.0.0.1 -p ${server.mqttPort}`)
      .replace(/^npx svc-mqtt/, `'${process.execPath}' '${programFile}'`);
    const { stdout, stderr } = await promisify(execFile)('sh', ['-c', line], {
      cwd: tmpdir(),
      env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
    });
    id ||= /"id":"(\w+)"/.exec(stdout)?.[1] ?? '';
    secret ||= /"mqtt_password":"(\w+)"/.exec(stdout)?.[1] ?? '';
    const answered = [stdout, stderr].flatMap((text) => leveled(text).split('\n'));
    for (const text of expected) expect(answered, command).toContain(leveled(text));
  }
});
