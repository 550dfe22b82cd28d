import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readConfig } from '../../src/read-config.js';
import {
  type ComposeFile,
  type ComposeService,
  checkComposeReferences,
  checkComposeSchema,
  checkExposure,
  checkFileModes,
  checkHardening,
  checkProfiles,
  environmentOf,
  listOwnServices,
  listStarted,
} from './support/compose.js';
import { imageEnvironment, readStages } from './support/dockerfile.js';
import { checkEnvironment } from './support/environment.js';
import { parseYaml, readText } from './support/files.js';
import { drainSecOf } from './support/kubernetes-pods.js';
import { checkStoreDirectory } from './support/nats-config.js';

const file = parseYaml(readText('docker-compose.yml'))[0] as ComposeFile;

function check(changed: ComposeFile): string[] {
  return [
    ...checkComposeSchema(changed),
    ...checkComposeReferences(changed),
    ...checkExposure(changed),
    ...checkFileModes(changed),
    ...checkHardening(changed),
    ...checkProfiles(changed, { 'svc-mqtt': undefined, balancer: 'fleet' }),
    ...checkApi(changed),
    ...listOwnServices(changed).flatMap(([, own]) => checkOwnService(own)),
    ...checkNats(changed),
  ];
}

/** What is started for devices publishes the API too. */
function checkApi(changed: ComposeFile): string[] {
  return ['svc-mqtt', 'balancer']
    .filter((name) => !(changed.services[name]?.ports ?? []).includes('127.0.0.1:9091:9091'))
    .map((name) => `${name}: the API is not at its port`);
}

/** What the database, the HTTP API and the workers have to close after the drain (`closeTimeoutMs` of the supervisor). */
const closeSec = 15;

/** What holds for svc-mqtt alone: its settings, what it can write, its shutdown. */
function checkOwnService(own: ComposeService): string[] {
  const image = imageEnvironment(readStages(readText('Dockerfile')));
  const env = { ...image, ...environmentOf(own) };
  const problems = checkEnvironment(env);
  const writable = (own.tmpfs ?? []).map((entry) => entry.split(':')[0]);
  for (const path of ['/tmp', env.DATA_DIR]) {
    if (!writable.includes(path)) problems.push(`${path} cannot be written`);
  }
  const graceSec = Number.parseInt(own.stop_grace_period ?? '10', 10);
  if (graceSec <= drainSecOf(env) + closeSec) problems.push(`stop_grace_period ${graceSec} ends the drain`);
  return problems;
}

function checkNats(changed: ComposeFile): string[] {
  return Object.values(changed.services)
    .filter(({ image }) => image === 'svc-mqtt-nats:local')
    .flatMap(({ entrypoint = [], command = [], volumes = [] }) => {
      const volume = volumes.find(({ type }) => type === 'volume');
      const started = [...entrypoint, ...command];
      return checkStoreDirectory(readText('deploy/nats.conf'), started, volume?.target ?? '/nowhere');
    });
}

test('docker-compose.yml is valid, complete and closed but for MQTT', () => {
  expect(check(file)).toEqual([]);
});

test('one machine has one of each, a fleet two replicas behind a balancer and NATS of three', () => {
  expect(listStarted(file, 'svc-mqtt').sort()).toEqual(['database-secret', 'nats', 'postgres', 'svc-mqtt']);
  expect(listStarted(file, 'balancer').sort()).toEqual([
    'balancer',
    'database-secret',
    'fleet-stream',
    'gateway-1',
    'gateway-2',
    'nats-1',
    'nats-2',
    'nats-3',
    'postgres',
  ]);
});

/** A copy of the file in which one service has other properties. */
function change(name: string, properties: Partial<ComposeService>): ComposeFile {
  const service = { ...file.services[name], ...properties };
  return { ...file, services: { ...file.services, [name]: service } };
}

/** The same with another Dockerfile of NATS. */
function changeNatsBuild(before: string, after: string): ComposeFile {
  const { build } = file.services.nats ?? {};
  if (typeof build !== 'object') throw new Error('NATS has no Dockerfile of its own');
  return change('nats', {
    build: { ...build, dockerfile_inline: build.dockerfile_inline.replace(before, after) },
  });
}

