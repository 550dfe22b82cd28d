import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import mqtt from 'mqtt';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { readCertificateNames } from '../../src/server/mqtt/admission/certificate-names.js';
import type { BrokerConfig } from '../../src/server/mqtt/broker-options.js';
import type { CloseReason } from '../../src/server/mqtt/protocol/close-reason.js';
import {
  createAuthority,
  type LeafOptions,
  openTestCertificates,
  type Pair,
  type TestAuthority,
  type TestCertificates,
} from '../support/certificates.js';
import { type ControlledBroker, openControlledBroker } from '../support/controlled-broker.js';
import { connectPacket, openRawClient, speakRaw } from '../support/raw-client.js';

const accepted = 0;
const wrongPassword = 4;
const notAuthorized = 5;

let deviceAuthority: TestAuthority;
let certificates: TestCertificates;
let controlled: ControlledBroker;
const sockets: TLSSocket[] = [];

async function open(config: Partial<BrokerConfig> = {}): Promise<void> {
  certificates = await openTestCertificates({ clientCa: deviceAuthority.cert });
  controlled = await openControlledBroker(
    { wssPort: 0, ...config },
    { certificates: certificates.store, log: certificates.log.log },
  );
}

beforeEach(async () => {
  deviceAuthority = await createAuthority('Devices');
});

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await vi.waitFor(() => expect(controlled.broker.connectionCount()).toBe(0));
  await controlled.close();
  await certificates.close();
});

const refused = (reason: CloseReason) => controlled.broker.counters.refused[reason];

async function dial(pair: Pair | undefined, options: ConnectionOptions = {}) {
  const socket = connect({
    host: '127.0.0.1',
    port: controlled.broker.ports.tls ?? 0,
    servername: 'localhost',
    ca: certificates.authority.cert,
    ...pair,
    ...options,
  });
  sockets.push(socket);
  return speakRaw(socket);
}

/** Logs in with a certificate; answers the return code of CONNACK. */
async function logIn(
  pair: Pair | undefined,
  login: { userName?: string; password?: string } = {},
  options: ConnectionOptions = {},
): Promise<number | undefined> {
  const client = await dial(pair, options);
  client.send(connectPacket({ clientId: `c${sockets.length}`, ...login }));
  return (await client.next()).body[1];
}

const certify = (leaf: LeafOptions, authority = deviceAuthority) =>
  authority.issue({ use: 'client', dnsNames: [], ...leaf });

