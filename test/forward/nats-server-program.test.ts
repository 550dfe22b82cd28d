import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isAtLeast } from '../../src/server/forward/connection/server-version.js';
import { natsServerCacheDir } from '../../src/server/forward/embedded/nats-server-cache.js';
import {
  describeLacks,
  findNatsServer,
  obtainNatsServer,
  pinnedNatsVersion,
} from '../../src/server/forward/embedded/nats-server-program.js';
import { releaseArchive, releaseUrl } from '../../src/server/forward/embedded/nats-server-release.js';
import { freePort } from '../support/free-port.js';

let dir: string;
let env: { PATH: string; HOME: string };
let progress: string[];
/** Where nothing listens, so that no test asks the official release. */
let downloadUrl: string;

beforeEach(async () => {
  downloadUrl = `http://127.0.0.1:${await freePort()}`;
  dir = await mkdtemp(join(tmpdir(), 'svc mqtt program-'));
  env = { PATH: join(dir, 'bin'), HOME: join(dir, 'home') };
  progress = [];
  await mkdir(env.PATH);
  await symlink('/bin/sh', join(env.PATH, 'sh'));
});

afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const onProgress = (line: string) => void progress.push(line);

/** Puts a script where the environment's PATH, or a path, says. */
async function script(path: string, lines: string): Promise<string> {
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, `#!/bin/sh\n${lines}\n`);
  await chmod(path, 0o755);
  return path;
}

const natsServer = (version: string) => `echo "nats-server: v${version}"`;

describe('findNatsServer', () => {
  it('takes the given program first, then the PATH, then the cache', async () => {
    const given = await script(join(dir, 'given'), natsServer('2.1.1'));
    const cached = await script(join(natsServerCacheDir(env), 'nats-server'), natsServer('2.3.3'));
    expect(await findNatsServer(undefined, env)).toEqual({ path: cached, version: '2.3.3' });
    const onPath = await script(join(env.PATH, 'nats-server'), natsServer('2.2.2'));
    expect(await findNatsServer(undefined, env)).toEqual({ path: onPath, version: '2.2.2' });
    expect(await findNatsServer(given, env)).toEqual({ path: given, version: '2.1.1' });
  });

  it('finds none', async () => {
    expect(await findNatsServer(undefined, env)).toBeUndefined();
  });

  it('runs nothing from a cache or a file that others may write to', async () => {
    const cached = await script(join(natsServerCacheDir(env), 'nats-server'), natsServer('2.3.3'));
    await chmod(cached, 0o777);
    expect(await findNatsServer(undefined, env)).toBeUndefined();
    await chmod(cached, 0o755);
    await chmod(join(cached, '..'), 0o777);
    expect(await findNatsServer(undefined, env)).toBeUndefined();
    await chmod(join(cached, '..'), 0o755);
    expect(await findNatsServer(undefined, env)).toMatchObject({ path: cached });
    await chmod(env.HOME, 0o777);
    expect(await findNatsServer(undefined, env)).toBeUndefined();
  });

  it('runs nothing from the working directory, whatever the PATH says', async () => {
    await script(join(env.PATH, 'nats-server'), natsServer('2.2.2'));
    const PATH = ['.', '', relative(process.cwd(), env.PATH)].join(':');
    expect(await findNatsServer(undefined, { ...env, PATH })).toBeUndefined();
  });

  it('passes over what does not run', async () => {
    await script(join(env.PATH, 'nats-server'), 'exit 1');
    expect(await findNatsServer(undefined, env)).toBeUndefined();
  });

  it.each([
    ['does not exist', async () => join(dir, 'none'), 'not found'],
    ['is a directory', async () => dir, 'not executable'],
    [
      'is something else',
      () => script(join(dir, 'other'), 'echo hello'),
      'does not tell a nats-server version',
    ],
  ])('names a given program that %s', async (_what, make, words) => {
    const path = await make();
    const failure = expect(findNatsServer(path, env)).rejects;
    await failure.toMatchObject({ code: 'NATS_EMBEDDED' });
    await expect(findNatsServer(path, env)).rejects.toThrow(`NATS_SERVER_BIN: ${path} cannot be run: `);
    await expect(findNatsServer(path, env)).rejects.toThrow(words);
  });
});

