import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { findSubjectTemplate } from '../../src/cli/device/subject.js';
import { runProgram } from '../../src/cli/program.js';
import { createApiKey, type Role } from '../../src/db/api-keys.js';
import { hashSecret } from '../../src/db/secrets.js';
import type { SvcMqttError } from '../../src/errors.js';
import { describeRisks } from '../../src/policy.js';
import { readConfig } from '../../src/read-config.js';
import { type RunningHttp, startHttp } from '../../src/server/http/start.js';
import { openTestDatabase, type TestDatabase, testActor } from '../db/databases.js';
import { allReady, openConfig, openTestLog } from '../http/support.js';
import { openIdleFleet } from '../support/idle-fleet.js';
import { fakeIo, fakeTerminal, jsonLines, killLeftovers, makeTempDir, startCli, until } from './support.js';

let database: TestDatabase;
let api: RunningHttp;
let url: string;
const keys = {} as Record<Role, string>;
beforeAll(async () => {
  database = await openTestDatabase('postgres');
  api = await start();
  url = `http://127.0.0.1:${api.port}`;
});
afterAll(async () => {
  killLeftovers();
  await api?.close();
  await database?.close();
});
beforeEach(async () => {
  await database.sql('truncate devices, policies, claims, api_keys, audit_log restart identity');
  for (const role of ['operator', 'viewer', 'enroller'] as const) {
    keys[role] = (await createApiKey(database.db, testActor, { name: `the-${role}`, role })).key;
  }
  // It has heard of the first one: until then it asks for none, and `login` keeps none.
  await expect.poll(async () => (await fetch(`${url}/devices?limit=1`)).status).toBe(401);
});

async function start(apiRequestsPerSecond = openConfig.apiRequestsPerSecond): Promise<RunningHttp> {
  return await startHttp({
    db: database.db,
    feed: await database.feed(),
    config: { ...openConfig, apiRequestsPerSecond },
    log: openTestLog().log,
    readMetrics: async () => ({ contentType: 'text/plain', text: '' }),
    readiness: () => allReady,
    view: openIdleFleet(),
    version: '1.2.3',
    policyRisks: async (rules) => describeRisks(rules, 262_144),
  });
}

type Decision = 'passes' | 'loses the answer' | 'refuses' | 'hangs' | { readonly answer: unknown };

/**
 * A server in front of the API.
 *
 * @param decide what it does with a request, by its path and how many there were to that one.
 * @returns its address.
 */
