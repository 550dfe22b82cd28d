import { afterAll, beforeAll, expect, test } from 'vitest';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';
import { startNetwork, throughNetwork } from '../support/network.js';
import { createDatabase, startPostgres, type TestPostgres } from '../support/postgres.js';
import { inCi } from '../support/rounds.js';
import { launchServer, startServerProcess } from '../support/server-process.js';
import { addDevice, tryConnect } from './gateway.js';

let postgres: TestPostgres;
let nats: TestNatsServer;
let databaseUrl: string;

beforeAll(async () => {
  [postgres, nats] = await Promise.all([startPostgres(), startNatsServer()]);
  databaseUrl = await createDatabase(postgres.url);
  const server = await startServerProcess({ DATABASE_URL: databaseUrl, NATS_URL: nats.url });
  await server.end();
});
afterAll(async () => {
  await nats?.stop();
  await postgres?.stop();
});

const distances = [
  { delayMs: 100, timeoutMs: 5_000 },
  { delayMs: 400, timeoutMs: 30_000 },
];

test.each(distances.slice(0, inCi(2, 1)))(
  'a database $delayMs ms away each way is used as any other, within DATABASE_TIMEOUT_MS=$timeoutMs',
  { timeout: 300_000 },
  async ({ delayMs, timeoutMs }) => {
    const network = await startNetwork(postgres.port, { delayMs });
    const server = await startServerProcess({
      DATABASE_URL: throughNetwork(databaseUrl, network),
      DATABASE_TIMEOUT_MS: String(timeoutMs),
      NATS_URL: nats.url,
    });
    try {
      const device = await addDevice(server.httpPort);
      expect(await tryConnect(server.mqttPort, device)).toBe(0);
      expect(await tryConnect(server.mqttPort, { id: 'nobody', password: 'x' })).toBe(4);
      expect(await server.readiness()).toMatchObject({ status: 200, database: 'ok' });
      // Wherever a query is under way, it is waited for.
      await new Promise((resolve) => setTimeout(resolve, 4 * delayMs + 2_000));
      expect(await server.readiness()).toMatchObject({ status: 200, database: 'ok' });
      expect(server.count('database_away')).toBe(0);
    } finally {
      await server.end('SIGKILL');
      network.close();
    }
  },
);

test('a database that falls silent at any moment of the start is told as one that does not answer in time', async () => {
  let connections = 1;
  for (let answered = 0; answered < connections; answered += 1) {
    const network = await startNetwork(postgres.port, { swallowFrom: answered });
    const server = launchServer({
      DATABASE_URL: throughNetwork(databaseUrl, network),
      DATABASE_TIMEOUT_MS: '1500',
      START_WAIT: '0',
      NATS_URL: nats.url,
    });
    const ready = await server.waitFor('serve_ready').then(
      () => true,
      () => false,
    );
    server.signal('SIGKILL');
    const status = await server.ended;
    network.close();
    // Once all that a start needs is answered it succeeds.
    if (ready) break;
    connections = network.connections + 1;
    const line = server.stderr.find((each) => each.startsWith('svc-mqtt: '));
    expect([answered, status, line]).toEqual([
      answered,
      1,
      expect.stringMatching(/^svc-mqtt: The database at .* did not answer within DATABASE_TIMEOUT_MS\. /),
    ]);
  }
  expect(connections).toBeGreaterThan(2);
});