describe('obtainNatsServer', () => {
  it('builds the pinned version with Go when Go is there, and keeps it', async () => {
    await script(
      join(env.PATH, 'go'),
      `[ "$1" = version ] && exit
       echo "go: downloading $2" >&2
       { echo '#!/bin/sh'; echo 'echo "nats-server: v'"\${2##*@v}"'"'; } > "$GOBIN/nats-server"
       /bin/chmod 755 "$GOBIN/nats-server"`,
    );
    const path = join(natsServerCacheDir(env), 'nats-server');
    expect(await obtainNatsServer({ downloadUrl, env, onProgress })).toEqual({
      path,
      version: pinnedNatsVersion,
    });
    expect(progress.join('\n')).toContain('go: downloading');
    await rm(join(env.PATH, 'go'));
    progress = [];
    expect(await obtainNatsServer({ downloadUrl, env, onProgress })).toMatchObject({ path });
    expect(progress).toEqual([]);
    expect(await readdir(natsServerCacheDir(env))).toEqual(['nats-server']);
  });

  it('unpacks the package of Debian when there is no Go', async () => {
    await script(join(env.PATH, 'apt-get'), '[ "$3" = download ] && : > nats-server_2.9.10_amd64.deb');
    await script(
      join(env.PATH, 'dpkg-deb'),
      `/bin/mkdir -p "$3/usr/sbin"
       { echo '#!/bin/sh'; echo 'echo "nats-server: v2.9.10"'; } > "$3/usr/sbin/nats-server"
       /bin/chmod 755 "$3/usr/sbin/nats-server"`,
    );
    const path = join(natsServerCacheDir(env), 'nats-server');
    expect(await obtainNatsServer({ downloadUrl, env, onProgress })).toEqual({ path, version: '2.9.10' });
  });

  it('gives Go, Debian’s tools and the program no secret of ours', async () => {
    const seen = join(dir, 'seen');
    const look = `/usr/bin/env >> '${seen}'`;
    await script(
      join(env.PATH, 'go'),
      `${look}; [ "$1" = version ] && exit
       { echo '#!/bin/sh'; echo "${look}"; echo 'echo "nats-server: v2.15.3"'; } > "$GOBIN/nats-server"
       /bin/chmod 755 "$GOBIN/nats-server"`,
    );
    const secrets = { API_TOKEN: 'a-token-of-ours', DATABASE_URL: 'postgres://u:a-token-of-ours@h/d' };
    const proxy = { https_proxy: 'http://proxy:3128', GOFLAGS: '-mod=mod' };
    await obtainNatsServer({ downloadUrl, env: { ...env, ...secrets, ...proxy }, onProgress });
    const text = await readFile(seen, 'utf8');
    expect(text).toContain('https_proxy=http://proxy:3128');
    expect(text).toContain('GOFLAGS=-mod=mod');
    expect(text).not.toContain('a-token-of-ours');
  });

  it('does not install where others may write', async () => {
    await script(join(env.PATH, 'go'), 'exit 0');
    const open = join(dir, 'open');
    await mkdir(open);
    await chmod(open, 0o777);
    const before = process.env.TMPDIR;
    process.env.TMPDIR = open;
    try {
      await expect(
        obtainNatsServer({ downloadUrl, env: { ...env, HOME: '/' }, onProgress }),
      ).rejects.toMatchObject({
        code: 'NATS_EMBEDDED',
        message: expect.stringContaining(`every user may write to ${open}`),
      });
    } finally {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
    }
    expect(await readdir(open)).toEqual([]);
  });

  it('says what was tried and what to do by hand', async () => {
    await script(
      join(env.PATH, 'go'),
      '[ "$1" = version ] && exit; echo "dial tcp: no route to host" >&2; exit 1',
    );
    await expect(obtainNatsServer({ downloadUrl, env, onProgress })).rejects.toMatchObject({
      code: 'NATS_EMBEDDED',
      message: `There is no nats-server on this machine and it could not be obtained (release: ${downloadUrl}/SHA256SUMS: connect ECONNREFUSED ${downloadUrl.slice(7)}; go install: dial tcp: no route to host; apt-get download: not found)`,
    });
    expect(await readdir(natsServerCacheDir(env))).toEqual([]);
  });
});