const env = file.services['svc-mqtt']?.environment ?? {};
const mistakes: [string, ComposeFile, RegExp][] = [
  ['an unknown property', change('nats', { imag: 'x' } as object), /imag/],
  ['a wrong condition', change('svc-mqtt', { depends_on: { nats: { condition: 'ready' } } }), /condition/],
  [
    'a dependency that is only started',
    change('svc-mqtt', { depends_on: { nats: { condition: 'service_started' } } }),
    /does not wait/,
  ],
  [
    'an unknown dependency',
    change('svc-mqtt', { depends_on: { x: { condition: 'service_healthy' } } }),
    /x, which does not exist/,
  ],
  [
    'a health gate without a check',
    change('nats', { healthcheck: undefined } as object),
    /nats to be healthy, which has no health check/,
  ],
  ['an unknown network', change('nats', { networks: ['x'] }), /network x is not declared/],
  ['an unused volume', { ...file, volumes: { ...file.volumes, x: null } }, /volume x is not used/],
  [
    'a file that is not there',
    change('nats', { volumes: [{ type: 'bind', source: './x.conf', target: '/x' }] }),
    /x\.conf does not exist/,
  ],
  [
    'a URL to an unknown host',
    change('svc-mqtt', { environment: { ...env, NATS_URL: 'nats://x:4222' } }),
    /names x, which is no service/,
  ],
  ['a URL into another network', change('svc-mqtt', { networks: ['edge', 'database'] }), /shares no network/],
  ['a secret in no volume', change('svc-mqtt', { volumes: [] }), /which is in no volume/],
  [
    'an unknown variable',
    change('svc-mqtt', { environment: { ...env, NATS_URI: 'x' } }),
    /NATS_URI is not a variable/,
  ],
  [
    'a value that is not accepted',
    change('svc-mqtt', { environment: { ...env, LOG_LEVEL: 'loud' } }),
    /LOG_LEVEL cannot be "loud"/,
  ],
  ['a published database', change('postgres', { ports: ['5432:5432'] }), /5432:5432 is open/],
  ['a published API', change('svc-mqtt', { ports: ['1883:1883', '9091:9091'] }), /9091:9091 is open/],
  [
    'a known password',
    change('postgres', { environment: { POSTGRES_PASSWORD: 'x' } }),
    /POSTGRES_PASSWORD has a value/,
  ],
  [
    'a known password in a URL',
    change('svc-mqtt', { environment: { ...env, NATS_URL: 'nats://u:p@nats:4222' } }),
    /carries a password/,
  ],
  ['a writable root', change('nats', { read_only: false }), /nats can write/],
  ['a capability', change('nats', { cap_add: ['KILL'] }), /nats keeps capabilities/],
  ['a way to privileges', change('nats', { security_opt: [] }), /nats can gain privileges/],
  ['no limits', change('nats', { deploy: {} }), /nats lacks a limit/],
  ['an image without a version', change('postgres', { image: 'postgres' }), /postgres has an image without/],
  ['a base image without a version', changeNatsBuild(':2.15-alpine', ''), /nats has an image without/],
  ['a copied file that is not there', changeNatsBuild('nats.conf /', 'x.conf /'), /x\.conf does not exist/],
  ['a mode of whoever builds', changeNatsBuild('--chmod=0444 ', ''), /nats: .*keeps the modes/],
  [
    'a mounted file',
    change('nats', { volumes: [{ type: 'bind', source: './deploy/nats.conf', target: '/x' }] }),
    /with the mode that it has on the host/,
  ],
  ['a stream beside the volume', change('nats', { volumes: [] }), /not on the volume/],
  ['a store directory given twice', change('nats', { command: ['--store_dir', '/data'] }), /flag as well/],
  [
    'a store of one server of three beside its volume',
    change('nats-2', { volumes: [] }),
    /not on the volume/,
  ],
  [
    'a fleet on the NATS of one machine',
    change('gateway-1', { depends_on: { nats: { condition: 'service_healthy' } } }),
    /NATS_URL names nats-1, which its user does not wait for/,
  ],
  [
    'a part of the fleet that nothing starts',
    change('balancer', { depends_on: { 'gateway-1': { condition: 'service_healthy' } } }),
    /balancer does not start gateway-2/,
  ],
  [
    'one machine that needs the fleet',
    change('nats', { depends_on: { 'nats-1': { condition: 'service_healthy' } } }),
    /svc-mqtt waits for nats-1, which is of another profile/,
  ],
  [
    'a port twice',
    change('gateway-2', { ports: ['1883:1883'] }),
    /1883:1883 is published twice for balancer/,
  ],
  ['a fleet without its API', change('balancer', { ports: ['1883:1883'] }), /balancer: the API is not/],
  ['a drain cut short', change('svc-mqtt', { stop_grace_period: '15s' }), /ends the drain/],
  ['no place to write', change('svc-mqtt', { tmpfs: [] }), /\/tmp cannot be written/],
];

test.each(mistakes)('the check of docker-compose.yml finds %s', (_, changed, expected) => {
  expect(check(changed).join('\n')).toMatch(expected);
});

describe('the script that draws the password', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'svc-mqtt-compose-'));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  /** Runs it as the container would, with a directory of this test in place of the volume. */
  function run(): { url: string; password: string } {
    const { entrypoint = [], command = [] } = file.services['database-secret'] ?? {};
    const script = (command[0] ?? '').replaceAll('$$', '$').replaceAll('/run/database-secret', directory);
    const result = spawnSync(entrypoint[0] ?? '', [...entrypoint.slice(1), script], { encoding: 'utf8' });
    expect(result).toMatchObject({ status: 0, stderr: '' });
    const read = (name: string) => readFileSync(join(directory, name), 'utf8');
    return { url: read('database-url'), password: read('postgres-password') };
  }

  test('writes a URL that the configuration accepts, with the password that PostgreSQL gets', () => {
    const { url, password } = run();
    expect(password).toMatch(/^[0-9a-f]{48}$/);
    expect(new URL(url)).toMatchObject({ password, username: 'svc_mqtt', pathname: '/svc_mqtt' });
    const config = readConfig({ env: { DATABASE_URL_FILE: join(directory, 'database-url') } });
    expect(config.databaseUrl).toBe(url);
    const { POSTGRES_USER, POSTGRES_DB } = file.services.postgres?.environment ?? {};
    expect({ POSTGRES_USER, POSTGRES_DB }).toEqual({ POSTGRES_USER: 'svc_mqtt', POSTGRES_DB: 'svc_mqtt' });
  });

  test('leaves a password alone that is there, and draws another one elsewhere', () => {
    const first = run();
    expect(run()).toEqual(first);
    rmSync(join(directory, 'database-url'));
    expect(run().password).not.toBe(first.password);
  });
});
