import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCommand } from '../support/command.js';
import type { Credentials } from '../support/load.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { borrowPostgres, createDatabase, withClient } from '../support/postgres.js';
import { startServerProcess } from '../support/server-process.js';
import { connected, publishAndWait, tryConnect } from './gateway.js';

const deviceCount = 1_000;

let postgres: Awaited<ReturnType<typeof borrowPostgres>>;
let nats: TestNatsServer;
beforeAll(async () => {
  postgres = await borrowPostgres();
  nats = await startNatsServer();
});
afterAll(async () => {
  await nats?.stop();
  await postgres?.release();
});

/** A database as the Go service leaves it: made by GORM, passwords in plain text. */
async function makeLegacyDatabase(): Promise<{ url: string; devices: Credentials[] }> {
  const url = await createDatabase(postgres.url);
  const devices = Array.from({ length: deviceCount }, (_, number) => ({
    id: randomBytes(8).toString('hex'),
    // Passwords as people choose them, too.
    password: number === 0 ? "O'Neill \\ ünï £ %s" : randomBytes(12).toString('base64url'),
  }));
  await withClient(url, async (client) => {
    await client.query(
      `create table "devices" ("id" text, "device_type" text, "mqtt_user" text, "mqtt_password" text,
         "created_at" timestamptz, primary key ("id"))`,
    );
    await client.query(
      `insert into devices select id, 'sensor', id, password, now() - interval '1 year'
       from unnest($1::text[], $2::text[]) as new (id, password)`,
      [devices.map(({ id }) => id), devices.map(({ password }) => password)],
    );
  });
  return { url, devices };
}

/** Every row of every table, as text; bytes once as hexadecimal digits. */
async function dump(url: string): Promise<string> {
  return withClient(url, async (client) => {
    const { rows: tables } = await client.query<{ name: string }>(
      `select format('%I.%I', schemaname, tablename) as name from pg_tables
       where schemaname not in ('pg_catalog', 'information_schema')`,
    );
    const texts = await Promise.all(
      tables.map(async ({ name }) => {
        const { rows } = await client.query<{ row: string }>(`select each::text as row from ${name} as each`);
        return `${name}\n${rows.map(({ row }) => row).join('\n')}`;
      }),
    );
    return texts.join('\n');
  });
}

async function expectNoPlainText(url: string, devices: readonly Credentials[]): Promise<void> {
  const text = await dump(url);
  expect(text).toContain(devices[1]?.id);
  for (const { password } of devices) {
    expect(text.includes(password)).toBe(false);
    expect(text.includes(Buffer.from(password).toString('hex'))).toBe(false);
  }
}

async function expectAllConnect(port: number, devices: readonly Credentials[]): Promise<void> {
  const codes = new Map<number | undefined, number>();
  for (let at = 0; at < devices.length; at += 100) {
    for (const code of await Promise.all(
      devices.slice(at, at + 100).map((device) => tryConnect(port, device)),
    ))
      codes.set(code, (codes.get(code) ?? 0) + 1);
  }
  expect(codes).toEqual(new Map([[0, devices.length]]));
}

/** The DSN of the Go service's README, for a database of the test. */
function toDsn(url: string): string {
  const { hostname, port, username, password, pathname } = new URL(url);
  return `host=${hostname} user=${username} password=${password} dbname=${pathname.slice(1)} port=${port} sslmode=disable TimeZone=UTC`;
}

test('svc-mqtt migrate converts 1,000 devices: each connects with its old password, and none is left in plain text', async ({
  onTestFinished,
}) => {
  const { url, devices } = await makeLegacyDatabase();
  const { status, stdout } = await runCommand(['migrate', '--json'], { DATABASE_URL: url });
  expect([status, JSON.parse(stdout)]).toMatchObject([0, { converted_devices: deviceCount }]);
  await expectNoPlainText(url, devices);
  const again = await runCommand(['migrate', '--json'], { DATABASE_URL: url });
  expect([again.status, JSON.parse(again.stdout)]).toMatchObject([0, { applied: [], converted_devices: 0 }]);

  const server = await startServerProcess({ DATABASE_URL: url, NATS_URL: nats.url, MIGRATE: 'false' });
  onTestFinished(async () => {
    await server.end();
  });
  await expectAllConnect(server.mqttPort, devices);
  expect(
    await tryConnect(server.mqttPort, { id: devices[0]?.id ?? '', password: devices[1]?.password ?? '' }),
  ).toBe(4);
});

test("serve does the same by itself, with the Go service's settings", async ({ onTestFinished }) => {
  const { url, devices } = await makeLegacyDatabase();
  const server = await startServerProcess({
    DATABASE_DSN: toDsn(url),
    NATS_URL: nats.url,
    ENABLE_JETSTREAM: 'true',
    PUBLISH_TIMEOUT_SEC: '5',
  });
  onTestFinished(async () => {
    await server.end();
  });
  await expectAllConnect(server.mqttPort, devices);
  await expectNoPlainText(url, devices);
  const [device] = devices;
  if (device === undefined) throw new Error('no device');
  await publishAndWait(await connected(onTestFinished, server.mqttPort, device), device, 'still here');
  // Nothing of a password or of the DSN in the log.
  const log = server.stderr.join('\n');
  expect(log).not.toContain(new URL(url).password);
  for (const { password } of devices) expect(log.includes(password)).toBe(false);
});