async function openProxy(
  decide: (path: string, seen: number) => Decision | Promise<Decision>,
): Promise<string> {
  const seen = new Map<string, number>();
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const path = request.url ?? '';
    seen.set(path, (seen.get(path) ?? 0) + 1);
    const what = await decide(path, seen.get(path) ?? 0);
    if (what === 'hangs') return;
    if (what === 'refuses') {
      response.writeHead(403).end('{"code":"FORBIDDEN","detail":"No"}');
      return;
    }
    if (typeof what === 'object') {
      response.end(JSON.stringify(what.answer));
      return;
    }
    const { method = 'GET', headers } = request;
    const answer = await fetch(`${url}${path}`, {
      method,
      headers: { authorization: headers.authorization ?? '', 'content-type': headers['content-type'] ?? '' },
      ...(chunks.length > 0 && { body: Buffer.concat(chunks) }),
    });
    const text = await answer.text();
    if (what === 'loses the answer') request.socket.destroy();
    else response.writeHead(answer.status).end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function run(env: Record<string, string>, args: readonly string[], stdin?: string) {
  const io = fakeIo(stdin === undefined ? { env } : { env, stdin });
  const outcome = await runProgram(args, io).catch((error: SvcMqttError) => error);
  const ended = typeof outcome === 'number' ? outcome : [outcome.code, outcome.message, outcome.suggestion];
  return { outcome: ended, out: io.out(), err: io.err() };
}

const overApi = (key = keys.operator): Record<string, string> => ({ API_URL: url, API_KEY: key });
const overDatabase = (): Record<string, string> => ({
  DATABASE_URL: database.config.databaseUrl ?? '',
  // Which devices are connected both learn from the API.
  LISTEN_ADDR: `127.0.0.1:${api.port}`,
  API_KEY: keys.operator,
});

/** Text without what differs from run to run. */
function normalise(text: string): string {
  return (
    text
      .replace(/\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?/g, 'TIME')
      .replace(/svcmqtt(claim)?_[a-z2-7]{16}_[a-z2-7]{32}/g, 'KEY')
      .replace(/\b[a-z2-7]{32}\b/g, 'SECRET')
      .replace(/\b[a-z2-7]{16}\b/g, 'ID')
      // The key that is used is marked in passing, once a minute.
      .replace(/"last_used_at":(null|"TIME")/g, 'USED')
      .replace(/(the-operator\toperator\tTIME\t)(never|TIME)/g, '$1USED')
      .replace(/^\{"id":\d+,/gm, '{')
      .replace(/"actor_kind":"\S+?","actor":".*?","address":\S+?,/g, 'ACTOR,')
      .replace(/\t(cli|api-key):\S+\t(-|127\.0\.0\.1)\t/g, '\tACTOR\t')
  );
}

/** The commands, each with what it answers, with the ids that claims and keys were given. */
async function script(env: Record<string, string>): Promise<Record<string, unknown>[]> {
  const answers: Record<string, unknown>[] = [];
  const ids: string[] = [];
  const lines = [
    'device add --type sensor --id d1 --metadata site=lyon --expires 30d --json',
    'device add --type sensor --id d1',
    'device add --type pump --id d2',
    'device add --type meter --id d3 --output -',
    'device add --type many --count 19 --json',
    'device list --json --type sensor',
    'device list --sort type --reverse --json --limit 3',
    'device list --sort created --json --type many',
    'device list --metadata site=lyon',
    'device list --type none',
    'device show d1 --json',
    'device show d1',
    'device show none',
    'device set d1 --metadata floor=3 --unset site --expires never --json',
    'device set none --expires never',
    'device rotate d1 --grace 24h --until-used --json',
    'device rotate none --yes',
    'device rotate d2 --yes',
    'device revoke d1 d2 none --yes --reason stolen:é',
    'device revoke d1 --yes --reason svcmqtt_aaaaaaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
    'device revoke d1 --yes --json',
    'device list --revoked --json',
    'device list --all',
    'device enable d1 d3 none --json',
    'device remove d2 none --yes',
    'device remove d2 --yes --json',
    'device export --json --type sensor',
    'device export --type meter',
    'policy show sensor --json',
    'policy set sensor --publish x/{id} --publish x/{id} --publish-rate 5',
    'policy set sensor --publish x/{id} --publish shared --publish-rate 5 --json',
    'policy set sensor --default publish --max-packet-bytes 4096',
    'policy set sensor --default publish',
    'policy set nobody --no-subscribe',
    'policy show sensor',
    'policy list --json',
    'policy list --limit 1',
    'policy remove nobody --yes',
    'policy remove nobody --yes',
    'claim create --type sensor --uses 5 --json',
    'claim create --type sensor --expires 2h',
    'claim create --type -x',
    'claim list --json --limit 5',
    'claim revoke @0 --yes',
    'claim revoke @0 --yes --json',
    'claim revoke none --yes',
    'claim list --all',
    'api-key create --name k1 --role viewer --expires 1d --json',
    'api-key create --name k1 --role viewer',
    'api-key create --name k2 --role enroller',
    'api-key list --json',
    'api-key revoke k1 --json --yes',
    'api-key revoke k1 --yes',
    'api-key create --name k1 --role operator',
    'api-key revoke k1 --yes',
    'api-key revoke none --yes',
    'api-key list --all',
    'audit --json',
    'audit --device d1 --since 2h',
    'audit --limit 3',
  ];
  for (const line of lines) {
    const args = line.split(' ').map((word) => (word === '@0' ? (ids[0] ?? '') : word));
    const { outcome, out, err } = await run(env, args);
    if (line.startsWith('claim create') && outcome === 0) {
      const id = /"id":"(\w+)"/.exec(out)?.[1];
      if (id !== undefined) ids.push(id);
    }
    answers.push({ line, outcome, out: normalise(out).split('\n'), err: normalise(err) });
  }
  return answers;
}

describe('a command', () => {
  test('answers the same over the API as on the database', async () => {
    await database.sql('truncate audit_log restart identity');
    const onDatabase = await script(overDatabase());
    await database.sql('truncate devices, policies, claims, audit_log restart identity');
    await database.sql(`delete from api_keys where name not like 'the-%'`);
    const remotely = await script(overApi());
    const different = onDatabase.filter(
      (answer, index) => JSON.stringify(sorted(remotely[index])) !== JSON.stringify(sorted(answer)),
    );
    expect(remotely.filter(({ line }) => different.some((each) => each.line === line)).map(sorted)).toEqual(
      different.map(sorted),
    );
  });

  /** Devices of one bulk have random ids, in whose order they stand. */
  const sorted = (answer: Record<string, unknown> | undefined) => ({
    ...answer,
    out: [...((answer?.out ?? []) as string[])].sort(),
  });

  test('reads lists of more pages than one whole, and in order', async () => {
    await database.sql(`insert into devices (id, type, secret_hash, secret_salt, created_at)
      select 'd' || n, 't' || n % 3, sha256('x'), sha256('x'), now() - n * interval '1 microsecond'
      from generate_series(1, 2345) n`);
    for (const order of [
      ['--sort', 'id'],
      ['--sort', 'created'],
      ['--sort', 'type', '--reverse'],
    ]) {
      const idsOf = (out: string) => jsonLines(out).map(({ id }) => id);
      const args = ['device', 'list', '--json', ...order];
      const remotely = idsOf((await run(overApi(), args)).out);
      expect(remotely).toHaveLength(2_345);
      expect(remotely).toEqual(idsOf((await run(overDatabase(), args)).out));
    }
    const exported = await run(overApi(), ['device', 'export', '--json']);
    expect(jsonLines(exported.out)).toHaveLength(2_345);
  });

  test('is refused by name what its key may not do', async () => {
    const viewer = overApi(keys.viewer);
    expect((await run(viewer, ['device', 'list'])).outcome).toBe(0);
    const refused = [
      ['device', 'add', '--type', 'a'],
      ['policy', 'remove', 'a', '--yes'],
      ['claim', 'list'],
      ['api-key', 'list'],
      ['audit'],
    ];
    for (const args of refused)
      expect((await run(viewer, args)).outcome).toEqual(expect.arrayContaining(['FORBIDDEN']));
    const enroller = overApi(keys.enroller);
    expect((await run(enroller, ['device', 'add', '--type', 'a', '--id', 'mine'])).outcome).toBe(0);
    expect((await run(enroller, ['device', 'show', 'mine'])).outcome).toBe(0);
    expect((await run(enroller, ['device', 'list'])).outcome).toEqual(expect.arrayContaining(['FORBIDDEN']));
    const nobody = await run(overApi('svcmqtt_wrong'), ['device', 'list']);
    expect(nobody.outcome).toEqual(expect.arrayContaining(['UNAUTHENTICATED']));
  });

  describe('on many devices', () => {
    const secret = 'q8Zr1xW0vT7yLk3mNs5uBd';
    const exportHashed = async (env: Record<string, string>, ...args: string[]) =>
      (await run(env, ['device', 'export', '--hashed', ...args])).out;
    const openDir = () => {
      const dir = makeTempDir();
      onTestFinished(() => dir.remove());
      return dir.path;
    };

    test('imports what has secrets, and keeps the file of those that it makes', async () => {
      const output = join(openDir(), 'out.csv');
      const csv = `id,type,secret,metadata.site\nd1,sensor,${secret},lyon\nd2,sensor,,\n,sensor,,\n`;
      const { outcome, out } = await run(
        overApi(),
        ['device', 'import', '-', '--output', output, '--json'],
        csv,
      );
      expect([outcome, out]).toEqual([0, '{"imported":3,"refused":0,"generated":2}\n']);
      const made = readFileSync(output, 'utf8').trim().split('\n').slice(1);
      const secrets = new Map(made.map((line) => line.split(',')).map((cells) => [cells[0], cells[3]]));
      secrets.set('d1', secret);
      const rows = await database.sql<{ id: string; secret_hash: Buffer; secret_salt: Buffer }>(
        'select id, secret_hash, secret_salt from devices',
      );
      expect(rows.map(({ id }) => id).sort()).toEqual([...secrets.keys()].sort());
      for (const { id, secret_hash, secret_salt } of rows)
        expect(hashSecret(secret_salt, Buffer.from(secrets.get(id) ?? ''))).toEqual(secret_hash);
      const audit = jsonLines((await run(overApi(), ['audit', '--json'])).out);
      expect(audit.slice(-3).map(({ action, actor }) => [action, actor])).toEqual(
        Array(3).fill(['device.import', 'the-operator']),
      );
    });

    test.each([['--json'], ['--format=csv']])(
      'exports hashes as the database does, to be restored: %s',
      async (form) => {
        await run(overApi(), ['device', 'add', '--type', 'sensor', '--count', '20']);
        await run(overApi(), ['device', 'add', '--type', 'pump', '--id', 'p1', '--metadata', 'site=lyon']);
        await run(overApi(), ['device', 'rotate', 'p1', '--grace', '1d', '--until-used']);
        await run(overApi(), ['device', 'revoke', 'p1', '--yes']);
        const before = await exportHashed(overDatabase(), form);
        expect(before.trim().split('\n').length).toBeGreaterThan(20);
        expect(await exportHashed(overApi(), form)).toBe(before);
        const some = ['--type', 'pump', '--metadata', 'site=lyon', form];
        expect(await exportHashed(overApi(), ...some)).toBe(await exportHashed(overDatabase(), ...some));
        await database.sql('truncate devices');
        expect((await run(overApi(), ['device', 'import', '-', '--hashed'], before)).outcome).toBe(0);
        expect(await exportHashed(overDatabase(), form)).toBe(before);
      },
    );

    test('imports all or none, and says as the database does which ids are taken', async () => {
      const dir = openDir();
      await run(overApi(), ['device', 'add', '--type', 'sensor', '--id', 'd2']);
      const csv = 'id,type\nd1,sensor\nd2,sensor\nd3,sensor\n';
      const args = (name: string) => ['device', 'import', '-', '--output', join(dir, name)];
      const remotely = await run(overApi(), args('one.csv'), csv);
      expect(remotely.outcome).toEqual([
        'INPUT_INVALID',
        expect.stringMatching(/line 3,.*d?.*exists/),
        expect.any(String),
      ]);
      expect(remotely).toEqual(await run(overDatabase(), args('other.csv'), csv));
      expect(await database.sql('select from devices')).toHaveLength(1);
      expect(readdirSync(dir)).toEqual([]);
    });

    test('imports with --continue what is good of more than one request takes', async () => {
      const dir = openDir();
      await run(overApi(), ['device', 'add', '--type', 'sensor', '--id', 'd1234']);
      const lines = Array.from({ length: 2_345 }, (_, index) => `d${index},sensor\n`).join('');
      const csv = `id,type\n${lines}bad/id,sensor\n`;
      const refused = await run(
        overApi(),
        ['device', 'import', '-', '--output', join(dir, 'a.csv')],
        `id,type\n${lines}`,
      );
      expect(refused.outcome).toEqual([
        'INPUT_INVALID',
        'Over the API all or none goes up to 1,000 devices, and there are more; nothing was imported',
        expect.stringContaining('--continue --report'),
      ]);
      expect(await database.sql('select from devices')).toHaveLength(1);
      const files = ['--output', join(dir, 'b.csv'), '--report', join(dir, 'report.csv')];
      const { outcome, out } = await run(
        overApi(),
        ['device', 'import', '-', '--continue', ...files, '--json'],
        csv,
      );
      expect([outcome, out]).toEqual([1, '{"imported":2344,"refused":2,"generated":2344}\n']);
      expect(readdirSync(dir).sort()).toEqual(['b.csv', 'report.csv']);
      expect(readFileSync(join(dir, 'report.csv'), 'utf8')).toMatch(/1236,[^\n]*d1234/);
      expect(readFileSync(join(dir, 'b.csv'), 'utf8').trim().split('\n')).toHaveLength(2_345);
    });

    const rowsOf = (count: number) =>
      `id,type\n${Array.from({ length: count }, (_, at) => `d${at},a\n`).join('')}`;
    /** Continues an import of 2,500 devices, with the files that it writes. */
    const startImport = (env: Record<string, string>) => {
      const dir = openDir();
      const [output, report] = [join(dir, 'c.csv'), join(dir, 'report.csv')];
      const io = fakeIo({ env, stdin: rowsOf(2_500) });
      const files = ['--output', output, '--report', report];
      const ended = runProgram(['device', 'import', '-', '--continue', ...files], io).catch((error) => error);
      const readSecrets = () =>
        readFileSync(output, 'utf8')
          .trim()
          .split('\n')
          .slice(1)
          .map((line) => line.split(','));
      return { dir, output, io, ended, readSecrets };
    };

    /** The file has the secret of each device. */
    const expectSecretsOfAll = async (file: string) => {
      const cells = readFileSync(file, 'utf8')
        .trim()
        .split('\n')
        .map((line) => line.split(','));
      const secrets = new Map(cells.slice(1).map(([id, , , secret]) => [id, secret]));
      const rows = await database.sql<{ id: string; secret_hash: Buffer; secret_salt: Buffer }>(
        'select * from devices',
      );
      expect(rows.map(({ id }) => id).sort()).toEqual([...secrets.keys()].sort());
      for (const { id, secret_hash, secret_salt } of rows)
        expect(hashSecret(secret_salt, Buffer.from(secrets.get(id) ?? ''))).toEqual(secret_hash);
    };

    test('has each secret in the file before the device is sent, so that a lost answer loses none', async () => {
      const proxy = await openProxy((path, seen) =>
        path === '/devices/import' && seen === 2 ? 'loses the answer' : 'passes',
      );
      const { dir, output, ended, readSecrets } = startImport({ ...overApi(), API_URL: proxy });
      expect(await ended).toMatchObject({
        code: 'API_UNREACHABLE',
        message: expect.stringContaining(
          `Imported 1,000 devices; whether those from line 1002 on were imported too is not known (their secrets are in ${output}, with an empty created_at): `,
        ),
      });
      expect(await database.sql('select from devices')).toHaveLength(2_000);
      const rows = await database.sql<{ id: string; secret_hash: Buffer; secret_salt: Buffer }>(
        'select * from devices',
      );
      const secrets = new Map(readSecrets().map((cells) => [cells[0], cells]));
      for (const { id, secret_hash, secret_salt } of rows)
        expect(hashSecret(secret_salt, Buffer.from(secrets.get(id)?.[3] ?? ''))).toEqual(secret_hash);
      expect(readSecrets().filter((cells) => cells[4] === '')).toHaveLength(1_000);
      expect(readdirSync(dir)).toEqual(['c.csv']);
    });

    test('has no secret in the file of what was refused', async () => {
      const proxy = await openProxy((path, seen) =>
        path === '/devices/import' && seen === 2 ? 'refuses' : 'passes',
      );
      const { ended, readSecrets } = startImport({ ...overApi(), API_URL: proxy });
      expect(await ended).toMatchObject({
        code: 'FORBIDDEN',
        message: expect.stringMatching(/^Imported 1,000 devices \(their secrets are in \S+\), and then: /),
      });
      expect(readSecrets().filter((cells) => cells[4] !== '')).toHaveLength(1_000);
      expect(readSecrets()).toHaveLength(1_000);
    });

    test('keeps the secrets of what was imported until a signal came', async () => {
      const stop = { now: () => {} };
      const proxy = await openProxy((path, seen) => {
        if (path === '/devices/import' && seen === 2) stop.now();
        return 'passes';
      });
      const { io, ended, readSecrets } = startImport({ ...overApi(), API_URL: proxy });
      stop.now = () => io.stop('SIGINT');
      expect(await ended).toMatchObject({
        exitStatus: 130,
        told: expect.stringMatching(
          /^Imported 2,000 devices \(their secrets are in \S+\), and then: interrupted$/,
        ),
      });
      expect(await database.sql('select from devices')).toHaveLength(2_000);
      expect(readSecrets().filter((cells) => cells[4] !== '')).toHaveLength(2_000);
    });

    test.each([
      { output: false, force: false },
      { output: true, force: false },
      { output: true, force: true },
    ])('shows or keeps the secrets of what was added until a signal came: %j', async ({ output, force }) => {
      const dir = openDir();
      const file = join(dir, 'c.jsonl');
      if (force) writeFileSync(file, 'old');
      const io = fakeIo({ env: overApi() });
      const ended = runProgram(
        [
          ...['device', 'add', '--type', 'a', '--count', '3000', '--json'],
          ...(output ? ['--output', file] : []),
          ...(force ? ['--force'] : []),
        ],
        io,
      ).catch((error) => error);
      await expect.poll(async () => (await database.sql('select from devices')).length).toBeGreaterThan(20);
      io.stop('SIGINT');
      const told = await ended;
      const stored = (await database.sql<{ id: string }>('select id from devices')).map(({ id }) => id);
      expect(told).toMatchObject({
        exitStatus: 130,
        told: `${stored.length.toLocaleString('en-US')} of 3,000 devices were added, and then: interrupted`,
      });
      const secrets = jsonLines(output ? readFileSync(file, 'utf8') : io.out());
      expect(secrets.map(({ id }) => id).sort()).toEqual(stored.sort());
      expect(readdirSync(dir)).toEqual(output ? ['c.jsonl'] : []);
      expect(io.err()).toContain(output ? `Keep ${file}: it has the only copy of ` : '');
    });

    test.each([
      { output: false, force: false },
      { output: true, force: true },
    ])(
      'shows or keeps the secrets of what was added until a second signal: %j',
      async ({ output, force }) => {
        const dir = openDir();
        const file = join(dir, 'c.jsonl');
        if (force) writeFileSync(file, 'old');
        const proxy = await openProxy((path, seen) =>
          path === '/devices' && seen > 12 ? 'hangs' : 'passes',
        );
        const {
          child,
          output: written,
          ended,
        } = startCli(
          [
            ...['device', 'add', '--type', 'a', '--count', '20', '--json'],
            ...(output ? ['--output', file] : []),
            ...(force ? ['--force'] : []),
          ],
          { ...overApi(), API_URL: proxy },
        );
        await until('some are added', async () => (await database.sql('select from devices')).length === 12);
        child.kill('SIGINT');
        await until('it waits', () => written.stderr.includes('another signal ends the command at once'));
        child.kill('SIGINT');
        const { status, stdout, stderr } = await ended;
        expect(status).toBe(130);
        const stored = (await database.sql<{ id: string }>('select id from devices')).map(({ id }) => id);
        const secrets = jsonLines(output ? readFileSync(file, 'utf8') : stdout);
        expect(secrets.map(({ id }) => id).sort()).toEqual(stored.sort());
        expect(readdirSync(dir)).toEqual(output ? ['c.jsonl'] : []);
        expect(stderr).toContain('Ended at once: some of these devices may not be there, and others may be.');
        expect(stderr).toContain(output ? `Keep ${file}: it has the only copy of 12 passwords` : '');
      },
    );

    test.each([
      { force: false, report: false },
      { force: true, report: false },
      { force: false, report: true },
    ])('keeps the secrets of what is stored when the file takes no more: %j', async ({ force, report }) => {
      const dir = openDir();
      const output = join(dir, 'c.csv');
      if (force) writeFileSync(output, 'old');
      const args = ['device', 'import', '-', '--output', output, ...(force ? ['--force'] : [])];
      if (report) args.push('--continue', '--report', join(dir, 'report.csv'));
      // With the times of their making they are longer than that.
      const ran = await startCli(args, overApi(), rowsOf(20), 2).ended;
      expect(ran).toMatchObject({ status: 1, stdout: '' });
      expect(ran.stderr).toContain(
        `svc-mqtt: Imported 20 devices (their secrets are in ${output}, with an empty created_at), and then: The file ${output} cannot be written: EFBIG: file too large\n`,
      );
      await expectSecretsOfAll(output);
      expect(readdirSync(dir)).toEqual(['c.csv']);
    });

    test.each([
      ['import', '-'],
      ['add', '--type', 'a', '--count', '20'],
    ])('says where the secrets are that cannot be put in their place: %s', async (...args) => {
      const dir = openDir();
      const output = join(dir, 'c.csv');
      const proxy = await openProxy((path) => {
        if (path.startsWith('/devices')) mkdirSync(output, { recursive: true });
        return 'passes';
      });
      const env = { ...overApi(), API_URL: proxy };
      const { outcome } = await run(env, ['device', ...args, '--output', output, '--force'], rowsOf(20));
      const [part = ''] = readdirSync(dir).filter((name) => name.endsWith('.part'));
      const what =
        args[0] === 'add' ? 'The only copy of 20 passwords is not' : 'Imported 20 devices, and then';
      expect(outcome).toEqual([
        'INTERNAL',
        expect.stringMatching(`^${what}.*: The file ${output} cannot be written: EISDIR`),
        `What was written is in ${join(dir, part)}`,
      ]);
      await expectSecretsOfAll(join(dir, part));
      const refused = await run(env, ['device', ...args, '--output', output, '--force'], rowsOf(20));
      expect(refused.outcome).toEqual([
        'INPUT_INVALID',
        `${output} is there, and is no file`,
        'Choose another name',
      ]);
      expect(await database.sql('select from devices')).toHaveLength(20);
    });

    test('keeps the secrets of devices when what answers does not say which are there', async () => {
      const output = join(openDir(), 'c.csv');
      const proxy = await openProxy((path) => (path === '/devices/import' ? { answer: {} } : 'passes'));
      const env = { ...overApi(), API_URL: proxy };
      const { outcome } = await run(env, ['device', 'import', '-', '--output', output], rowsOf(2));
      expect(outcome).toEqual([
        'INTERNAL',
        expect.stringContaining(
          `Whether the devices were imported is not known (their secrets are in ${output}`,
        ),
        expect.any(String),
      ]);
      expect(readFileSync(output, 'utf8')).toMatch(/^d0,a,d0,[a-z2-7]{32},\nd1,a,d1,[a-z2-7]{32},\n$/m);
    });

    test('names the devices whose secrets the file did not take, and keeps the others whole', async () => {
      const output = join(openDir(), 'c.csv');
      const { stderr, status } = await startCli(
        ['device', 'add', '--type', 'a', '--count', '40', '--output', output],
        overApi(),
        '',
        2,
      ).ended;
      expect(status).toBe(1);
      const [, added, lost = ''] =
        /: (\d+) of 40 devices were added, (.*) without a secret/.exec(stderr) ?? [];
      const rows = await database.sql<{ id: string }>('select id from devices');
      expect(rows).toHaveLength(Number(added));
      const records = readFileSync(output, 'utf8').trim().split('\n').slice(1);
      for (const record of records) expect(record).toMatch(/^\w{16},a,\w{16},\w{32},\S{24}$/);
      const ids = records.map((record) => record.split(',')[0]);
      expect([...ids, ...lost.split(', ')].sort()).toEqual(rows.map(({ id }) => id).sort());
      expect(stderr).toContain(`Keep ${output}: it has the only copy of ${ids.length} passwords.`);
    });

    test('ends once, whatever comes to its end when a second signal does', async () => {
      const dir = openDir();
      const output = join(dir, 'c.jsonl');
      writeFileSync(output, 'old');
      let refuse = () => {};
      const refused = new Promise<Decision>((resolve) => {
        refuse = () => resolve('refuses');
      });
      const proxy = await openProxy((path, seen) => (path === '/devices' && seen > 12 ? refused : 'passes'));
      const io = fakeIo({ env: { ...overApi(), API_URL: proxy } });
      const args = ['device', 'add', '--type', 'a', '--count', '13', '--output', output, '--force'];
      const ended = runProgram(args, io).catch((error) => error);
      const linesOf = (name: string) => readFileSync(join(dir, name), 'utf8').split('\n').length - 1;
      await until('some are kept', () => readdirSync(dir).some((name) => linesOf(name) === 12));
      io.stop('SIGINT');
      const told = io.endAtOnce();
      refuse();
      await told;
      expect(await ended).toMatchObject({ code: 'FORBIDDEN' });
      await io.endAtOnce();
      expect([linesOf('c.jsonl'), ...readdirSync(dir)]).toEqual([12, 'c.jsonl']);
      expect(io.err().match(/^Keep .*$/gm)).toEqual([
        `Keep ${output}: it has the only copy of 12 passwords.`,
      ]);
      expect(io.err().match(/^Ended at once/gm)).toHaveLength(1);
    });

    test.each([{ output: false }, { output: true }])(
      'says nothing of devices that may not be there when all are: %j',
      async ({ output }) => {
        const io = fakeIo({ env: overApi() });
        const file = join(openDir(), 'c.csv');
        const args = ['device', 'add', '--type', 'a', '--count', '2', ...(output ? ['--output', file] : [])];
        expect(await runProgram(args, io)).toBe(0);
        const said = io.err();
        io.stop('SIGINT');
        await io.endAtOnce();
        expect(io.err()).toBe(said);
      },
    );

    test.each([{ force: false }, { force: true }])(
      'keeps the secrets of what was imported until a second signal: %j',
      async ({ force }) => {
        const dir = openDir();
        const [output, report] = [join(dir, 'c.csv'), join(dir, 'report.csv')];
        if (force) writeFileSync(output, 'old');
        const proxy = await openProxy((path, seen) =>
          path === '/devices/import' && seen > 1 ? 'hangs' : 'passes',
        );
        const args = ['device', 'import', '-', '--continue', '--output', output, '--report', report];
        const running = startCli(
          [...args, ...(force ? ['--force'] : [])],
          { ...overApi(), API_URL: proxy },
          rowsOf(1_500),
        );
        const countSecrets = () =>
          readdirSync(dir)
            .filter((name) => name.startsWith('c.csv'))
            .map((name) => readFileSync(join(dir, name), 'utf8').split('\n').length - 2);
        await until('all are sent', () => countSecrets().includes(1_500));
        running.child.kill('SIGINT');
        await until('it waits', () =>
          running.output.stderr.includes('another signal ends the command at once'),
        );
        running.child.kill('SIGINT');
        const { status, stderr } = await running.ended;
        expect(status).toBe(130);
        expect(stderr).toContain(
          `svc-mqtt: Imported 1,000 devices; whether those from line 1002 on were imported too is not known (their secrets are in ${output}, with an empty created_at): interrupted\n`,
        );
        expect(readdirSync(dir)).toEqual(['c.csv']);
        expect(countSecrets()).toEqual([1_500]);
      },
    );

    test('is refused to others than operators, and leaves no file', async () => {
      const dir = openDir();
      for (const args of [
        ['device', 'import', '-', '--output', join(dir, 'in.csv')],
        ['device', 'export', '--hashed', '--output', join(dir, 'out.csv')],
      ]) {
        const { outcome } = await run(overApi(keys.viewer), args, 'type\nsensor\n');
        expect(outcome).toEqual(expect.arrayContaining(['FORBIDDEN']));
      }
      expect(readdirSync(dir)).toEqual([]);
    });
  });

  test('that reads from NATS looks its device up where the others do', async () => {
    const io = fakeIo({ env: { ...overApi(), NATS_SUBJECT: 'raw.{id}' } });
    await run(overApi(), ['device', 'add', '--type', 'meter', '--id', 'm1']);
    await run(overApi(), ['policy', 'set', 'meter', '--nats-subject', 'raw.meters.{id}']);
    const config = readConfig({ env: { ...io.env } });
    expect(await findSubjectTemplate(config, 'm1', io)).toBe('raw.meters.{id}');
    expect(io.err()).toBe('');
    await expect(findSubjectTemplate(config, 'm2', io)).rejects.toMatchObject({ code: 'DEVICE_NOT_FOUND' });
    expect((await run(overApi(), ['tail-nats', '--device', 'm2'])).outcome).toEqual(
      expect.arrayContaining(['DEVICE_NOT_FOUND']),
    );
  });

  test('uses one place, or says that two are named', async () => {
    const both = { ...overDatabase(), ...overApi() };
    expect((await run(both, ['device', 'list'])).outcome).toEqual([
      'USAGE',
      'API_URL and DATABASE_URL are both given, and name different places',
      'Give one of them',
    ]);
    const dead = { API_URL: 'http://127.0.0.1:1', DATABASE_URL: database.config.databaseUrl ?? '' };
    const chosen = ['device', 'list', '--url', url];
    expect((await run({ ...dead, API_KEY: keys.operator }, chosen)).outcome).toBe(0);
    const database_ = ['device', 'list', '--database-url', dead.DATABASE_URL];
    const withoutUser = { API_URL: dead.API_URL };
    if (!/:\/\/[^@]*:[^@]*@/.test(dead.DATABASE_URL))
      expect((await run(withoutUser, database_)).outcome).toBe(0);
  });

  test('asks for nothing else than what is named: . and .. are no ids', async () => {
    for (const args of [
      ['device', 'show', '..'],
      ['device', 'revoke', '.', '--yes'],
      ['policy', 'remove', '..', '--yes'],
    ])
      expect((await run(overApi(), args)).outcome).toEqual([
        'INPUT_INVALID',
        `Nothing can be called "${args[2]}"`,
        undefined,
      ]);
  });

  test('takes the login in use, and says which that is', async () => {
    const dir = makeTempDir();
    onTestFinished(() => dir.remove());
    const env = { XDG_CONFIG_HOME: dir.path };
    const login = await run(env, ['login', url, '--name', 'prod'], keys.operator);
    expect(login.outcome).toBe(0);
    const added = await run(env, ['device', 'add', '--type', 'sensor', '--id', 'd1', '--json']);
    expect(added).toMatchObject({ outcome: 0, err: `On ${url} (context prod).\n` });
    const onDatabase = await run({ ...env, ...overDatabase() }, ['device', 'list']);
    expect(onDatabase).toMatchObject({ outcome: 0, err: '' });
    expect(onDatabase.out).toContain('d1');
    const local = await run({ ...env, DATA_DIR: '' }, ['device', 'list', '--context', 'local']);
    expect(local.outcome).toEqual(expect.arrayContaining(['DATABASE_EMBEDDED']));
  });

  test.each([
    ['a device was added', ['device', 'add', '--type', 'a']],
    ['the device has a new secret', ['device', 'rotate', 'd1', '--yes']],
    ['the claim was made', ['claim', 'create', '--type', 'a']],
    ['the key was made', ['api-key', 'create', '--name', 'k', '--role', 'viewer']],
  ])('that makes a secret says when its answer is lost: whether %s', async (what, args) => {
    await run(overApi(), ['device', 'add', '--type', 'a', '--id', 'd1']);
    const proxy = await openProxy((path) => (path.includes('?') ? 'passes' : 'loses the answer'));
    const { outcome } = await run({ ...overApi(), API_URL: proxy }, args);
    expect(outcome).toEqual([
      'API_UNREACHABLE',
      expect.stringMatching(`^Whether ${what} is not known: ${proxy} does not answer: `),
      expect.any(String),
    ]);
  });

  test('that reads a payload from stdin is ended by a signal', async () => {
    const stdin = fakeTerminal();
    const io = { ...fakeIo({ env: overApi() }), stdin };
    const ended = runProgram(['device', 'send', 'd1', 'x', '-'], io).catch((error) => error);
    await until('it reads', () => stdin.listenerCount('readable') > 0);
    io.stop('SIGINT');
    expect(await ended).toMatchObject({ exitStatus: 130 });
  });

  test('waits when it has made too many requests', async () => {
    const slow = await start(8);
    onTestFinished(() => slow.close());
    const env = { API_URL: `http://127.0.0.1:${slow.port}`, API_KEY: keys.operator };
    const added = await run(env, ['device', 'add', '--type', 'a', '--count', '24', '--json']);
    expect(added.outcome).toBe(0);
    expect(jsonLines(added.out)).toHaveLength(24);
  });

  test('that waits for another is interrupted by a signal, behind what is known of it', async () => {
    const time = new Date().toISOString();
    const proxy = await openProxy(() => {
      io.stop('SIGINT');
      const [stream, client] = ['S', 'c'];
      const session = { client, state: 'waiting', qos: 1, connected: false };
      const command = { device: 'd1', topic: 'x', stream, sequence: 1, bytes: 1, qos: 1, stored_at: time };
      return {
        answer: { ...command, state: 'waiting', expires_at: null, sessions: [session], replicas: [] },
      };
    });
    const io = fakeIo({ env: { API_URL: proxy } });
    const args = ['device', 'command', 'd1', '1', '--wait', '10m'];
    expect(await runProgram(args, io).catch((error) => error)).toMatchObject({ exitStatus: 130 });
    expect(io.out()).toMatch(/^state +waiting$/m);
  });

  describe('that sends to many', () => {
    const startSending = async (stop: (io: ReturnType<typeof fakeIo>) => void) => {
      await run(overApi(), ['device', 'add', '--type', 'many', '--count', '20']);
      const proxy = await openProxy((path) => {
        if (!path.endsWith('/commands')) return 'passes';
        stop(io);
        const device = path.split('/')[2];
        return { answer: { device, topic: 'x', stored: { stream: 'S', sequence: 1 }, answer: null } };
      });
      const io = fakeIo({ env: { ...overApi(), API_URL: proxy } });
      const args = ['device', 'send', '--type', 'many', 'x', 'y', '--yes'];
      return { io, outcome: await runProgram(args, io).catch((error) => error) };
    };

    test('says after a signal how many were not sent', async () => {
      const { io, outcome } = await startSending((each) => each.stop('SIGINT'));
      expect(outcome).toMatchObject({ exitStatus: 130, told: '12 devices not sent: interrupted' });
      expect(io.out()).toBe('8 devices sent, 0 failed\n');
    });

    test('stops when nobody reads what it says', async () => {
      const { io, outcome } = await startSending((each) => each.closeOutput());
      expect(outcome).toBe(1);
      expect(io.err()).toContain('12 devices not sent: nobody reads on.\n');
    });
  });

  test.each(['revoke', 'remove'])(
    'says of each device what became of it before one failed: %s',
    async (verb) => {
      const ids = Array.from({ length: 20 }, (_, at) => `d${String(at).padStart(2, '0')}`);
      for (const id of ids) await run(overApi(), ['device', 'add', '--type', 'a', '--id', id]);
      const proxy = await openProxy((path, seen) =>
        path === (verb === 'revoke' ? '/devices/d09' : '/devices/d09/remove') &&
        seen === (verb === 'revoke' ? 2 : 1)
          ? 'loses the answer'
          : 'passes',
      );
      const args = ['device', verb, 'none', ...ids, '--yes'];
      const { outcome, out } = await run({ ...overApi(), API_URL: proxy }, args);
      expect(outcome).toEqual([
        'API_UNREACHABLE',
        expect.stringMatching(/^14 of 21 devices done; There is no device none, and then: http/),
        expect.any(String),
      ]);
      const told = out
        .trim()
        .split('\n')
        .map((line) => line.split(' ')[0]);
      expect(told).toEqual(ids.slice(0, 15).filter((id) => id !== 'd09'));
    },
  );

  test('keeps the secrets of the devices that were added before it failed', async () => {
    const dir = makeTempDir();
    onTestFinished(() => dir.remove());
    await database.sql(`create function refuse() returns trigger language plpgsql as $$ begin
      if (select count(*) from devices) >= 10 then raise exception 'full'; end if; return new; end $$`);
    await database.sql(
      'create trigger refuse before insert on devices for each row execute function refuse()',
    );
    onTestFinished(async () => {
      await database.sql('drop function refuse cascade');
    });
    const stored = async () =>
      (await database.sql<{ id: string }>('select id from devices')).map(({ id }) => id).sort();
    const args = ['device', 'add', '--type', 'a', '--count', '30'];
    const shown = await run(overApi(), [...args, '--json']);
    expect(shown.outcome).toEqual([
      expect.any(String),
      expect.stringMatching(/^\d+ of 30 devices were added, and then: /),
      undefined,
    ]);
    expect(
      jsonLines(shown.out)
        .map(({ id }) => id)
        .sort(),
    ).toEqual(await stored());
    await database.sql('truncate devices');
    const output = join(dir.path, 'secrets.jsonl');
    await run(overApi(), [...args, '--output', output]);
    expect((await stored()).length).toBeGreaterThan(0);
    expect(
      jsonLines(readFileSync(output, 'utf8'))
        .map(({ id }) => id)
        .sort(),
    ).toEqual(await stored());
  });
});
