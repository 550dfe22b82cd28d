import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { createAuthority } from '../support/certificates.js';
import {
  checkCopies,
  checkFinalStage,
  checkInstalls,
  checkModes,
  imageEnvironment,
  isIgnored,
  readStages,
} from './support/dockerfile.js';
import { checkEnvironment } from './support/environment.js';
import { readText, root } from './support/files.js';

const dockerfile = readText('Dockerfile');
const dockerignore = readText('.dockerignore');
const { scripts } = JSON.parse(readText('package.json')) as { scripts: { start: string } };

function check(text: string, ignore = dockerignore): string[] {
  const stages = readStages(text);
  return [
    ...checkFinalStage(stages, scripts.start),
    ...checkCopies(stages, ignore),
    ...checkInstalls(stages),
    ...checkModes(stages),
    ...checkEnvironment(imageEnvironment(stages)),
  ];
}

describe('the Dockerfile', () => {
  test('builds from what the repository has and runs as somebody other than root', () => {
    expect(check(dockerfile)).toEqual([]);
  });

  test('is read as it is written', () => {
    const stages = readStages(dockerfile);
    expect(stages.map(({ name }) => name)).toEqual(['build', 'packages', '']);
    expect(imageEnvironment(stages)).toEqual({ NODE_ENV: 'production', DATA_DIR: '/data' });
  });

  test('copies none of what may hold secrets or what is made elsewhere', () => {
    for (const path of ['.git', '.env', '.svc-mqtt', 'node_modules', 'dist', 'test', 'deploy/secret.yaml']) {
      expect(isIgnored(path, dockerignore), path).toBe(true);
    }
  });
});

const mistakes: [string, string, RegExp][] = [
  ['root', dockerfile.replace('USER 10001:10001', 'USER 0:0'), /user "0:0"/],
  ['a user by name', dockerfile.replace('USER 10001:10001', 'USER svc-mqtt'), /user "svc-mqtt"/],
  ['no user', dockerfile.replace('USER 10001:10001', ''), /user ""/],
  ['no health check', dockerfile.replace(/HEALTHCHECK[^\n]*\n[^\n]*\n/, ''), /no health check/],
  ['another port', dockerfile.replace('EXPOSE 1883 9091', 'EXPOSE 1883 8080'), /other ports/],
  [
    'another program',
    dockerfile.replace('"/app/dist/cli/main.js"]', '"/app/dist/main.js"]'),
    /does not start/,
  ],
  ['another command', dockerfile.replace('CMD ["serve"]', 'CMD ["migrate"]'), /does not serve/],
  [
    'another signal',
    dockerfile.replace('STOPSIGNAL SIGTERM', 'STOPSIGNAL SIGKILL'),
    /not stopped by SIGTERM/,
  ],
  ['a missing label', dockerfile.replace('image.licenses', 'image.license'), /no label licenses/],
  [
    'a source that is not there',
    dockerfile.replace('COPY drizzle ', 'COPY migrations '),
    /migrations does not exist/,
  ],
  ['an ignored source', dockerfile.replace('COPY drizzle ', 'COPY test '), /test is left out/],
  [
    'an unknown stage',
    dockerfile.replace('--from=packages', '--from=package'),
    /stage package does not come before/,
  ],
  [
    'a directory that no stage makes',
    dockerfile.replace('/app/dist ./dist', '/app/out ./dist'),
    /does not make \/app\/out/,
  ],
  ['development packages', dockerfile.replace('--omit=dev ', ''), /development packages/],
  ['scripts of packages', dockerfile.replaceAll('--ignore-scripts ', ''), /may run scripts/],
  ['packages without the lock file', dockerfile.replaceAll('npm ci', 'npm install'), /lock file/],
  [
    'modes of whoever builds',
    dockerfile.replace('drizzle healthcheck.mjs dist', 'dist'),
    /healthcheck.mjs keeps the modes of whoever builds/,
  ],
  [
    'modes of whoever builds in the last stage',
    dockerfile.replace('USER 10001', 'COPY LICENCE.txt ./\nUSER 10001'),
    /keeps the modes of whoever builds/,
  ],
  ['an unknown variable', dockerfile.replace('DATA_DIR=', 'DATA_PATH='), /DATA_PATH is not a variable/],
];

test.each(mistakes)('the check of the Dockerfile finds %s', (_, changed, expected) => {
  expect(changed).not.toBe(dockerfile);
  expect(check(changed).join('\n')).toMatch(expected);
});

describe('the health check of the image', () => {
  let server: Server | undefined;
  afterEach(async () => {
    if (server?.listening === true) await new Promise((resolve) => server?.close(resolve));
    server = undefined;
  });

  async function listen(host: string): Promise<number> {
    server = createServer((request, response) => {
      response.statusCode = request.url === '/healthz' ? 200 : 503;
      response.end('the database is away');
    });
    await once(server.listen(0, host), 'listening');
    return (server.address() as AddressInfo).port;
  }

  async function run(
    listenAddr: string,
    path?: string,
    more: Record<string, string> = {},
  ): Promise<{ status: number; stderr: string }> {
    const script = join(root, 'deploy', 'healthcheck.mjs');
    const child = spawn(process.execPath, [script, ...(path === undefined ? [] : [path])], {
      env: { LISTEN_ADDR: listenAddr, ...more },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    const [status] = (await once(child, 'close')) as [number];
    return { status, stderr };
  }

  test.each(['', '0.0.0.0', '[::]', '127.0.0.1'])('passes when the API at "%s" answers 200', async (host) => {
    const port = await listen('127.0.0.1');
    expect(await run(`${host}:${port}`)).toEqual({ status: 0, stderr: '' });
  });

  test('takes the port alone, as the service does', async () => {
    expect(await run(String(await listen('127.0.0.1')))).toEqual({ status: 0, stderr: '' });
  });

  test('asks by HTTPS, whatever the certificate names, when the API speaks it', async () => {
    const { cert, key } = await (await createAuthority()).issue({ commonName: 'gateway.example' });
    server = createHttpsServer({ cert, key }, (_request, response) => response.end());
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    const withTls = { HTTP_TLS_CERT: '/run/tls/tls.crt' };
    expect(await run(`:${port}`, '/healthz', withTls)).toEqual({ status: 0, stderr: '' });
    expect(await run(`:${port}`)).toMatchObject({ status: 1 });
  });

  test('fails with what the API says when it answers anything else', async () => {
    const port = await listen('127.0.0.1');
    expect(await run(`:${port}`, '/readyz')).toEqual({
      status: 1,
      stderr: '/readyz answered 503: the database is away\n',
    });
  });

  test('fails when nothing answers', async () => {
    const port = await listen('127.0.0.1');
    await new Promise((resolve) => server?.close(resolve));
    expect(await run(`:${port}`)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('/healthz did not answer'),
    });
  });
});
