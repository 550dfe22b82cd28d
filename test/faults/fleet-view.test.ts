import { setTimeout as delay } from 'node:timers/promises';
import { connect } from 'nats';
import pg from 'pg';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ConnectionPageJson } from '../../src/api/connection.js';
import type { FleetJson } from '../../src/api/stats.js';
import { runProgram } from '../../src/cli/program.js';
import { fakeIo, jsonLines } from '../cli/support.js';
import type { RawClient } from '../support/raw-client.js';
import type { ServerProcess } from '../support/server-process.js';
import { undoAfterAll } from '../support/undo-after-all.js';
import { addDevice, connected, type Gateway, startGateway, startReplica, until } from './gateway.js';

/** Two replicas on one NATS and one database, seen from either of them. */

const later = undoAfterAll();
const clients: RawClient[] = [];
let gateway: Gateway;
let other: ServerProcess;

beforeAll(async () => {
  gateway = await startGateway(later);
  other = await startReplica(later, gateway);
  await until('both see each other', async () => {
    const pages = await Promise.all([list(), list('', other)]);
    return pages.every(({ replicas }) => replicas.length === 2 && replicas.every(({ ok }) => ok));
  });
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await until('all are gone', async () => (await list()).total === 0);
});

async function call(
  path: string,
  { httpPort }: { httpPort: number } = gateway.server,
  method = 'GET',
): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await fetch(`http://127.0.0.1:${httpPort}${path}`, { method });
  const text = await response.text();
  return { status: response.status, body: text === '' ? {} : JSON.parse(text) };
}

async function list(query = '', server: { httpPort: number } = gateway.server): Promise<ConnectionPageJson> {
  const { status, body } = await call(`/connections${query}`, server);
  expect(status, JSON.stringify(body)).toBe(200);
  return body as unknown as ConnectionPageJson;
}

/** Connects a device with client ids `c-0`, `c-1`, …, in turn to the one replica and the other. */
async function connectClients(count: number): Promise<string> {
  const device = await addDevice(gateway.server.httpPort);
  for (let at = 0; at < count; at += 1) {
    const { mqttPort } = at % 2 === 0 ? gateway.server : other;
    clients.push(await connected(later, mqttPort, device, { clientId: `c-${at}` }));
  }
  return device.id;
}

const clientsOf = (page: ConnectionPageJson) => page.connections.map(({ client }) => client);

