import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SvcMqttError } from '../../src/errors.js';
import { connectNats, type NatsLink } from '../../src/server/forward/connection/nats-link.js';
import { type NatsSettings, readNatsTarget } from '../../src/server/forward/connection/nats-settings.js';
import { noNatsSettings, openTestLog, until } from '../support/forwarding.js';
import {
  createCertificates,
  createCreds,
  createUserNkey,
  type TestCertificates,
} from '../support/nats-credentials.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

let dir: string;
let certificates: TestCertificates;
let server: TestNatsServer | undefined;
let link: NatsLink | undefined;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'svc-mqtt-creds-'));
  certificates = createCertificates(dir);
});

afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});

afterEach(async () => {
  await link?.close();
  await server?.stop();
  link = undefined;
  server = undefined;
});

async function start(configExtra: string): Promise<TestNatsServer> {
  server = await startNatsServer({ configExtra });
  return server;
}

/** Connects, makes sure that the server takes messages, and answers what the log says. */
async function connect(settings: Partial<NatsSettings>): Promise<string> {
  const { log, lines } = openTestLog();
  link = await connectNats({ ...noNatsSettings, ...settings }, log);
  await link.connection?.flush();
  const detail = link.detail;
  await link.close();
  return detail + JSON.stringify(lines);
}

/** The error of an attempt that must fail. */
async function failure(settings: Partial<NatsSettings>): Promise<SvcMqttError> {
  const error = await connectNats({ ...noNatsSettings, ...settings }, openTestLog().log).then(
    async (opened) => {
      await opened.close();
      return undefined;
    },
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof SvcMqttError)) throw new Error(`not refused: ${error}`);
  return error;
}

async function write(name: string, content: string): Promise<string> {
  const path = join(dir, name);
  await writeFile(path, content);
  return path;
}

describe('credentials', () => {
  it('user and password, from the settings and from the URL', async () => {
    const { url } = await start('authorization { user: gate, password: "p@ss:w/rd" }');
    const shown = await connect({ natsUrl: url, natsUser: 'gate', natsPassword: 'p@ss:w/rd' });
    const withUser = url.replace('nats://', 'nats://gate:p%40ss%3Aw%2Frd@');
    expect(await connect({ natsUrl: withUser })).not.toContain('p%40ss');
    expect(shown).not.toContain('p@ss');
    expect(shown).toContain(url);
    for (const settings of [
      { natsUrl: url },
      { natsUrl: url, natsUser: 'gate', natsPassword: 'wrong-secret' },
      { natsUrl: url.replace('nats://', 'nats://gate:wrong-secret@') },
    ]) {
      const error = await failure(settings);
      expect(error.code).toBe('NATS_REFUSED');
      expect(error.toLine()).toContain(url);
      expect(error.toLine()).not.toContain('wrong-secret');
    }
  });

  it('token, from the settings and from the URL', async () => {
    const { url } = await start('authorization { token: "s3cr3t-token" }');
    await connect({ natsUrl: url, natsToken: 's3cr3t-token' });
    await connect({ natsUrl: url.replace('nats://', 'nats://s3cr3t-token@') });
    expect((await failure({ natsUrl: url, natsToken: 'wrong' })).code).toBe('NATS_REFUSED');
  });

  it('nkey', async () => {
    const { publicKey, seed } = createUserNkey();
    const { url } = await start(`authorization { users: [ { nkey: ${publicKey} } ] }`);
    await connect({ natsUrl: url, natsNkeyFile: await write('user.nk', `${seed}\n`) });
    const other = await write('other.nk', createUserNkey().seed);
    expect((await failure({ natsUrl: url, natsNkeyFile: other })).code).toBe('NATS_REFUSED');
    const bad = await failure({ natsUrl: url, natsNkeyFile: await write('bad.nk', 'hello') });
    expect(bad.toLine()).toContain('NATS_NKEY_FILE');
  });

  it('credentials file', async () => {
    const { creds, configExtra } = createCreds();
    const { url } = await start(configExtra);
    await connect({ natsUrl: url, natsCredsFile: await write('user.creds', creds) });
    const others = await write('others.creds', createCreds().creds);
    expect((await failure({ natsUrl: url, natsCredsFile: others })).code).toBe('NATS_REFUSED');
    const bad = await failure({ natsUrl: url, natsCredsFile: await write('bad.creds', 'hello') });
    expect(bad.toLine()).toContain('NATS_CREDS_FILE');
    const missing = await failure({ natsUrl: url, natsCredsFile: join(dir, 'none.creds') });
    expect(missing.code).toBe('CONFIG_INVALID');
    expect(missing.toLine()).toContain(`NATS_CREDS_FILE: cannot read ${join(dir, 'none.creds')}`);
  });

  it('TLS with an authority and a client certificate, by address and by name', async () => {
    const { ca, server: own, client } = certificates;
    const files = (name: string) => JSON.stringify(name);
    const { url, port } = await start(
      `tls { cert_file: ${files(own.cert)}, key_file: ${files(own.key)}, ca_file: ${files(ca)}, verify: true }`,
    );
    const settings = { natsTlsCa: ca, natsTlsCert: client.cert, natsTlsKey: client.key };
    await connect({ natsUrl: url, ...settings });
    await connect({ natsUrl: `tls://localhost:${port}`, ...settings });
    // Without the authority the server is not trusted, without a certificate the client is not.
    expect((await failure({ natsUrl: url, natsTlsCert: client.cert, natsTlsKey: client.key })).code).toBe(
      'NATS_UNREACHABLE',
    );
    expect((await failure({ natsUrl: url, natsTlsCa: ca })).code).toBe('NATS_UNREACHABLE');
  });

  it('refuses a certificate for another name', async () => {
    const { ca, server: own } = certificates;
    const { port } = await start(
      `tls { cert_file: ${JSON.stringify(own.cert)}, key_file: ${JSON.stringify(own.key)} }`,
    );
    await connect({ natsUrl: `tls://127.0.0.1:${port}`, natsTlsCa: ca });
    const error = await failure({ natsUrl: `tls://127.0.0.2:${port}`, natsTlsCa: ca });
    expect(error.code).toBe('NATS_UNREACHABLE');
  });

  it('says so when TLS is required and the server has none', async () => {
    const { url } = await start('');
    const error = await failure({ natsUrl: url, natsTlsCa: certificates.ca });
    expect(error.toLine()).toContain('does not offer TLS');
  });

  it('are read again at every reconnect', async () => {
    const { publicKey, seed } = createUserNkey();
    const next = createUserNkey();
    const natsNkeyFile = await write('rotated.nk', seed);
    const running = await start(
      `authorization { users: [ { nkey: ${publicKey} }, { nkey: ${next.publicKey} } ] }`,
    );
    const test = openTestLog();
    link = await connectNats({ ...noNatsSettings, natsUrl: running.url, natsNkeyFile }, test.log);
    await running.kill();
    await write('rotated.nk', 'being written');
    await running.restart();
    await until(() => link?.detail.includes('NATS_NKEY_FILE') === true);
    await write('rotated.nk', next.seed);
    await until(() => link?.connection !== undefined);
  });
});

