import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, DiscardPolicy, RetentionPolicy, StorageType, type StreamConfig } from 'nats';
import { beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { runProgram } from '../../src/cli/program.js';
import { listAudit } from '../../src/db/audit-log.js';
import { openDatabase } from '../../src/db/connection/open.js';
import { listDevices } from '../../src/db/devices/devices.js';
import { removePolicy, setPolicy } from '../../src/db/policies.js';
import { openLog } from '../../src/log.js';
import { readConfig } from '../../src/read-config.js';
import { isAtLeast } from '../../src/server/forward/connection/server-version.js';
import { startServer } from '../../src/server/start.js';
import { openDatabase as createMigrated } from '../faults/gateway.js';
import { createAuthority, openTestFiles } from '../support/certificates.js';
import { freePort } from '../support/free-port.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { fakeIo } from './support.js';

interface Check {
  check: string;
  status: string;
  detail: string;
  action: string | null;
}

const log = openLog({ level: 'silent', format: 'json' });
const later = undoAfterAll();
let nats: TestNatsServer;
let env: Record<string, string>;
let streams = 0;

beforeAll(async () => {
  nats = await startNatsServer();
  later(() => nats.stop());
  env = {
    DATABASE_URL: await createMigrated(later),
    NATS_URL: nats.url,
    MQTT_HOST: '127.0.0.1',
    MQTT_PORT: String(await freePort()),
    LISTEN_ADDR: `127.0.0.1:${await freePort()}`,
    MAX_CONNECTIONS: '100',
  };
});

/** Runs the doctor; `find` answers the findings of a check. */
async function examine(more: Record<string, string> = {}, args: readonly string[] = []) {
  const io = fakeIo({ env: { ...env, ...more } });
  const exit = await runProgram(['doctor', '--json', ...args], io);
  expect(io.err()).toBe('');
  const { status, checks } = JSON.parse(io.out()) as { status: string; checks: Check[] };
  for (const { status: each, action } of checks) {
    expect(action !== null).toBe(each === 'warning' || each === 'problem');
  }
  expect(status).toBe(exit === 0 ? 'ok' : 'problems');
  return {
    exit,
    checks,
    find: (name: string) => checks.filter(({ check }) => check === name),
    statusOf: (name: string) => checks.filter(({ check }) => check === name).map(({ status: each }) => each),
  };
}

/** Runs a server in this process with the settings of the doctor. */
async function serve(more: Record<string, string> = {}): Promise<void> {
  const server = await startServer(readConfig({ env: { ...env, SHUTDOWN_TIMEOUT_SEC: '1', ...more } }), log);
  onTestFinished(() => server.close());
}

/** Has one stream, and no other, until the test is over. */
async function useStream(
  config: Partial<StreamConfig>,
  fill?: { subject: string; bytes: number },
): Promise<void> {
  const connection = await connect({ servers: nats.url });
  const manager = await connection.jetstreamManager();
  // With its last stream the server removes the directory of all, and may not be done when the next one is made.
  await manager.streams.add({ name: 'OTHER', subjects: ['other.>'] });
  for await (const { config: each } of manager.streams.list()) {
    if (each.name !== 'OTHER') await manager.streams.delete(each.name);
  }
  const name = `OWN${streams++}`;
  await manager.streams.add({ name, subjects: ['raw.>'], ...config });
  if (fill !== undefined) await connection.jetstream().publish(fill.subject, Buffer.alloc(fill.bytes));
  onTestFinished(async () => {
    await manager.streams.delete(name).catch(() => {});
    await connection.close();
  });
}

async function withDatabase<T>(
  work: (db: Awaited<ReturnType<typeof openDatabase>>) => Promise<T>,
): Promise<T> {
  const db = await openDatabase(readConfig({ env }), log);
  try {
    return await work(db);
  } finally {
    await db.close();
  }
}

describe('what an acknowledgement is worth', () => {
  test('is told, with why', async () => {
    await useStream({});
    expect((await examine()).find('acknowledgement')).toMatchObject([
      {
        status: 'ok',
        detail: expect.stringMatching(/^An acknowledgement is worth stored: on 1 server; whether /),
      },
    ]);
  });

  test('is a problem where it is less than ACK_LEVEL, and a warning where that is accepted', async () => {
    await useStream({});
    const less = { ACK_LEVEL: 'replicated' };
    const { exit, find } = await examine(less);
    expect(exit).toBe(1);
    expect(find('acknowledgement')).toMatchObject([
      {
        status: 'problem',
        detail: expect.stringMatching(
          /^ACK_LEVEL=replicated does not hold: stream OWN\d+ is kept on 1 server/,
        ),
      },
    ]);
    expect((await examine({ ...less, ACK_LEVEL_ON_BREACH: 'warn' })).statusOf('acknowledgement')).toEqual([
      'warning',
    ]);
  });

  test('is a warning where a stream without allow_atomic has each message synced', async (context) => {
    if (!isAtLeast(nats.version, 2, 15)) context.skip();
    await useStream({});
    const synced = { ACK_LEVEL: 'synced', NATS_SYNC_ALWAYS: 'true' };
    expect((await examine(synced)).find('acknowledgement')).toMatchObject([
      { status: 'warning', detail: expect.stringContaining('does not have allow_atomic') },
    ]);
    await useStream({ storage: StorageType.File, ...{ allow_atomic: true } });
    expect((await examine(synced)).statusOf('acknowledgement')).toEqual(['ok']);
  });
});

describe('on a healthy system', () => {
  test('finds everything in order, and sends a message through the server to the stream', async () => {
    await serve();
    const { exit, checks, find } = await examine();
    expect(checks.filter(({ status }) => status !== 'ok')).toEqual([]);
    expect(exit).toBe(0);
    const names = new Set(checks.map(({ check }) => check));
    expect([...names].toSorted()).toEqual([
      'acknowledgement',
      'clock',
      'command',
      'commands',
      'config',
      'data',
      'database',
      'fleet',
      'message',
      'nats',
      'open-files',
      'ports',
      'schema',
      'server',
      'sessions',
      'stream',
    ]);
    expect(find('database')[0]?.detail).toMatch(/^PostgreSQL \d+.* answers in \d+ ms$/);
    expect(find('clock')).toHaveLength(2);
    const places = find('message').map(
      ({ detail }) => /by MQTT (\S+) .*\((raw\.\w+), number (\d+)\)/.exec(String(detail))?.slice(1) ?? [],
    );
    expect(places.map(([version]) => version)).toEqual(['3.1.1', '5']);
    const connection = await connect({ servers: nats.url });
    onTestFinished(() => connection.close());
    const manager = await connection.jetstreamManager();
    for (const [, subject, sequence] of places) {
      const stored = await manager.streams.getMessage('RAW', { seq: Number(sequence) });
      expect(stored.subject).toBe(subject);
      expect(JSON.parse(stored.string())).toHaveProperty('doctor');
    }
  });

  test('puts a command through to a device that sleeps, and leaves nothing of it', async () => {
    await serve();
    const { find } = await examine();
    expect(find('command')).toMatchObject([
      {
        status: 'ok',
        detail: expect.stringMatching(
          /^A command waited in stream CMD \(cmd\.\w+\.doctor, number \d+\) for a device that slept, .* it is removed$/,
        ),
      },
    ]);
    await expectNothingLeft();
  });

  test('looks at the buckets of sessions and replicas', async () => {
    await useStream({});
    const details = async () =>
      (await examine({}, ['--no-message'])).find('sessions').map(({ status, detail }) => [status, detail]);
    expect(await details()).toEqual([
      ['ok', 'serve creates KV_svc-mqtt-sessions for sessions'],
      ['ok', 'serve creates KV_svc-mqtt-replicas for which replicas live'],
    ]);
    await serve();
    expect(await details()).toEqual([
      ['ok', expect.stringMatching(/^Stream KV_svc-mqtt-sessions holds \d+ messages?: sessions$/)],
      ['ok', expect.stringMatching(/^Stream KV_svc-mqtt-replicas holds \d+ messages?: which replicas live$/)],
    ]);
  });

  test('leaves no device behind, and an entry in the audit log for what it did', async () => {
    await serve();
    await examine();
    await withDatabase(async (db) => {
      const left = await listDevices(db, { type: 'svc-mqtt-doctor', state: 'all', limit: 10 });
      expect(left).toEqual([]);
      const entries = await listAudit(db, { limit: 2 });
      expect(entries.map(({ action }) => action).toSorted()).toEqual(['device.add', 'device.remove']);
    });
  });

  test('adds no device and sends nothing with --no-message', async () => {
    await serve();
    const before = await withDatabase((db) => listAudit(db, { limit: 1 }));
    const { exit, statusOf } = await examine({}, ['--no-message']);
    expect([exit, statusOf('message')]).toEqual([0, ['skipped']]);
    expect(await withDatabase((db) => listAudit(db, { limit: 1 }))).toEqual(before);
  });

  test('sends the message by TLS, and with the header of a proxy, and asks by HTTPS, where the server wants that', async () => {
    const files = await openTestFiles();
    onTestFinished(() => files.remove());
    const { cert, key } = await (await createAuthority()).issue({ commonName: 'gateway', expiresInDays: 90 });
    const more = {
      MQTT_TCP: 'false',
      TLS_CERT: await files.write('cert.pem', cert),
      TLS_KEY: await files.write('key.pem', key),
      MQTTS_PORT: String(await freePort()),
      PROXY_PROTOCOL_FROM: '127.0.0.0/8',
      HTTP_TLS_CERT: files.path('cert.pem'),
      HTTP_TLS_KEY: files.path('key.pem'),
      API_TOKEN: 'a-token-of-enough-length',
    };
    await serve(more);
    const { exit, checks, find, statusOf } = await examine(more);
    expect(checks.filter(({ status }) => status !== 'ok')).toEqual([]);
    expect([exit, statusOf('message'), statusOf('certs')]).toEqual([0, ['ok', 'ok'], ['ok', 'ok']]);
    expect(find('server')[0]?.detail).toContain('https://');
  });
});

test('sends no message where every device needs a certificate, which it does not have', async () => {
  const files = await openTestFiles();
  onTestFinished(() => files.remove());
  const authority = await createAuthority();
  const { cert, key } = await authority.issue({ commonName: 'gateway' });
  const more = {
    TLS_CERT: await files.write('cert.pem', cert),
    TLS_KEY: await files.write('key.pem', key),
    MQTTS_PORT: String(await freePort()),
    MQTT_CLIENT_CA: await files.write('ca.pem', authority.cert),
    MQTT_CLIENT_CERT: 'required',
  };
  await serve(more);
  const { exit, find } = await examine(more);
  expect(find('message')).toMatchObject([
    { status: 'skipped', detail: expect.stringContaining('MQTT_CLIENT_CERT') },
  ]);
  expect(exit).toBe(0);
});

test('a signal ends it, and the device that was added is removed', async () => {
  await serve();
  // Accepts the device and says nothing to it.
  const silent = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => silent.once('listening', resolve));
  onTestFinished(() => {
    silent.close();
  });
  const connected = new Promise((resolve) => silent.once('connection', resolve));
  const { port } = silent.address() as AddressInfo;
  const io = fakeIo({ env: { ...env, MQTT_PORT: String(port) } });
  const examining = runProgram(['doctor'], io);
  await connected;
  const devices = () =>
    withDatabase((db) => listDevices(db, { type: 'svc-mqtt-doctor', state: 'all', limit: 10 }));
  expect(await devices()).toHaveLength(1);
  io.stop('SIGINT');
  await expect(examining).rejects.toThrow('SIGINT');
  expect(await devices()).toEqual([]);
});