describe('a certificate of a device', () => {
  it('logs it in, by common name or URI, with or without its name in CONNECT', async () => {
    await open();
    for (const leaf of [
      { commonName: 'dev1' },
      { uris: ['dev1'] },
      { commonName: 'a product', uris: ['http://example.org/x,y', 'dev1'] },
    ]) {
      const pair = await certify(leaf);
      expect([leaf, await logIn(pair)]).toEqual([leaf, accepted]);
      expect([leaf, await logIn(pair, { userName: 'dev1' })]).toEqual([leaf, accepted]);
      // A password is not asked for, so it makes no difference.
      expect([leaf, await logIn(pair, { userName: 'dev1', password: 'whatever' })]).toEqual([leaf, accepted]);
    }
    expect(controlled.core.kick('dev1', 'revoked')).toBe(9);
  });

  it('may have a subject that cannot be read as text, which ends nothing', async () => {
    await open();
    const odd = async (leaf: LeafOptions) => {
      const { cert, key } = await certify({ ...leaf, commonName: 'unreadable' });
      return { cert: withoutText(cert, 'unreadable'), key };
    };
    expect(await logIn(await odd({}))).toBe(notAuthorized);
    expect(await logIn(await odd({ uris: ['dev1'] }), {}, { servername: 'localhost' })).toBe(notAuthorized);
    expect(await logIn(await certify({ commonName: 'dev1' }))).toBe(accepted);
  });

  it('may carry the id in a URI of a form that is set', async () => {
    await open({ mqttClientCertUri: 'urn:device:{id}' });
    expect(await logIn(await certify({ uris: ['urn:device:dev1'] }))).toBe(accepted);
    for (const uri of ['urn:device:', 'urn:device:dev1:x', 'x:urn:device:dev1', 'dev1']) {
      expect([uri, await logIn(await certify({ uris: [uri] }))]).toEqual([uri, notAuthorized]);
    }
  });

  it('logs it in however often others fail that share one of its names', async () => {
    await open({ maxFailedLoginsPerDevice: 2, maxFailedLoginsPerAddress: 0 });
    const stray = await certify({ commonName: 'sensor', uris: ['gone'] });
    for (let time = 0; time < 3; time += 1) {
      expect(await logIn(stray)).toBe(notAuthorized);
      expect(await logIn(stray, { userName: '' })).toBe(notAuthorized);
    }
    expect([refused('certificate-unknown'), refused('too-many-failed-logins')]).toEqual([2, 4]);
    const device = await certify({ commonName: 'sensor', uris: ['dev1'] });
    expect(await logIn(device)).toBe(accepted);
    expect(await logIn(device, { userName: '' })).toBe(accepted);
  });

  it('logs it in from where it logged in last however many others fail there, whichever name is its own', async () => {
    await open({ maxFailedLoginsPerDevice: 0, maxFailedLoginsPerAddress: 2 });
    const device = await certify({ commonName: 'sensor', uris: ['dev1'] });
    expect(await logIn(device)).toBe(accepted);
    for (let time = 0; time < 3; time += 1) await logIn(await certify({ commonName: `stray${time}` }));
    expect(refused('too-many-failed-logins')).toBe(1);
    expect(await logIn(device)).toBe(accepted);
  });

  it('logs it in over WebSocket too', async () => {
    await open();
    const pair = await certify({ commonName: 'dev1' });
    const tls = { ca: certificates.authority.cert, ...pair };
    const client = await mqtt.connectAsync(`wss://localhost:${controlled.broker.ports.wss}/mqtt`, {
      reconnectPeriod: 0,
      wsOptions: { ...tls, family: 4 },
    });
    await client.publishAsync('raw/dev1', 'hello', { qos: 1 });
    await client.endAsync();
    expect(controlled.taken).toHaveLength(1);
  });

  it('does not let it be another', async () => {
    await open();
    const pair = await certify({ commonName: 'dev1' });
    const { id, password } = controlled.otherDevice;
    expect(await logIn(pair, { userName: id, password })).toBe(notAuthorized);
    expect(refused('certificate-mismatch')).toBe(1);
  });

  it('is no use once the device is revoked, and ends its connections', async () => {
    await open();
    const pair = await certify({ commonName: 'dev1' });
    const client = await dial(pair);
    client.send(connectPacket());
    await client.next();
    controlled.revoke('dev1');
    await client.waitClosed();
    expect(await logIn(pair)).toBe(notAuthorized);
    expect(refused('revoked-at-connect')).toBe(1);
  });

  it('ends the connection when it expires; one by password goes on', async () => {
    await open();
    const client = await dial(await certify({ commonName: 'dev1', expiresInDays: 1 }));
    client.send(connectPacket({ clientId: 'by-certificate' }));
    await client.next();
    const { id, password } = controlled.device;
    const other = await dial(undefined);
    other.send(connectPacket({ clientId: 'by-password', userName: id, password }));
    await other.next();
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * 86_400_000 });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    await client.waitClosed();
    expect(controlled.broker.counters.closed['certificate-ended']).toBe(1);
    expect(controlled.broker.connectionCount()).toBe(1);
  });

  it.each([
    ['of a device that there is not', 'certificate-unknown', () => certify({ commonName: 'nobody' })],
    ['that names nothing', 'certificate-unknown', () => certify({})],
    ['that has expired', 'certificate-untrusted', () => certify({ commonName: 'dev1', expiresInDays: -1 })],
    [
      'that is not valid yet',
      'certificate-untrusted',
      () => certify({ commonName: 'dev1', startsInDays: 1 }),
    ],
    [
      'of another authority',
      'certificate-untrusted',
      async () => certify({ commonName: 'dev1' }, await createAuthority('Devices')),
    ],
    [
      'of the authority of the server',
      'certificate-untrusted',
      () => certify({ commonName: 'dev1' }, certificates.authority),
    ],
    [
      'of a server',
      'certificate-untrusted',
      () => deviceAuthority.issue({ commonName: 'dev1', use: 'server' }),
    ],
  ] as const)('%s is refused, also with the right password', async (_what, reason, issue) => {
    await open();
    const pair = await issue();
    expect(await logIn(pair)).toBe(notAuthorized);
    expect(refused(reason)).toBe(1);
    const { id, password } = controlled.device;
    expect(await logIn(pair, { userName: id, password })).toBe(notAuthorized);
    expect(controlled.broker.counters.accepted).toBe(0);
  });

  it('is trusted no longer when the authorities are replaced, not even in a resumed session', async () => {
    await open();
    const pair = await certify({ commonName: 'dev1' });
    const first = await dial(pair);
    const session = new Promise<Buffer>((resolve) => first.socket.once('session', resolve));
    first.send(connectPacket());
    await first.next();
    const again = { session: await session };
    expect(await logIn(pair, {}, again)).toBe(accepted);
    expect(sockets.at(-1)?.isSessionReused()).toBe(true);

    const other = await createAuthority('Other devices');
    await certificates.files.write('ca.pem', other.cert);
    await certificates.store.reload();
    expect(await logIn(pair, {}, again)).toBe(notAuthorized);
    expect(sockets.at(-1)?.isSessionReused()).toBe(false);
    expect(refused('certificate-untrusted')).toBe(1);
    expect(await logIn(await certify({ commonName: 'dev1' }, other))).toBe(accepted);
    // Who is connected stays.
    expect(first.closed).toBe(false);
  });

  it('is refused once it has expired, also in a resumed session, whose handshake does not look at dates', async () => {
    await open();
    const pair = await certify({ commonName: 'dev1', expiresInDays: 1 });
    const first = await dial(pair);
    const session = new Promise<Buffer>((resolve) => first.socket.once('session', resolve));
    first.send(connectPacket());
    await first.next();
    const again = { session: await session };
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * 86_400_000 });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    expect(await logIn(pair, {}, again)).toBe(notAuthorized);
    expect(sockets.at(-1)?.isSessionReused()).toBe(true);
    vi.setSystemTime(Date.now() - 10 * 86_400_000);
    expect(await logIn(pair, {}, again)).toBe(notAuthorized);
    expect(refused('certificate-untrusted')).toBe(2);
    expect(certificates.log.lines.filter(({ event }) => event === 'connect_refused')).toMatchObject([
      { problem: 'CERT_HAS_EXPIRED' },
      { problem: 'CERT_NOT_YET_VALID' },
    ]);
  });

  it('names what was wrong with it in the log, and nothing secret', async () => {
    await open();
    await logIn(await certify({ commonName: 'dev1', expiresInDays: -1 }));
    const line = certificates.log.lines.find(({ event }) => event === 'connect_refused');
    expect(line).toMatchObject({
      reason: 'certificate-untrusted',
      certificate: ['dev1'],
      problem: 'CERT_HAS_EXPIRED',
    });
  });
});