describe('addresses', () => {
  it('takes the first server that answers', async () => {
    const { url, port } = await start('');
    expect(await connect({ natsUrl: `nats://127.0.0.1:1, ${url}` })).toContain(url);
    expect(await connect({ natsUrl: `localhost:${port}` })).toContain(`nats://localhost:${port}`);
  });

  it('goes over to another server', async () => {
    const first = await start('');
    const second = await startNatsServer();
    try {
      const test = openTestLog();
      link = await connectNats({ ...noNatsSettings, natsUrl: `${first.url},${second.url}` }, test.log);
      expect(link.detail).toBe(first.url);
      await first.kill();
      await until(() => link?.detail === second.url);
    } finally {
      await link?.close();
      await second.stop();
    }
  });

  it('says which server refuses connections, is unknown, or is not NATS', async () => {
    expect((await failure({ natsUrl: 'nats://127.0.0.1:1' })).toLine()).toBe(
      'NATS at nats://127.0.0.1:1 refuses connections. Start NATS there, or correct NATS_URL',
    );
    expect((await failure({ natsUrl: 'nats://no-such-host.invalid:4222' })).toLine()).toContain(
      'no-such-host.invalid',
    );
    const other = createServer((socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    other.listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const error = await failure({ natsUrl: `127.0.0.1:${port}` });
    other.close();
    expect(error.code).toBe('NATS_UNREACHABLE');
    expect(error.toLine()).toContain(`nats://127.0.0.1:${port}`);
  });

  it('takes a server that was not shown the credentials in time for one to wait for, not for a refusal', async () => {
    const slow = createServer((socket) => {
      socket.on('error', () => {});
      socket.write('INFO {"server_id":"x","version":"2.14.1","headers":true,"auth_required":true}\r\n');
      socket.once('data', () => socket.end("-ERR 'Authentication Timeout'\r\n"));
    });
    slow.listen(0, '127.0.0.1');
    await once(slow, 'listening');
    const url = `nats://127.0.0.1:${(slow.address() as AddressInfo).port}`;
    const error = await failure({ natsUrl: url, natsUser: 'gate', natsPassword: 'pass' });
    slow.close();
    expect(error).toMatchObject({ code: 'NATS_UNREACHABLE', mayPass: true });
    expect(error.toLine()).toContain(`NATS at ${url} was not shown the credentials in time`);
  });

  it('leaves no socket behind at a server that accepts and says nothing', async () => {
    let open = 0;
    const silent = createServer((socket) => {
      open += 1;
      socket.on('error', () => {});
      socket.on('close', () => {
        open -= 1;
      });
    });
    silent.listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as AddressInfo;
    const failing = failure({ natsUrl: `127.0.0.1:${port}` });
    await until(() => open === 1);
    expect((await failing).toLine()).toContain('does not answer as NATS does');
    await until(() => open === 0);
    silent.close();
  });

  it.each([
    [{ natsUrl: 'http://user:hidden@host' }, 'http://, only nats:// and tls://'],
    [{ natsUrl: 'nats://user:hidden@ho st' }, 'not a URL'],
    [{ natsUrl: ',' }, 'names no server'],
    [{ natsUrl: 'nats://a:1@x,nats://b:2@y' }, 'different credentials'],
    [{ natsPassword: 'hidden' }, 'NATS_PASSWORD is set without NATS_USER'],
    [{ natsUser: 'a', natsToken: 'hidden' }, 'NATS_USER and NATS_TOKEN are both set'],
    [{ natsTlsCert: 'x' }, 'Only one of NATS_TLS_CERT and NATS_TLS_KEY'],
  ])('refuses %j', (settings, words) => {
    try {
      readNatsTarget({ ...noNatsSettings, ...settings });
      expect.unreachable();
    } catch (error) {
      expect((error as SvcMqttError).code).toBe('CONFIG_INVALID');
      expect((error as SvcMqttError).toLine()).toContain(words);
      expect((error as SvcMqttError).toLine()).not.toContain('hidden');
    }
  });
});