/** Of commands and sessions, once the server has seen that the device is gone. */
async function expectNothingLeft(): Promise<void> {
  const connection = await connect({ servers: nats.url });
  onTestFinished(() => connection.close());
  const manager = await connection.jetstreamManager();
  expect((await manager.streams.info('CMD')).state.messages).toBe(0);
  const bucket = await connection.jetstream().views.kv('svc-mqtt-sessions', { bindOnly: true });
  const keys: string[] = [];
  for await (const key of await bucket.keys()) keys.push(key);
  expect(keys).toEqual([]);
}

test('says why a command does not reach a device that sleeps', async () => {
  const actor = { kind: 'cli', name: 'test' } as const;
  const type = 'svc-mqtt-doctor';
  const rules = { publish: ['raw/{id}'], subscribe: [], natsSubject: null, publishRate: null };
  const others = { maxPacketBytes: null, ackLevel: null, onRefusal: null, receipts: null };
  await withDatabase((db) => setPolicy(db, actor, { type, ...rules, ...others }));
  onTestFinished(async () => {
    await withDatabase((db) => removePolicy(db, actor, type));
  });
  await serve();
  const { exit, find, statusOf } = await examine();
  expect([exit, statusOf('message')]).toEqual([1, ['ok', 'ok']]);
  expect(find('command')).toMatchObject([
    {
      status: 'problem',
      detail: 'A device may not subscribe to its commands: SUBACK 135',
      action: expect.stringContaining('subscribe_denied'),
    },
  ]);
});