describe('connections of two replicas', () => {
  test('are listed from either, merged, sorted and in pages', async () => {
    await connectClients(5);
    for (const server of [gateway.server, other]) {
      const page = await list('?sort=client&order=asc', server);
      expect(page).toMatchObject({ total: 5, matching: 5 });
      expect(clientsOf(page)).toEqual(['c-0', 'c-1', 'c-2', 'c-3', 'c-4']);
      expect(new Set(page.connections.map(({ replica }) => replica)).size).toBe(2);
      for (const { id, replica } of page.connections) expect(id.startsWith(`${replica}-`)).toBe(true);
      expect(clientsOf(await list('?sort=client&order=desc&offset=1&limit=2', server))).toEqual([
        'c-3',
        'c-2',
      ]);
      expect(clientsOf(await list('?sort=connected&order=desc&limit=2', server))).toEqual(['c-0', 'c-1']);
      expect(clientsOf(await list('?q=c-3', server))).toEqual(['c-3']);
      expect(clientsOf(await list('?offset=60', server))).toEqual([]);
      // What ends behind the 500th is looked for by samples.
      expect(clientsOf(await list('?sort=client&order=asc&offset=2&limit=500', server))).toEqual([
        'c-2',
        'c-3',
        'c-4',
      ]);
      expect(await list('?offset=100000', server)).toMatchObject({ matching: 5, connections: [] });
    }
  });

  test('are those of one replica with ?replica=', async () => {
    await connectClients(4);
    const { replicas } = await list();
    const pages = await Promise.all(
      replicas.map(({ replica }) => list(`?replica=${replica}&sort=client&order=asc`)),
    );
    expect(pages.map(clientsOf).sort()).toEqual([
      ['c-0', 'c-2'],
      ['c-1', 'c-3'],
    ]);
    for (const page of pages) expect(page).toMatchObject({ total: 2, replicas: [{ ok: true }] });
    expect(await list('?replica=nobody')).toMatchObject({ total: 0, connections: [], replicas: [] });
  });

  test('are shown and kicked by the other one, once in the audit log', async () => {
    const device = await connectClients(2);
    for (const server of [gateway.server, other]) {
      const [row] = (await list('?q=c-1', server)).connections;
      const shown = await call(`/connections/${row?.id}`, server);
      expect(shown).toMatchObject({
        status: 200,
        body: { id: row?.id, replica: row?.replica, client: 'c-1' },
      });
    }
    const [row] = (await list('?q=c-1')).connections;
    const path = `/connections/${row?.id}`;
    expect((await call(path, gateway.server, 'DELETE')).status).toBe(204);
    await clients[1]?.waitClosed();
    for (const method of ['GET', 'DELETE']) {
      const { status, body } = await call(path, gateway.server, method);
      expect([status, body.code]).toEqual([404, 'CONNECTION_NOT_FOUND']);
    }
    const database = new pg.Client({ connectionString: gateway.databaseUrl });
    await database.connect();
    const read = () =>
      database.query('select * from audit_log where target = $1 and action like $2', [
        device,
        'connection.%',
      ]);
    await until('the kick is noted', async () => (await read()).rows.length > 0);
    const { rows } = await read();
    await database.end();
    expect(rows).toMatchObject([
      {
        action: 'connection.kick',
        actor_kind: 'local',
        address: '127.0.0.1',
        details: { connection: row?.id },
      },
    ]);
  });

  test.each(['nowhere-1', '000000-1', '-', '*.x-1', '00000>-1'])('%s is nobody', async (id) => {
    for (const method of ['GET', 'DELETE']) {
      const { status, body } = await call(`/connections/${encodeURIComponent(id)}`, gateway.server, method);
      expect([status, body.code]).toEqual([404, 'CONNECTION_NOT_FOUND']);
    }
  });
});

describe('how two replicas are doing', () => {
  test('is told by either, each and together', async () => {
    await connectClients(3);
    for (const server of [gateway.server, other]) {
      const { status, body } = await call('/fleet', server);
      expect(status).toBe(200);
      const { replicas, total } = body as unknown as FleetJson;
      expect(replicas.map(({ ok, stats }) => [ok, stats?.connections.connected]).sort()).toEqual([
        [true, 1],
        [true, 2],
      ]);
      for (const { replica, stats } of replicas) expect(stats?.replica).toBe(replica);
      expect(total.connections.connected).toBe(3);
      const limits = replicas.map(({ stats }) => stats?.connections.limit ?? 0);
      expect(total.connections.limit).toBe((limits[0] ?? 0) + (limits[1] ?? 0));
    }
  });

  test('is shown by the commands, with the replica of each connection', async () => {
    await connectClients(2);
    const run = async (...args: string[]) => {
      const io = fakeIo({ env: { LISTEN_ADDR: `127.0.0.1:${gateway.server.httpPort}` } });
      await runProgram(args, io);
      return io;
    };
    const { replicas } = await list();
    const text = (await run('connection', 'list', '--sort', 'client')).out();
    expect(text).toMatch(/^ID\tDEVICE\tTYPE\tREPLICA\tCLIENT ID\t/);
    for (const { replica } of replicas) {
      expect(text).toMatch(new RegExp(`^${replica}-\\w+\\t\\w+\\tsensor\\t${replica}\\tc-[01]\\t`, 'm'));
      const own = jsonLines((await run('connection', 'list', '--replica', replica, '--json')).out());
      expect(own).toMatchObject([{ replica }]);
    }
    await expect(run('connection', 'list', '--replica', 'nobody')).rejects.toMatchObject({ code: 'USAGE' });
    expect((await run('top', '--once')).out()).toMatch(/replicas 2 .*\n connections 2 /);
    const [row] = (await list('?q=c-1')).connections;
    expect((await run('connection', 'kick', '--yes', row?.id ?? '')).out()).toBe(`${row?.id} kicked\n`);
    await clients[1]?.waitClosed();
  });
});