describe('MQTT_CLIENT_CERT', () => {
  it('optional lets a password do without a certificate', async () => {
    await open();
    const { id, password } = controlled.device;
    expect(await logIn(undefined, { userName: id, password })).toBe(accepted);
    expect(await logIn(undefined, { userName: id, password: 'wrong' })).toBe(wrongPassword);
    expect(await logIn(undefined)).toBe(wrongPassword);
  });

  it.each(['required', 'with-password'] as const)(
    '%s lets nobody in without one, on no port',
    async (rule) => {
      await open({ mqttClientCert: rule });
      const { id, password } = controlled.device;
      expect(await logIn(undefined, { userName: id, password })).toBe(notAuthorized);
      const plain = await openRawClient(controlled.port);
      plain.send(connectPacket({ userName: id, password }));
      expect((await plain.next()).body[1]).toBe(notAuthorized);
      expect(refused('certificate-missing')).toBe(2);
    },
  );

  it('required asks for no password', async () => {
    await open({ mqttClientCert: 'required' });
    expect(await logIn(await certify({ commonName: 'dev1' }))).toBe(accepted);
  });

  it('with-password asks for both', async () => {
    await open({ mqttClientCert: 'with-password' });
    const pair = await certify({ commonName: 'dev1' });
    const { password } = controlled.device;
    expect(await logIn(pair)).toBe(wrongPassword);
    expect(await logIn(pair, { userName: 'dev1' })).toBe(wrongPassword);
    expect(await logIn(pair, { userName: 'dev1', password: 'wrong' })).toBe(wrongPassword);
    expect(await logIn(pair, { userName: 'dev1', password: controlled.otherDevice.password })).toBe(
      wrongPassword,
    );
    expect(await logIn(pair, { userName: 'dev1', password })).toBe(accepted);
  });
});

describe('the names in a certificate', () => {
  it('are not mistaken when a name looks like a list of names', () => {
    const read = (names: string) => readCertificateNames(undefined, names, '{id}');
    expect(read('DNS:x, URI:a, IP Address:::1, URI:b')).toEqual(['a', 'b']);
    expect(read('URI:"a\\u002c URI:b"')).toEqual(['a, URI:b']);
    expect(read('DNS:"x\\u002c URI:dev1"')).toEqual([]);
    expect(read('DirName:"CN = x\\u002c URI:dev1", URI:b')).toEqual(['b']);
    // A list that is not as Node.js writes it is not guessed at.
    expect(read('DNS:x,URI:dev1')).toEqual([]);
    expect(read('URI:"dev1')).toEqual([]);
  });

  it('are few and short', () => {
    const uris = Array.from({ length: 50 }, (_, index) => `URI:u${index}`).join(', ');
    expect(readCertificateNames(['one', 'two'], uris, '{id}')).toEqual([
      'one',
      'two',
      'u0',
      'u1',
      'u2',
      'u3',
      'u4',
      'u5',
    ]);
    expect(readCertificateNames('x'.repeat(129), 'URI:', '{id}')).toEqual([]);
  });
});

/** The same certificate, no longer signed rightly, with a BIT STRING in place of a text of its subject. */
function withoutText(pem: string, text: string): string {
  const der = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  const at = der.indexOf(text);
  der[at - 2] = 3;
  der[at] = 0;
  return `-----BEGIN CERTIFICATE-----\n${der
    .toString('base64')
    .match(/.{1,64}/g)
    ?.join('\n')}\n-----END CERTIFICATE-----\n`;
}