test('a signal while a command waits for its device leaves neither command nor session behind', async () => {
  await serve();
  const { MQTT_PORT: target } = env;
  let connections = 0;
  let reached = () => {};
  const waiting = new Promise<void>((resolve) => {
    reached = resolve;
  });
  // Both messages and the first visit of the device that sleeps pass; its second one is answered by nobody.
  const relay = createServer((socket) => {
    connections += 1;
    socket.on('error', () => {});
    if (connections === 4) {
      reached();
      return;
    }
    const onward = createConnection(Number(target), '127.0.0.1');
    onward.on('error', () => {});
    socket.pipe(onward).pipe(socket);
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => relay.once('listening', resolve));
  onTestFinished(() => {
    relay.close();
  });
  const io = fakeIo({ env: { ...env, MQTT_PORT: String((relay.address() as AddressInfo).port) } });
  const examining = runProgram(['doctor'], io);
  await waiting;
  io.stop('SIGINT');
  await expect(examining).rejects.toThrow('SIGINT');
  await vi.waitFor(expectNothingLeft, 20_000);
});

test.runIf(process.platform === 'linux')(
  'says how many devices the limit of open files leaves room for',
  async () => {
    const more = { MAX_CONNECTIONS: '10000000' };
    const ofShell = (await examine(more)).find('open-files');
    await serve(more);
    const ofServer = (await examine(more)).find('open-files');
    const answer = await fetch(`http://${env.LISTEN_ADDR}/stats`);
    const { connections } = (await answer.json()) as { connections: { limit: number } };
    for (const found of [ofShell, ofServer]) {
      expect(found).toMatchObject([
        {
          status: 'warning',
          detail: expect.stringContaining(`at most ${connections.limit.toLocaleString('en-US')} devices`),
        },
      ]);
    }
  },
);

describe('without a server', () => {
  test('looks at the rest, ports included', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => taken.once('listening', resolve));
    onTestFinished(() => {
      taken.close();
    });
    const { port } = taken.address() as AddressInfo;
    const { exit, find, statusOf } = await examine({ MQTT_PORT: String(port) });
    expect(exit).toBe(1);
    expect(statusOf('server')).toEqual(['skipped']);
    expect(statusOf('message')).toEqual(['skipped']);
    expect(find('ports')).toMatchObject([
      { status: 'problem', detail: expect.stringContaining(`MQTT_PORT: port ${port} is taken`) },
      { status: 'ok' },
    ]);
  });

  test('looks at the embedded parts without making any', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'svc-mqtt-doctor-'));
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    const { exit, statusOf } = await examine({
      DATABASE_URL: '',
      NATS_URL: '',
      EMBEDDED_NATS_PORT: String(await freePort()),
      NATS_SERVER_BIN: process.env.NATS_SERVER_BIN ?? '',
      DATA_DIR: join(dir, 'data'),
    });
    expect(exit).toBe(0);
    expect(statusOf('database')).toEqual(['ok']);
    expect(statusOf('nats')).toEqual(['ok']);
    expect(statusOf('schema')).toEqual(['skipped']);
    expect(existsSync(join(dir, 'data'))).toBe(false);
  });
});