describe('obtainNatsServer from a release', () => {
  const archiveName = releaseArchive(pinnedNatsVersion);
  let server: Server;
  /** What the mirror serves, by path; a function answers by itself. */
  let files: Map<string, Buffer | string | ((response: ServerResponse) => void)>;
  let url: string;

  beforeEach(async () => {
    const top = archiveName.replace('.tar.gz', '');
    await writeFile(join(dir, 'README.md'), 'read me');
    await script(join(dir, top, 'nats-server'), natsServer(pinnedNatsVersion));
    await promisify(execFile)('tar', ['-czf', join(dir, archiveName), '-C', dir, 'README.md', top]);
    const archive = await readFile(join(dir, archiveName));
    const sum = createHash('sha256').update(archive).digest('hex');
    files = new Map<string, Buffer | string>([
      ['/r/SHA256SUMS', `${'0'.repeat(64)}  nats-server-v0.0.1-linux-amd64.tar.gz\n${sum}  ${archiveName}\n`],
      [`/r/${archiveName}`, archive],
    ]);
    server = createServer((request, response) => {
      const file = files.get(request.url ?? '');
      if (typeof file === 'function') file(response);
      else response.writeHead(file === undefined ? 404 : 200).end(file);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/r/`;
  });

  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });

  const cache = () => natsServerCacheDir(env);
  const obtain = (more: { renews?: boolean; signal?: AbortSignal } = {}) =>
    obtainNatsServer({ downloadUrl: url, env, onProgress, ...more });

  it('takes the archive of this machine before anything else', async () => {
    await script(join(env.PATH, 'go'), 'echo "Go was asked" >&2; exit 1');
    expect(await obtain()).toEqual({ path: join(cache(), 'nats-server'), version: pinnedNatsVersion });
    expect(progress).toEqual([
      `downloading ${url}${archiveName}`,
      `nats-server ${pinnedNatsVersion} is in ${cache()}`,
    ]);
    expect(await readdir(cache())).toEqual(['nats-server']);
  });

  it('follows the redirects that releases are served by', async () => {
    const archive = files.get(`/r/${archiveName}`) as Buffer;
    files.set(
      `/r/${archiveName}`,
      (response) => void response.writeHead(302, { location: '/store/1' }).end(),
    );
    files.set('/store/1', archive);
    expect(await obtain()).toMatchObject({ version: pinnedNatsVersion });
  });

  const sums = () => String(files.get('/r/SHA256SUMS'));
  it.each<[string, () => void, string]>([
    [
      'an archive with another sum',
      () =>
        files.set(
          `/r/${archiveName}`,
          Buffer.concat([files.get(`/r/${archiveName}`) as Buffer, Buffer.of(0)]),
        ),
      `${archiveName} is not what SHA256SUMS says`,
    ],
    [
      'an archive without a sum',
      () => files.set('/r/SHA256SUMS', sums().replace(archiveName, `other-${archiveName}`)),
      `SHA256SUMS has no line for ${archiveName}`,
    ],
    ['no archive', () => files.delete(`/r/${archiveName}`), `${archiveName} answers 404`],
    [
      'what is no archive',
      () => {
        files.set(`/r/${archiveName}`, 'hello');
        const sum = createHash('sha256').update('hello').digest('hex');
        files.set('/r/SHA256SUMS', `${sum}  ${archiveName}\n`);
      },
      'incorrect header check',
    ],
    [
      'redirects without end',
      () =>
        files.set(
          '/r/SHA256SUMS',
          (response) => void response.writeHead(302, { location: '/r/SHA256SUMS' }).end(),
        ),
      'redirects without end',
    ],
  ])('refuses %s, goes on to the next way and leaves nothing', async (_what, spoil, words) => {
    spoil();
    const failure = await obtain().catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'NATS_EMBEDDED' });
    expect(String(failure)).toContain(words);
    expect(String(failure)).toContain('go install: not found; apt-get download: not found');
    expect(progress.some((line) => line.startsWith('release: ') && line.includes(words))).toBe(true);
    expect(await readdir(cache())).toEqual([]);
  });

  it('goes on to the next way soon when nothing answers', { timeout: 30_000 }, async () => {
    files.set('/r/SHA256SUMS', () => {});
    await expect(obtain()).rejects.toThrow('nothing came from');
  });

  it('leaves nothing of a download that a signal ends', async () => {
    const stop = new AbortController();
    files.set(`/r/${archiveName}`, (response) => {
      response.writeHead(200, { 'content-length': 1_000 });
      response.write('x', () => stop.abort('SIGINT'));
    });
    await expect(obtain({ signal: stop.signal })).rejects.toMatchObject({ code: 'NATS_EMBEDDED' });
    expect(await readdir(cache())).toEqual([]);
  });

  it('replaces an older program of the cache when it is to renew it, and keeps it when it cannot', async () => {
    const path = await script(join(cache(), 'nats-server'), natsServer('2.9.10'));
    expect(await obtain()).toEqual({ path, version: '2.9.10' });
    const archive = files.get(`/r/${archiveName}`) as Buffer;
    files.delete(`/r/${archiveName}`);
    expect(await obtain({ renews: true })).toEqual({ path, version: '2.9.10' });
    files.set(`/r/${archiveName}`, archive);
    expect(await obtain({ renews: true })).toEqual({ path, version: pinnedNatsVersion });
    expect(await readdir(cache())).toEqual(['nats-server']);
  });

  it('knows the official release by its version', () => {
    expect(releaseUrl('2.15.3')).toBe('https://github.com/nats-io/nats-server/releases/download/v2.15.3');
    expect(releaseArchive('2.15.3')).toMatch(/^nats-server-v2\.15\.3-[a-z]+-[a-z0-9]+\.tar\.gz$/);
  });
});

describe('describeLacks', () => {
  it.each([
    ['2.9.10', /^nats-server 2\.9\.10 syncs its files every two minutes instead of before it acknowledges, /],
    ['2.12.0', /^nats-server 2\.12\.0 syncs its files each second instead of before it acknowledges, /],
    [pinnedNatsVersion, /^undefined$/],
  ])('%s', (version, words) => {
    expect(String(describeLacks(version))).toMatch(words);
  });
});

describe('natsServerCacheDir', () => {
  it.each([
    [{ XDG_CACHE_HOME: '/x/cache', HOME: '/h' }, '/x/cache/svc-mqtt'],
    [{ XDG_CACHE_HOME: 'relative', HOME: '/h' }, '/h/.cache/svc-mqtt'],
    [{ HOME: '/h' }, '/h/.cache/svc-mqtt'],
  ])('%j → %s', (given, path) => {
    expect(natsServerCacheDir(given)).toBe(path);
  });

  it.each(['', '/', 'relative'])('is this user’s own among the temporary ones when HOME is "%s"', (HOME) => {
    expect(natsServerCacheDir({ HOME })).toBe(join(tmpdir(), `svc-mqtt-cache-${process.getuid?.()}`));
  });

  it('is not in a home that others may write to', async () => {
    await mkdir(env.HOME);
    await chmod(env.HOME, 0o777);
    expect(natsServerCacheDir(env)).toBe(join(tmpdir(), `svc-mqtt-cache-${process.getuid?.()}`));
  });
});

describe('isAtLeast', () => {
  it.each([
    ['2.9.10', 2, 10, false],
    ['2.10.0', 2, 10, true],
    ['2.14.1', 2, 10, true],
    ['3.0.0', 2, 10, true],
    ['1.99.0', 2, 10, false],
  ])('%s, %d.%d: %s', (version, major, minor, expected) => {
    expect(isAtLeast(version, major, minor)).toBe(expected);
  });
});
