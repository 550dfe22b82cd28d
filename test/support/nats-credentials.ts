import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nkeys } from 'nats';

interface KeyPair {
  getPublicKey(): string;
  getSeed(): Uint8Array;
  sign(data: Uint8Array): Uint8Array;
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const base64url = (data: string | Uint8Array) => Buffer.from(data).toString('base64url');

/** A new nkey of a user: what the server is told and what the client keeps. */
export function createUserNkey(): { publicKey: string; seed: string } {
  const pair: KeyPair = nkeys.createUser();
  return { publicKey: pair.getPublicKey(), seed: text(pair.getSeed()) };
}

/** Signs claims as NATS' JWTs are: Ed25519 with an nkey. */
function sign(claims: Record<string, unknown>, issuer: KeyPair): string {
  const header = base64url(JSON.stringify({ typ: 'JWT', alg: 'ed25519-nkey' }));
  const now = Math.floor(Date.now() / 1_000);
  const body = base64url(JSON.stringify({ jti: 'test', iat: now, iss: issuer.getPublicKey(), ...claims }));
  const signature = base64url(issuer.sign(new TextEncoder().encode(`${header}.${body}`)));
  return `${header}.${body}.${signature}`;
}

/** An operator with one account that has JetStream and one user in it, and the server's configuration for them. */
export function createCreds(): { creds: string; configExtra: string } {
  const operator: KeyPair = nkeys.createOperator();
  const user: KeyPair = nkeys.createUser();
  const account = (pair: KeyPair, storage: number) =>
    sign(
      {
        sub: pair.getPublicKey(),
        name: 'account',
        nats: {
          type: 'account',
          version: 2,
          limits: {
            subs: -1,
            data: -1,
            payload: -1,
            imports: -1,
            exports: -1,
            wildcards: true,
            conn: -1,
            leaf: -1,
            mem_storage: storage,
            disk_storage: storage,
            streams: storage,
            consumer: storage,
          },
        },
      },
      operator,
    );
  const system: KeyPair = nkeys.createAccount();
  const devices: KeyPair = nkeys.createAccount();
  const operatorJwt = sign(
    { sub: operator.getPublicKey(), name: 'operator', nats: { type: 'operator', version: 2 } },
    operator,
  );
  const userJwt = sign(
    {
      sub: user.getPublicKey(),
      name: 'user',
      nats: { type: 'user', version: 2, subs: -1, data: -1, payload: -1 },
    },
    devices,
  );
  return {
    creds: [
      '-----BEGIN NATS USER JWT-----',
      userJwt,
      '------END NATS USER JWT------',
      '',
      '-----BEGIN USER NKEY SEED-----',
      text(user.getSeed()),
      '------END USER NKEY SEED------',
      '',
    ].join('\n'),
    configExtra: [
      `operator: ${operatorJwt}`,
      `system_account: ${system.getPublicKey()}`,
      'resolver: MEMORY',
      'resolver_preload: {',
      `  ${system.getPublicKey()}: ${account(system, 0)}`,
      `  ${devices.getPublicKey()}: ${account(devices, -1)}`,
      '}',
    ].join('\n'),
  };
}

/** Files of a certificate authority and of certificates that it signed. */
export interface TestCertificates {
  readonly ca: string;
  readonly server: { readonly cert: string; readonly key: string };
  readonly client: { readonly cert: string; readonly key: string };
}

/** Makes certificates with openssl; the server's is for 127.0.0.1 and localhost. */
export function createCertificates(dir: string): TestCertificates {
  const file = (name: string) => join(dir, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...newKey,
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
    '-days',
    '2',
    '-subj',
    '/CN=Test CA',
  );
  for (const [name, extensions] of [
    ['server', 'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n'],
    ['client', 'extendedKeyUsage=clientAuth\n'],
  ] as const) {
    writeFileSync(file(`${name}.ext`), extensions);
    openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    const signing = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2'];
    openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      ...signing,
      '-out',
      `${name}.crt`,
      '-extfile',
      `${name}.ext`,
    );
  }
  return {
    ca: file('ca.crt'),
    server: { cert: file('server.crt'), key: file('server.key') },
    client: { cert: file('client.crt'), key: file('client.key') },
  };
}