describe('NATS', () => {
  test('that is away is a problem, and the rest is looked at', async () => {
    const port = await freePort();
    const { exit, find, statusOf } = await examine({ NATS_URL: `nats://127.0.0.1:${port}` });
    expect(exit).toBe(1);
    expect(find('nats')).toMatchObject([
      {
        status: 'problem',
        detail: `NATS at nats://127.0.0.1:${port} refuses connections`,
        action: expect.any(String),
      },
    ]);
    expect(statusOf('stream')).toEqual(['skipped']);
    expect(statusOf('schema')).toEqual(['ok']);
    expect(statusOf('ports')).toEqual(['ok', 'ok']);
  });

  test('that is frozen does not hold the doctor up', async () => {
    await nats.pause();
    onTestFinished(() => nats.resume());
    const { exit, statusOf } = await examine();
    expect([exit, statusOf('nats'), statusOf('ports')]).toEqual([1, ['problem'], ['ok', 'ok']]);
  });

  test('without JetStream is a problem', async () => {
    const plain = await startNatsServer({ jetstream: false });
    onTestFinished(() => plain.stop());
    const { exit, find } = await examine({ NATS_URL: plain.url });
    expect(exit).toBe(1);
    expect(find('stream')).toMatchObject([
      { status: 'problem', detail: expect.stringContaining('not enabled') },
    ]);
  });

  test('with a smaller max_payload than packets may have is a warning', async () => {
    const { find } = await examine({ MAX_PACKET_BYTES: '2097152' });
    expect(find('nats').map(({ status }) => status)).toEqual(['ok', 'warning']);
  });
});