/** Follows `GET /events` of a replica. */
async function follow(query: string, { httpPort }: { httpPort: number }, lastId?: string) {
  const ended = new AbortController();
  later(() => ended.abort());
  const { body } = await fetch(`http://127.0.0.1:${httpPort}/events${query}`, {
    signal: ended.signal,
    ...(lastId === undefined ? {} : { headers: { 'last-event-id': lastId } }),
  });
  let text = '';
  const read = async () => {
    for await (const chunk of body as ReadableStream<Uint8Array>) text += Buffer.from(chunk).toString();
  };
  read().catch(() => {});
  const events = () =>
    text.split('\n\n').flatMap((block): Record<string, unknown>[] => {
      const [, id, kind, data] = /^id: (.*)\nevent: (.*)\ndata: (.*)$/.exec(block) ?? [];
      return data === undefined ? [] : [{ id, kind, ...JSON.parse(data) }];
    });
  return { events, end: () => ended.abort() };
}

test('each counts the replicas that live', async () => {
  for (const { httpPort } of [gateway.server, other])
    await until('both are counted', async () => {
      const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
      return /^svc_mqtt_replicas 2$/m.test(text);
    });
});

describe('events of two replicas', () => {
  test('are followed on either, with the replica named', async () => {
    const replicaOfOther = (await call('/stats', other)).body.replica;
    const streams = [await follow('', gateway.server), await follow('', other)];
    const only = await follow(`?replica=${replicaOfOther}&kind=connected`, gateway.server);
    const device = await connectClients(4);
    clients[1]?.destroy();
    const show = (stream: (typeof streams)[number]) =>
      stream
        .events()
        .filter((event) => event.device === device)
        .map(({ kind, client, replica }) => `${kind} ${client} ${replica === replicaOfOther}`)
        .sort();
    const all = [
      'connected c-0 false',
      'connected c-1 true',
      'connected c-2 false',
      'connected c-3 true',
      'disconnected c-1 true',
    ];
    for (const stream of streams) await until('all are told', () => show(stream).length === all.length);
    for (const stream of streams) expect(show(stream)).toEqual(all);
    await until('those of one are told', () => show(only).length === 2);
    expect(show(only)).toEqual(['connected c-1 true', 'connected c-3 true']);
    for (const stream of [...streams, only]) stream.end();
  });

  test('that a device without a connection is revoked is told once, of one with a connection by who had it', async () => {
    const stream = await follow('?kind=revoked', gateway.server);
    const absent = await addDevice(gateway.server.httpPort);
    await call(`/devices/${absent.id}`, other, 'DELETE');
    const device = await connectClients(2);
    await call(`/devices/${device}`, other, 'DELETE');
    const told = (id: string) => stream.events().filter((event) => event.device === id);
    await until('both are told', () => told(device).length === 2 && told(absent.id).length > 0);
    expect(told(absent.id)).toMatchObject([{ count: 0 }]);
    expect(told(device)).toMatchObject([{ count: 1 }, { count: 1 }]);
    stream.end();
  });

  test('go on after Last-Event-ID on whatever replica', async () => {
    const stream = await follow('?kind=connected', gateway.server);
    await connectClients(2);
    await until('both are told', () => stream.events().length === 2);
    stream.end();
    const { id } = stream.events()[1] ?? {};
    expect(String(id).split(',')).toHaveLength(2);
    const device = await connectClients(2);
    for (const server of [gateway.server, other]) {
      let back = await follow('?kind=connected', server, String(id));
      // A replica that has no time to answer within half a second is left out: the reader comes again.
      await until('what was missed is told', async () => {
        const deadline = performance.now() + 2_000;
        while (back.events().length < 2 && performance.now() < deadline) await delay(20);
        if (back.events().length >= 2) return true;
        back.end();
        back = await follow('?kind=connected', server, String(id));
        return false;
      });
      expect(
        back
          .events()
          .map((event) => [event.device, event.client])
          .sort(),
      ).toEqual([
        [device, 'c-0'],
        [device, 'c-1'],
      ]);
      back.end();
    }
  });

  test('are told in NATS while somebody follows them only', async () => {
    const nats = await connect({ servers: gateway.nats.url });
    later(() => nats.close());
    const told = (subject: string) => {
      const all: Record<string, unknown>[] = [];
      nats.subscribe(subject, {
        callback: (_error, { data }) => void all.push(JSON.parse(Buffer.from(data).toString())),
      });
      return all;
    };
    const batches = told('svc-mqtt.fleet.event');
    const here = told('svc-mqtt.fleet.here');
    await nats.flush();
    await until('nobody follows any more', async () => {
      await connectClients(1);
      const before = batches.length;
      await delay(1_000);
      return batches.length === before;
    });
    const toldOf = (device: string) =>
      batches
        .flatMap(({ events }) => events as { kind: string; device: string }[])
        .filter((event) => event.device === device && event.kind === 'connected');
    const unseen = await connectClients(1);
    const stream = await follow('?kind=connected', other);
    await until('it is said', () => here.some(({ follows }) => follows === true));
    await nats.flush();
    const seen = await connectClients(1);
    await until('it is told', () => toldOf(seen).length === 1);
    expect(toldOf(unseen)).toEqual([]);
    const { replica: follower } = (await call('/stats', other)).body;
    stream.end();
    await until('it is said', () => here.findLast(({ replica }) => replica === follower)?.follows !== true);
  });
});

