import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import pg from 'pg';
import { afterEach, describe, expect, test } from 'vitest';
import { type Database, openDatabase } from '../../src/db/connection/open.js';
import { addDevices, findDevice, listDevices } from '../../src/db/devices/devices.js';
import { migrate } from '../../src/db/migrate.js';
import { claimDirectory, connectToOwner } from '../../src/directory-claim.js';
import { SvcMqttError } from '../../src/errors.js';
import { embeddedDirectory } from '../support/embedded-template.js';
import { silentLog, temporaryDirectory, testActor, until } from './databases.js';
import { databaseProcesses, startWorker } from './processes.js';

const releases: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

async function dataDirectory(): Promise<string> {
  const directory = await temporaryDirectory();
  releases.push(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** With a migrated database in it. */
async function preparedDirectory(): Promise<string> {
  const directory = await embeddedDirectory();
  releases.push(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function open(dataDir: string): Promise<Database> {
  const db = await openDatabase(
    { databaseUrl: undefined, dataDir, databasePoolSize: 4, databaseTimeoutMs: 5_000 },
    silentLog,
  );
  releases.push(() => db.close());
  return db;
}

async function query(db: Database, text: string) {
  const client = new pg.Client({
    host: db.embedded?.socketDirectory,
    user: 'postgres',
    database: 'postgres',
  });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

describe('a claim', () => {
  test('is given to at most one of many that claim at the same moment', async () => {
    const directory = await dataDirectory();
    for (let round = 0; round < 20; round += 1) {
      const results = await Promise.all(Array.from({ length: 8 }, () => claimDirectory(directory, () => {})));
      const claims = results.filter((claim) => claim !== undefined);
      expect(claims.length).toBeLessThanOrEqual(1);
      for (const claim of claims) await claim.release();
    }
    expect(await readdir(directory)).toEqual([]);
  });

  test('is refused while another holds it, and given after', async () => {
    const directory = await dataDirectory();
    const first = await claimDirectory(directory, (socket) => socket.end('hello'));
    expect(first).toBeDefined();
    expect(await claimDirectory(directory, () => {})).toBeUndefined();
    const socket = await connectToOwner(directory);
    expect(socket).toBeDefined();
    socket?.destroy();
    await first?.release();
    expect(await connectToOwner(directory)).toBeUndefined();
    const second = await claimDirectory(directory, () => {});
    expect(second).toBeDefined();
    await second?.release();
  });

  test('is given although dead processes left theirs behind', async () => {
    const directory = await dataDirectory();
    await writeFile(path.join(directory, 'claim-0123456789abcdef.sock'), '');
    const claim = await claimDirectory(directory, () => {});
    expect(claim).toBeDefined();
    await claim?.release();
    expect(await readdir(directory)).toEqual([]);
  });
});

test('several processes that open a new directory at once share one database', async () => {
  const dataDir = await dataDirectory();
  const workers = Array.from({ length: 4 }, () => startWorker({ dataDir }, 10));
  const results = await Promise.all(workers.map((worker) => worker.done));
  expect(await Promise.all(workers.map((worker) => worker.ended))).toEqual([0, 0, 0, 0]);
  expect(results.filter((result) => result.applied > 0)).toHaveLength(1);
  const db = await open(dataDir);
  expect(await listDevices(db, { limit: 1_000 })).toHaveLength(40);
  expect(databaseProcesses(dataDir)).toHaveLength(1);
  await db.close();
  await until('the process ended', () => databaseProcesses(dataDir).length === 0);
});

test('a process that attached keeps the database when the one that started it ends', async () => {
  const dataDir = await preparedDirectory();
  const starter = startWorker({ dataDir }, 1, 'wait');
  await starter.done;
  const db = await open(dataDir);
  const before = databaseProcesses(dataDir);
  starter.child.stdin?.end();
  expect(await starter.ended).toBe(0);
  expect(await addDevices(db, testActor, { type: 'sensor' })).toHaveLength(1);
  expect(databaseProcesses(dataDir)).toEqual(before);
  // The last one to let go waits for its end, although another one had started it.
  await db.close();
  expect(databaseProcesses(dataDir)).toEqual([]);
});

test('killing everything loses nothing that was committed, and leaves nothing in the way', async () => {
  const dataDir = await preparedDirectory();
  const worker = startWorker({ dataDir }, 25, 'wait');
  await worker.done;
  for (const pid of databaseProcesses(dataDir)) process.kill(pid, 'SIGKILL');
  worker.child.kill('SIGKILL');
  await worker.ended;
  await until('the processes ended', () => databaseProcesses(dataDir).length === 0);
  const db = await open(dataDir);
  expect(await listDevices(db, { limit: 1_000 })).toHaveLength(25);
});

test('the process ends when the one that started it is killed', async () => {
  const dataDir = await preparedDirectory();
  const worker = startWorker({ dataDir }, 1, 'wait');
  await worker.done;
  worker.child.kill('SIGKILL');
  await worker.ended;
  await until('the process ended', () => databaseProcesses(dataDir).length === 0);
});

test('a process that dies is started again', async () => {
  const dataDir = await preparedDirectory();
  const db = await open(dataDir);
  const [device] = await addDevices(db, testActor, { type: 'sensor' });
  for (let round = 0; round < 2; round += 1) {
    for (const pid of databaseProcesses(dataDir)) process.kill(pid, 'SIGKILL');
    const answers = () =>
      findDevice(db, device?.id ?? '').then(
        (found) => found?.id === device?.id,
        () => false,
      );
    await until('it does not answer', async () => !(await answers()));
    await until('it answers again', answers);
  }
});

test('a creation that was interrupted begins again', async () => {
  const dataDir = await dataDirectory();
  await mkdir(path.join(dataDir, 'database', 'data', 'base'), { recursive: true });
  await writeFile(path.join(dataDir, 'database', 'data', 'PG_VERSION'), '18\n');
  await writeFile(path.join(dataDir, 'database', 'creating'), '');
  const db = await open(dataDir);
  expect((await migrate(db)).applied.length).toBeGreaterThan(0);
});

test('works in a new directory whose path is too long for a socket, and makes all of it for this user only', async () => {
  const dataDir = path.join(await dataDirectory(), 'a'.repeat(100), 'b'.repeat(100));
  const db = await open(dataDir);
  for (const directory of [dataDir, path.join(dataDir, 'database'), path.join(dataDir, 'database', 'data')])
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
  const second = await open(dataDir);
  await migrate(db);
  const [device] = await addDevices(db, testActor, { type: 'sensor' });
  expect((await findDevice(second, device?.id ?? ''))?.id).toBe(device?.id);
});

test('transactions of several connections and processes keep apart', async () => {
  const dataDir = await preparedDirectory();
  const first = await open(dataDir);
  const second = await open(dataDir);
  await query(first, 'create table counter (value int); insert into counter values (0)');
  const increment = async (db: Database, round: number) => {
    const client = await db.connect();
    try {
      await client.query('begin');
      const { rows } = await client.query('select value from counter where $1::int is not null', [round]);
      await client.query('update counter set value = $1', [rows[0].value + 1]);
      if (round % 3 === 0) await client.query('rollback');
      else if (round % 3 === 1) await client.query('commit');
      // Else the connection is lost in the middle of the transaction, which undoes it.
    } finally {
      await client.end();
    }
  };
  await Promise.all(
    Array.from({ length: 30 }, (_, round) => increment(round % 2 === 0 ? first : second, round)),
  );
  expect(await query(first, 'select value from counter')).toEqual([{ value: 10 }]);
});

test('notifications reach every process', async () => {
  const dataDir = await preparedDirectory();
  const first = await open(dataDir);
  const second = await open(dataDir);
  const [device] = await addDevices(first, testActor, { type: 'sensor' });
  const heard: string[] = [];
  for (const db of [first, second]) {
    db.embedded?.watch({
      onNotification: (channel, payload) => heard.push(`${channel} ${payload}`),
      onUp() {},
      onDown() {},
    });
  }
  await query(second, `delete from devices where id = '${device?.id}'`);
  await until('both heard', () => heard.length >= 2);
  expect(heard).toEqual([`devices_changed ${device?.id}`, `devices_changed ${device?.id}`]);
});

test.each([
  ['is a file', async (directory: string) => await writeFile(directory, '')],
  [
    'holds what is no database',
    async (directory: string) => {
      await mkdir(path.join(directory, 'database', 'data'), { recursive: true });
      await writeFile(path.join(directory, 'database', 'data', 'PG_VERSION'), '7.1\n');
    },
  ],
])('a data directory that %s is refused with what to do', async (_, prepare) => {
  const dataDir = path.join(await dataDirectory(), 'data dir');
  await prepare(dataDir);
  const error = await open(dataDir).catch((thrown: unknown) => thrown);
  if (!(error instanceof SvcMqttError)) throw new Error('opened');
  expect(error.code).toBe('DATABASE_EMBEDDED');
  expect(error.toLine()).toContain(dataDir);
  expect(error.toLine()).toContain('DATA_DIR');
  expect(error.toLine().length).toBeLessThan(500);
  await until('no process stays', () => databaseProcesses(dataDir).length === 0);
});

describe('a query whose messages come one by one', () => {
  async function connect(db: Database) {
    const client = new pg.Client({
      host: db.embedded?.socketDirectory,
      user: 'postgres',
      database: 'postgres',
    });
    client.on('error', () => {});
    await client.connect();
    releases.push(() => client.end().catch(() => {}));
    return client;
  }

  /** What `pg` writes and hears, a message at a time. */
  interface Wire extends NodeJS.EventEmitter {
    readonly stream: { destroy(): void };
    parse(query: { text: string }): void;
    bind(values: object): void;
    execute(portal: object): void;
    flush(): void;
    sync(): void;
  }

  async function startQuery(client: pg.Client): Promise<Wire> {
    const wire = (client as unknown as { connection: Wire }).connection;
    // `pg` itself listens too, and knows of no query.
    for (const event of ['parseComplete', 'bindComplete', 'dataRow', 'commandComplete', 'readyForQuery']) {
      wire.removeAllListeners(event);
    }
    const parsed = new Promise((resolve) => wire.once('parseComplete', resolve));
    wire.parse({ text: 'select 1 as one' });
    wire.flush();
    await parsed;
    return wire;
  }

  test('keeps its statement, whatever another connection asks meanwhile', async () => {
    const db = await open(await preparedDirectory());
    const [slow, other] = [await connect(db), await connect(db)];
    const wire = await startQuery(slow);
    const answer = other.query('select $1::int as two', [2]);
    const row = new Promise<{ fields: Buffer[] }>((resolve, reject) => {
      wire.once('dataRow', resolve);
      wire.once('errorMessage', reject);
    });
    wire.bind({});
    wire.execute({});
    wire.sync();
    expect(String((await row).fields[0])).toBe('1');
    expect((await answer).rows).toEqual([{ two: 2 }]);
  });

  test('does not stop the others when its client goes in the middle of it', async () => {
    const db = await open(await preparedDirectory());
    const [slow, other] = [await connect(db), await connect(db)];
    const wire = await startQuery(slow);
    const answer = other.query('select $1::int as two', [2]);
    wire.stream.destroy();
    expect((await answer).rows).toEqual([{ two: 2 }]);
  });
});