describe('a stream', () => {
  test('that takes only a part of the subject is a problem, and named', async () => {
    await useStream({ subjects: ['raw.one', 'raw.two'] });
    const { exit, find } = await examine();
    expect(exit).toBe(1);
    expect(find('stream')).toMatchObject([
      {
        status: 'problem',
        detail: expect.stringMatching(
          /NATS_SUBJECT sends to raw\.\*.*OWN\d+ \(raw\.one, raw\.two\) takes only a part/,
        ),
        action: expect.stringContaining('Add raw.* to the subjects'),
      },
    ]);
  });

  test('that does not take the subject of a policy is a problem that names the type', async () => {
    await useStream({});
    const rules = {
      publish: ['raw/{id}'],
      subscribe: [],
      publishRate: null,
      maxPacketBytes: null,
      natsSubject: 'meters.{id}',
      ackLevel: null,
      onRefusal: null,
      receipts: null,
    };
    const actor = { kind: 'cli', name: 'test' } as const;
    await withDatabase((db) => setPolicy(db, actor, { type: 'meter', ...rules }));
    const { exit, find } = await examine();
    expect(exit).toBe(1);
    expect(find('stream')).toMatchObject([
      { status: 'ok' },
      { status: 'problem', detail: expect.stringMatching(/policy of type meter.*meters\.\*/) },
    ]);
    await withDatabase((db) =>
      setPolicy(db, actor, {
        type: 'meter',
        ...rules,
        natsSubject: 'raw.{id}',
        ackLevel: null,
        onRefusal: null,
        receipts: null,
      }),
    );
  });

  test.each<[string, Partial<StreamConfig>, string, RegExp]>([
    ['in memory', { storage: StorageType.Memory }, 'warning', /in memory/],
    ['with a work queue', { retention: RetentionPolicy.Workqueue }, 'warning', /workqueue/],
    [
      'that forgets the oldest',
      { max_bytes: 1_000_000, discard: DiscardPolicy.Old },
      'warning',
      /discard: old/,
    ],
    ['that is nearly full', { max_bytes: 10_000, discard: DiscardPolicy.New }, 'warning', /% full/],
    ['that is full', { max_bytes: 9_200, discard: DiscardPolicy.New }, 'problem', /% full/],
    ['that confirms nothing', { no_ack: true }, 'problem', /no_ack/],
    ['with all it needs', { max_age: 86_400e9 * 7, discard: DiscardPolicy.New }, 'ok', /at most 7 days/],
  ])('%s', async (_name, config, status, detail) => {
    const fill = config.no_ack === true ? undefined : { subject: 'raw.x', bytes: 9_000 };
    await useStream(config, fill);
    const { exit, find } = await examine();
    expect(find('stream')).toMatchObject([{ status, detail: expect.stringMatching(detail) }]);
    expect(exit).toBe(status === 'problem' ? 1 : 0);
  });
});