describe('the doctor', () => {
  const examine = async () => {
    const env = {
      DATABASE_URL: gateway.databaseUrl,
      NATS_URL: gateway.nats.url,
      LISTEN_ADDR: `127.0.0.1:${gateway.server.httpPort}`,
    };
    const io = fakeIo({ env });
    await runProgram(['doctor', '--json', '--no-message'], io);
    const { checks } = JSON.parse(io.out()) as { checks: Record<string, string>[] };
    return checks.filter(({ check }) => check === 'fleet');
  };

  test('asks every replica, and names one that has other settings', async ({ onTestFinished }) => {
    const { replicas } = await list();
    const names = replicas.map(({ replica, host }) => `${replica} (${host})`).sort();
    expect(await examine()).toMatchObject([
      {
        status: 'ok',
        detail: `2 replicas answer over NATS, alike in version and settings: ${names.join(', ')}`,
      },
    ]);
    const third = await startReplica(onTestFinished, gateway, { ACL: 'open', MAX_PACKET_BYTES: '70000' });
    const { body } = await call('/stats', third);
    const found = await examine();
    expect(found.map(({ status }) => status)).toEqual(['problem', 'problem']);
    expect(found.map(({ detail }) => detail)).toEqual([
      expect.stringMatching(`^Replicas differ in ACL: confined on 2 replicas; open on ${body.replica} \\(`),
      expect.stringMatching(
        `^Replicas differ in MAX_PACKET_BYTES: .* on 2 replicas; 70000 on ${body.replica} \\(`,
      ),
    ]);
    await third.end('SIGTERM');
    await until('it is gone', async () => (await list()).replicas.length === 2);
  });

  test('names a replica that does not answer', async () => {
    const { body } = await call('/stats', other);
    process.kill(other.pid, 'SIGSTOP');
    try {
      expect(await examine()).toMatchObject([
        {
          status: 'problem',
          detail: expect.stringMatching(`^Replica ${body.replica} \\(.*: did not answer within 500 ms$`),
        },
      ]);
    } finally {
      process.kill(other.pid, 'SIGCONT');
    }
    await until('it is back', async () => (await list()).replicas.every(({ ok }) => ok));
  });
});

