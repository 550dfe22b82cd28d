import { spawnSync } from 'node:child_process';
import { chmod, copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect } from 'nats';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { freePort } from '../support/free-port.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { borrowPostgres, createDatabase, postgresTemplateVariable, withClient } from '../support/postgres.js';
import { launchServer, programFile } from '../support/server-process.js';
import { processesOf, takePort } from './processes.js';

type Later = (release: () => Promise<void> | void) => void;

let postgres: Awaited<ReturnType<typeof borrowPostgres>>;
let nats: TestNatsServer;
let lockedNats: TestNatsServer;
let plainNats: TestNatsServer;
let databaseUrl: string;

beforeAll(async () => {
  postgres = await borrowPostgres();
  [nats, lockedNats, plainNats] = await Promise.all([
    startNatsServer(),
    startNatsServer({ configExtra: 'authorization { user: gateway, password: open-sesame }' }),
    startNatsServer({ jetstream: false }),
  ]);
  databaseUrl = await createDatabase(postgres.url, process.env[postgresTemplateVariable]);
});
afterAll(async () => {
  for (const server of [nats, lockedNats, plainNats]) await server?.stop();
  await postgres?.release();
});

async function temporaryDirectory(later: Later): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'svc mqtt start-'));
  later(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

interface Failure {
  readonly name: string;
  /** Settings besides a database and NATS that work; undefined values are taken away. */
  settings(later: Later, dataDir: string): Promise<Record<string, string | undefined>>;
  readonly args?: string[];
  readonly status: number;
  /** What the line names, as patterns: what, where, what to do. */
  readonly says: (string | RegExp)[];
  /** As an ordinary user, which makes sense for root only. */
  readonly uid?: number;
}

const withPassword = (url: string, password: string) => {
  const changed = new URL(url);
  changed.password = password;
  return changed.href;
};

const failures: Failure[] = [
  {
    name: 'PostgreSQL unreachable',
    settings: async () => ({ DATABASE_URL: 'postgres://user:sekrit-word@127.0.0.1:1/things' }),
    status: 1,
    says: ['127.0.0.1:1', /database|PostgreSQL/i, /DATABASE_URL|start/i],
  },
  {
    name: 'PostgreSQL silent',
    settings: async (later) => {
      const taken = await takePort();
      later(taken.release);
      return {
        DATABASE_URL: `postgres://user:sekrit-word@127.0.0.1:${taken.port}/things`,
        DATABASE_TIMEOUT_MS: '500',
      };
    },
    status: 1,
    says: ['127.0.0.1:', /database|PostgreSQL/i],
  },
  {
    name: 'wrong database password',
    settings: async () => ({ DATABASE_URL: withPassword(databaseUrl, 'sekrit-word') }),
    status: 1,
    says: [/password|refuse/i, '127.0.0.1:', /DATABASE_URL/],
  },
  {
    name: 'no such database',
    settings: async () => ({ DATABASE_URL: databaseUrl.replace(/\/[^/]+$/, '/no_such_thing') }),
    status: 1,
    says: ['no_such_thing'],
  },
  {
    name: 'an empty database with --no-migrate',
    settings: async () => ({ DATABASE_URL: await createDatabase(postgres.url) }),
    args: ['--no-migrate'],
    status: 1,
    says: ['migrat', 'svc-mqtt migrate'],
  },
  {
    name: "the Go service's table with --no-migrate",
    settings: async () => {
      const url = await createDatabase(postgres.url);
      await withClient(url, (client) =>
        client.query(
          'create table devices (id text primary key, device_type text, mqtt_user text, mqtt_password text, created_at timestamptz)',
        ),
      );
      return { DATABASE_URL: url, MIGRATE: 'false' };
    },
    status: 1,
    says: ['svc-mqtt migrate'],
  },
  {
    name: 'a schema of a newer program',
    settings: async () => {
      const url = await createDatabase(postgres.url, process.env[postgresTemplateVariable]);
      await withClient(url, (client) =>
        client.query(
          `insert into svc_mqtt_migrations (hash, created_at) values ('of the future', 99999999999999)`,
        ),
      );
      return { DATABASE_URL: url };
    },
    status: 1,
    says: [/newer/],
  },
  {
    name: 'NATS unreachable',
    settings: async () => ({ NATS_URL: 'nats://user:sekrit-word@127.0.0.1:1' }),
    status: 1,
    says: ['NATS', '127.0.0.1:1', 'NATS_URL'],
  },
  {
    name: 'NATS silent',
    settings: async (later) => {
      const taken = await takePort();
      later(taken.release);
      return { NATS_URL: `nats://127.0.0.1:${taken.port}` };
    },
    status: 1,
    says: ['NATS', '127.0.0.1:'],
  },
  {
    name: 'NATS without the credentials',
    settings: async () => ({ NATS_URL: lockedNats.url }),
    status: 1,
    says: ['NATS', 'credentials', 'NATS_USER'],
  },
  {
    name: 'NATS with a wrong password',
    settings: async () => ({
      NATS_URL: lockedNats.url,
      NATS_USER: 'gateway',
      NATS_PASSWORD: 'sekrit-word',
    }),
    status: 1,
    says: ['NATS', 'credentials', 'NATS_PASSWORD'],
  },
  {
    name: 'NATS without JetStream',
    settings: async () => ({ NATS_URL: plainNats.url }),
    status: 1,
    says: ['JetStream', 'ENABLE_JETSTREAM'],
  },
  {
    name: 'a stream that takes only part of the subjects',
    settings: async () => {
      const connection = await connect({ servers: nats.url });
      await (await connection.jetstreamManager()).streams.add({ name: 'PART', subjects: ['part.one'] });
      await connection.close();
      return { NATS_URL: nats.url, NATS_SUBJECT: 'part.{id}', NATS_STREAM: 'WHOLE' };
    },
    status: 1,
    says: ['PART', 'NATS_SUBJECT'],
  },
  {
    name: 'MQTT port taken',
    settings: async (later) => {
      const taken = await takePort();
      later(taken.release);
      return { MQTT_PORT: String(taken.port) };
    },
    status: 1,
    says: ['MQTT', '127.0.0.1', 'MQTT_PORT'],
  },
  {
    name: 'an address for MQTT in brackets',
    settings: async () => ({ MQTT_HOST: '[::1]' }),
    status: 1,
    says: ['MQTT_HOST', /without brackets/],
  },
  {
    name: 'HTTP port taken',
    settings: async (later) => {
      const taken = await takePort();
      later(taken.release);
      return { LISTEN_ADDR: `127.0.0.1:${taken.port}` };
    },
    status: 1,
    says: [/HTTP|API/, '127.0.0.1', 'LISTEN_ADDR'],
  },
  {
    name: 'MQTT port taken, embedded database and NATS',
    settings: async (later) => {
      const taken = await takePort();
      later(taken.release);
      return {
        DATABASE_URL: undefined,
        NATS_URL: undefined,
        EMBEDDED_NATS_PORT: '0',
        MQTT_PORT: String(taken.port),
      };
    },
    status: 1,
    says: ['MQTT', '127.0.0.1', 'MQTT_PORT'],
  },
  {
    name: 'the port of the embedded NATS server taken by something else',
    settings: async (later) => {
      const taken = await takePort();
      later(taken.release);
      return { NATS_URL: undefined, EMBEDDED_NATS_PORT: String(taken.port) };
    },
    status: 1,
    says: ['NATS', '127.0.0.1', 'EMBEDDED_NATS_PORT'],
  },
  {
    name: 'a nats-server program that is none',
    settings: async () => ({ NATS_URL: undefined, EMBEDDED_NATS_PORT: '0', NATS_SERVER_BIN: '/bin/false' }),
    status: 1,
    says: ['/bin/false'],
  },
  {
    name: 'a nats-server program that is not there',
    settings: async () => ({
      NATS_URL: undefined,
      EMBEDDED_NATS_PORT: '0',
      NATS_SERVER_BIN: '/no/such/nats-server',
    }),
    status: 1,
    says: ['/no/such/nats-server', 'NATS_SERVER_BIN'],
  },
  {
    name: 'a data directory that is a file',
    settings: async (_later, dataDir) => {
      await writeFile(path.join(dataDir, 'file'), '');
      return { DATABASE_URL: undefined, DATA_DIR: path.join(dataDir, 'file') };
    },
    status: 1,
    says: ['file', 'DATA_DIR'],
  },
  {
    name: 'a data directory that this user may not write, for the database',
    settings: async (_later, dataDir) => {
      await chmod(dataDir, 0o555);
      return { DATABASE_URL: undefined };
    },
    uid: 65_534,
    status: 1,
    says: [/EACCES|permission|write/, 'DATA_DIR'],
  },
  {
    name: 'a data directory that this user may not write, for NATS',
    settings: async (later, dataDir) => {
      await chmod(dataDir, 0o555);
      // Where the test runs as root, the program may lie where only root can read it.
      const programs = await temporaryDirectory(later);
      await chmod(programs, 0o755);
      const program = path.join(programs, 'nats-server');
      await copyFile(process.env.NATS_SERVER_BIN ?? '', program);
      return { NATS_URL: undefined, EMBEDDED_NATS_PORT: '0', NATS_SERVER_BIN: program };
    },
    uid: 65_534,
    status: 1,
    says: [/EACCES|permission|write/, 'DATA_DIR'],
  },
  {
    name: 'several settings that cannot be',
    settings: async () => ({
      MQTT_PORT: 'many',
      MAX_IN_FLIGHT: '0',
      API_TOKEN: 'short',
      DATABASE_DSN: undefined,
    }),
    status: 2,
    says: ['MQTT_PORT', '"many"', 'MAX_IN_FLIGHT', 'API_TOKEN'],
  },
  {
    name: 'an unknown option',
    settings: async () => ({}),
    args: ['--no-such-thing'],
    status: 2,
    says: ['--no-such-thing'],
  },
  {
    name: 'a database URL that is none',
    settings: async () => ({ DATABASE_URL: 'mysql://user:sekrit-word@127.0.0.1/x' }),
    status: 2,
    says: ['DATABASE_URL'],
  },
  {
    name: 'a NATS URL that is none',
    settings: async () => ({ NATS_URL: 'http://user:sekrit-word@[::/x' }),
    status: 2,
    says: ['NATS_URL'],
  },
  {
    name: 'a subject that is none',
    settings: async () => ({ NATS_SUBJECT: 'raw..{id}' }),
    status: 2,
    says: ['NATS_SUBJECT', 'raw..{id}'],
  },
];

const isRoot = process.getuid?.() === 0;

/** Whether a user other than root could run the program where it lies. */
function mayRunAs(uid: number): boolean {
  return spawnSync(process.execPath, [programFile, '--version'], { uid, gid: uid, cwd: '/' }).status === 0;
}

const readable = new Set(['PostgreSQL unreachable', 'MQTT port taken, embedded database and NATS']);
const cases = failures.flatMap((failure) => [
  { ...failure, format: 'json' },
  ...(readable.has(failure.name) ? [{ ...failure, format: 'pretty' }] : []),
]);

test.for(cases)(
  '$name ($format log): one line that says what, where and what to do; nothing is left behind',
  { timeout: 300_000 },
  async (failure, { onTestFinished, skip }) => {
    const uid = isRoot ? failure.uid : undefined;
    if (uid !== undefined) skip(!mayRunAs(uid), 'another user cannot read the program here');
    const later: Later = (release) => onTestFinished(release);
    const dataDir = await temporaryDirectory(later);
    const [mqttPort, httpPort] = [await freePort(), await freePort()];
    const given = {
      DATABASE_URL: databaseUrl,
      NATS_URL: nats.url,
      DATA_DIR: dataDir,
      MQTT_PORT: String(mqttPort),
      LISTEN_ADDR: `127.0.0.1:${httpPort}`,
      LOG_FORMAT: failure.format,
      START_WAIT: '0',
      ...(await failure.settings(later, dataDir)),
    };
    const env = Object.fromEntries(
      Object.entries(given).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
    const launched = launchServer(env, {
      args: failure.args ?? [],
      ...(uid === undefined ? {} : { uid }),
    });
    onTestFinished(() => launched.signal('SIGKILL'));
    const status = await launched.ended;

    const text = launched.stderr.join('\n');
    expect([status, text]).toEqual([failure.status, text]);
    expect(launched.stdout).toEqual([]);
    const lines = launched.stderr.filter((line) => line.startsWith('svc-mqtt: '));
    expect(lines).toHaveLength(1);
    // It stands last, where a person looks.
    expect(launched.stderr.at(-1)).toBe(lines[0]);
    if (failure.format === 'json')
      expect(launched.stderr.filter((line) => !line.startsWith('{'))).toEqual(lines);
    for (const said of failure.says) expect(lines[0]).toMatch(said);
    expect(text).not.toMatch(/^\s+at /m);
    expect(text).not.toContain('sekrit-word');
    expect(launched.log.filter(({ level }) => Number(level) >= 50)).toEqual([]);

    expect(await processesOf(dataDir)).toEqual([]);
    for (const port of [mqttPort, httpPort]) await (await takePort(port)).release();
  },
);