describe('certificates', () => {
  test.each([
    ['about to expire', 3, 'warning', /TLS_CERT .*gateway.* expires in [23] days/, 0],
    ['that has expired', -1, 'problem', /expired on/, 1],
  ] as const)('%s', async (_name, expiresInDays, status, detail, expected) => {
    const files = await openTestFiles();
    onTestFinished(() => files.remove());
    const { cert, key } = await (await createAuthority()).issue({ commonName: 'gateway', expiresInDays });
    const { exit, find } = await examine({
      TLS_CERT: await files.write('cert.pem', cert),
      TLS_KEY: await files.write('key.pem', key),
      MQTTS_PORT: '0',
    });
    expect(find('certs')).toMatchObject([{ status, detail: expect.stringMatching(detail) }]);
    expect(exit).toBe(expected);
  });

  test('that cannot be read are a problem that names each file', async () => {
    const { exit, find } = await examine({ TLS_CERT: '/nowhere/cert.pem', TLS_KEY: '/nowhere/key.pem' });
    expect(find('certs')).toMatchObject([
      {
        status: 'problem',
        detail: 'TLS_CERT: /nowhere/cert.pem does not exist; TLS_KEY: /nowhere/key.pem does not exist',
      },
    ]);
    expect(exit).toBe(1);
  });
});

describe('the database', () => {
  test('that does not exist is a problem with its address and without its password', async () => {
    const url = new URL(env.DATABASE_URL ?? '');
    url.pathname = '/nowhere';
    const { exit, checks, find, statusOf } = await examine({ DATABASE_URL: url.href });
    expect(exit).toBe(1);
    expect(find('database')).toMatchObject([
      { status: 'problem', detail: expect.stringContaining('nowhere') },
    ]);
    expect(JSON.stringify(checks)).not.toContain(url.password);
    expect(statusOf('schema')).toEqual(['skipped']);
    expect(statusOf('nats')).toEqual(['ok']);
  });

  test('with an old schema is a problem only for a server that may not migrate it', async () => {
    const { createDatabase, borrowPostgres } = await import('../support/postgres.js');
    const postgres = await borrowPostgres();
    onTestFinished(() => postgres.release());
    const DATABASE_URL = await createDatabase(postgres.url);
    expect((await examine({ DATABASE_URL })).statusOf('schema')).toEqual(['warning']);
    const { exit, find } = await examine({ DATABASE_URL, MIGRATE: 'false' });
    expect([exit, find('schema')[0]?.action]).toEqual([1, 'Run svc-mqtt migrate']);
  });
});

describe('what it prints', () => {
  test('settings that make no sense are a finding', async () => {
    const { exit, find } = await examine({ MQTT_PORT: 'many' });
    expect(exit).toBe(1);
    expect(find('config')).toMatchObject([
      { status: 'problem', detail: expect.stringContaining('MQTT_PORT') },
    ]);
  });

  test('lines with a mark and what to do, the summary on stderr, no colour away from a terminal', async () => {
    const io = fakeIo({ env: { ...env, NATS_URL: 'nats://127.0.0.1:1' } });
    expect(await runProgram(['doctor'], io)).toBe(1);
    const lines = io.out().trimEnd().split('\n');
    expect(lines[0]).toMatch(/^✔ config {6}\S/);
    const at = lines.findIndex((line) => line.startsWith('✖ nats '));
    expect(lines[at + 1]).toMatch(/^ {14}→ \S/);
    expect(io.out()).not.toContain('\u001b');
    expect(io.err()).toMatch(/^1 problem, .*not looked at\.\n$/);
  });

  test.each([
    [{}, true],
    [{ NO_COLOR: '1' }, false],
  ])('colours on a terminal with %j: %j', async (more, coloured) => {
    const io = fakeIo({ env: { ...env, NATS_URL: 'nats://127.0.0.1:1', ...more } });
    Object.assign(io.stdout, { isTTY: true });
    await runProgram(['doctor'], io);
    expect(io.out().includes('\u001b[32m✔\u001b[0m')).toBe(coloured);
  });
});