describe('the services API of NATS', () => {
  test('lists every replica, with what it can be asked', async () => {
    const nats = await connect({ servers: gateway.nats.url });
    later(() => nats.close());
    const collect = async <T>(found: Promise<AsyncIterable<T>>) => {
      const all: T[] = [];
      for await (const each of await found) all.push(each);
      return all;
    };
    const client = nats.services.client();
    const infos = await collect(client.info('svc-mqtt'));
    const { replicas } = await list();
    expect(infos.map(({ metadata }) => metadata?.replica).sort()).toEqual(
      replicas.map(({ replica }) => replica).sort(),
    );
    const names = infos[0]?.endpoints.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['stats', 'connections', 'connection', 'kick']));
    expect((await collect(client.stats('svc-mqtt'))).length).toBe(2);

    const [replica] = replicas;
    const ask = async (question: string, request: string) => {
      const { headers, data } = await nats.request(`svc-mqtt.fleet.${replica?.replica}.${question}`, request);
      const code = headers?.get('Nats-Service-Error-Code');
      return code === undefined || code === '' ? JSON.parse(Buffer.from(data).toString()) : Number(code);
    };
    expect(await ask('connections', '{"sort":"client","limit":1}')).toMatchObject({ total: 0 });
    expect(await ask('stats', '')).toMatchObject({ replica: replica?.replica });
    expect(await ask('connection', '{"id":"none"}')).toBe(404);
    for (const [question, request] of [
      ['connections', '{"limit":501}'],
      ['connections', 'not JSON'],
      ['connection.keys', '{"sort":"client","descending":true,"limit":1000000}'],
      ['connection.rows', '{"ids":[1]}'],
      ['connection', '[]'],
      ['kick', '{"id":"a-1"}'],
      ['kick', '{"id":"a-1","actor":{"kind":"nobody","name":"x"}}'],
    ] as const)
      expect([request, await ask(question, request)]).toEqual([request, 400]);
    expect(await ask('kick', '{"id":"a-1","actor":{"kind":"local","name":"x"}}')).toBe(404);
  });
});

describe('a replica that does not answer', () => {
  test('is shown as such and not waited for, and is back when it answers', async () => {
    await connectClients(2);
    const [before] = (await list('?q=c-1')).connections;
    process.kill(other.pid, 'SIGSTOP');
    try {
      const page = await list();
      expect(clientsOf(page)).toEqual(['c-0']);
      expect(page.replicas).toMatchObject([
        { ok: true, detail: null },
        { replica: before?.replica, ok: false, detail: 'did not answer within 500 ms' },
      ]);
      const { status, body } = await call(`/connections/${before?.id}`);
      expect([status, body.code]).toEqual([503, 'REPLICA_UNAVAILABLE']);
      expect(body.detail).toContain(`Replica ${before?.replica}`);
    } finally {
      process.kill(other.pid, 'SIGCONT');
    }
    await until('it is back', async () => (await list()).replicas.every(({ ok }) => ok));
    expect((await list()).total).toBe(2);
  });

  test('leaves the list when it ends', async () => {
    const third = await startReplica(later, gateway);
    await until('it is seen', async () => (await list()).replicas.length === 3);
    await third.end('SIGKILL');
    await until('it is gone', async () => (await list()).replicas.length === 2);
  });

  test('is one replica alone while NATS is away', async () => {
    await connectClients(2);
    await gateway.nats.pause();
    try {
      await until('NATS does not answer', async () => {
        const { replicas } = await list();
        return replicas.some(({ detail }) => detail === 'NATS is away');
      });
      expect(clientsOf(await list())).toEqual(['c-0']);
    } finally {
      await gateway.nats.resume();
    }
    await until('both are seen', async () => (await list()).total === 2);
  });
});

test('without the permissions a replica shows its own connections, and says so without an error', async ({
  onTestFinished,
}) => {
  const publish = '"raw.>", "cmd.>", "$JS.>", "svc-mqtt.taken"';
  const alone = await startGateway(onTestFinished, {
    nats: {
      configExtra: `authorization { users = [ { user: gateway, password: gateway
        permissions: { publish: { allow: [${publish}] }, subscribe: { allow: ["_INBOX.>", "cmd.>", "svc-mqtt.taken"] } }
      } ] }`,
    },
    env: { NATS_USER: 'gateway', NATS_PASSWORD: 'gateway', LOG_LEVEL: 'debug' },
  });
  const device = await addDevice(alone.server.httpPort);
  await connected(onTestFinished, alone.server.mqttPort, device, { clientId: 'own' });
  expect(clientsOf(await list('', alone.server))).toEqual(['own']);
  const { log: lines } = alone.server;
  await until('it is told', () => lines.some(({ event }) => event === 'fleet_not_offered'));
  expect(lines.filter(({ event }) => event === 'fleet_denied').length).toBeGreaterThan(0);
  const fleet = /SRV|fleet/;
  const errors = lines.filter(({ level }) => ['error', 'warn', 50, 40].includes(level as string));
  expect(errors.filter((line) => fleet.test(JSON.stringify(line)))).toEqual([]);
});