describe('what replicas share', () => {
  const open = { ACL: 'open' };

  test('is looked at where devices reach each other, before a server runs and while one does', async () => {
    await useStream({});
    const shared = async (more: Record<string, string>) =>
      (await examine(more, ['--no-message']))
        .find('stream')
        .filter(({ detail }) => detail.includes('SVC_MQTT_'));
    expect(await shared({})).toEqual([]);
    expect(await shared(open)).toMatchObject([
      { status: 'ok', detail: 'serve creates SVC_MQTT_RETAINED for retained messages' },
      {
        status: 'ok',
        detail:
          'serve creates SVC_MQTT_MESSAGES for messages between devices, for other replicas and for sessions that are away',
      },
    ]);
    await serve(open);
    expect(await shared(open)).toMatchObject([
      { status: 'ok', detail: 'Stream SVC_MQTT_RETAINED holds 0 messages: retained messages' },
      {
        status: 'ok',
        detail:
          'Stream SVC_MQTT_MESSAGES holds 0 messages: messages between devices, for other replicas and for sessions that are away',
      },
    ]);
  });

  test('is a warning where another stream has its subjects', async () => {
    await useStream({ subjects: ['raw.>', 'svc-mqtt.>'] });
    await serve(open);
    const { find } = await examine(open, ['--no-message']);
    expect(find('stream').filter(({ status }) => status === 'warning')).toMatchObject([
      { detail: expect.stringMatching(/^Stream OWN\d+ takes the subjects of SVC_MQTT_RETAINED, /) },
      { detail: expect.stringMatching(/^Stream OWN\d+ takes the subjects of SVC_MQTT_MESSAGES, /) },
    ]);
  });
});

describe('the stream of commands', () => {
  const found = async (more: Record<string, string> = {}) =>
    (await examine(more, ['--no-message'])).find('commands');

  test('is made by serve, and looked at then', async () => {
    await useStream({});
    expect(await found()).toMatchObject([{ status: 'ok', detail: 'serve creates CMD for commands' }]);
    await serve();
    expect(await found()).toMatchObject([
      { status: 'ok', detail: 'Stream CMD holds 0 commands for devices' },
    ]);
  });

  test.for<[Partial<StreamConfig>, string]>([
    [{ subjects: ['cmd.pump.>'] }, 'takes only a part'],
    [{ subjects: ['cmd.>'], retention: RetentionPolicy.Workqueue }, 'has retention workqueue'],
    [{ subjects: ['cmd.>'] }, 'does not have allow_direct'],
    [{ subjects: ['cmd.>'], allow_direct: true, storage: StorageType.Memory }, 'in memory'],
  ])('is a warning where commands would not wait as they should: %o', async ([config, text]) => {
    await useStream({});
    const connection = await connect({ servers: nats.url });
    const manager = await connection.jetstreamManager();
    await manager.streams.add({ name: 'COMMANDS', ...config });
    onTestFinished(async () => {
      await manager.streams.delete('COMMANDS');
      await connection.close();
    });
    const findings = await found();
    expect(findings).toMatchObject([{ status: 'warning' }]);
    expect(findings[0]?.detail).toContain(text);
  });
});

describe('the subject of dead letters', () => {
  const found = async (subject: string) =>
    (await examine({ DEAD_LETTER_SUBJECT: subject }, ['--no-message'])).find('dead-letters');

  test('has to be one of its own, with a stream', async () => {
    await useStream({ subjects: ['raw.>', 'refused.>'] });
    expect(await found('refused.letters')).toMatchObject([
      { status: 'problem', detail: expect.stringContaining('serve does not start') },
    ]);
    expect(await found('raw.letters')).toMatchObject([
      { status: 'problem', detail: expect.stringContaining('NATS_SUBJECT') },
    ]);
    expect(await found('nowhere.letters')).toMatchObject([
      { status: 'warning', detail: expect.stringMatching(/^No stream takes nowhere.letters/) },
    ]);
    await useStream({ subjects: ['dead.>'] });
    expect(await found('dead.letters')).toMatchObject([
      { status: 'ok', detail: expect.stringContaining('holds 0 messages that were refused') },
    ]);
  });
});
