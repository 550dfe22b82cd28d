// The certificates' library wants it there first.
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import { type CertificateStore, openCertificateStore } from '../../src/server/tls/certificate-store.js';
import { openTestLog } from './forwarding.js';

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const dayMs = 86_400_000;

/** A certificate and its key, in PEM form. */
export interface Pair {
  readonly cert: string;
  readonly key: string;
}

export interface LeafOptions {
  commonName?: string;
  dnsNames?: string[];
  uris?: string[];
  /** Days from now; a negative number is in the past. */
  expiresInDays?: number;
  startsInDays?: number;
  /** `server` or `client`, or both when left out. */
  use?: 'server' | 'client';
}

export interface TestAuthority {
  readonly cert: string;
  issue(options?: LeafOptions): Promise<Pair>;
}

/** Makes an authority, which issues certificates for `localhost` and 127.0.0.1 unless told otherwise. */
export async function createAuthority(name = 'Test Authority'): Promise<TestAuthority> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    keys,
    notBefore: new Date(Date.now() - 10 * dayMs),
    notAfter: new Date(Date.now() + 10 * dayMs),
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });

  return {
    cert: root.toString('pem'),
    async issue({ commonName, dnsNames = ['localhost'], uris = [], ...options } = {}) {
      const leafKeys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
      const uses = { server: x509.ExtendedKeyUsage.serverAuth, client: x509.ExtendedKeyUsage.clientAuth };
      const leaf = await x509.X509CertificateGenerator.create({
        subject: commonName === undefined ? '' : [{ CN: [commonName] }],
        issuer: root.subject,
        publicKey: leafKeys.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: algorithm,
        notBefore: new Date(Date.now() + (options.startsInDays ?? -2) * dayMs),
        notAfter: new Date(Date.now() + (options.expiresInDays ?? 5) * dayMs),
        extensions: [
          new x509.ExtendedKeyUsageExtension(
            options.use === undefined ? Object.values(uses) : [uses[options.use]],
          ),
          new x509.SubjectAlternativeNameExtension([
            { type: 'ip', value: '127.0.0.1' },
            ...dnsNames.map((value) => ({ type: 'dns' as const, value })),
            ...uris.map((value) => ({ type: 'url' as const, value })),
          ]),
        ],
      });
      const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', leafKeys.privateKey);
      return { cert: leaf.toString('pem'), key: x509.PemConverter.encode(pkcs8, 'PRIVATE KEY') };
    },
  };
}

/** A directory of files for a test, and how to replace them. */
export interface TestFiles {
  path(name: string): string;
  /** Writes a file; one that exists is replaced at once, never seen half-written. */
  write(name: string, content: string): Promise<string>;
  remove(): Promise<void>;
}

export async function openTestFiles(): Promise<TestFiles> {
  const directory = await mkdtemp(join(tmpdir(), 'svc-mqtt-tls-'));
  const path = (name: string) => join(directory, name);
  return {
    path,
    async write(name, content) {
      await writeFile(path(`.${name}`), content, { mode: 0o600 });
      await rename(path(`.${name}`), path(name));
      return path(name);
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

/** A server certificate in files, read as a server reads it. */
export interface TestCertificates {
  readonly authority: TestAuthority;
  readonly files: TestFiles;
  readonly store: CertificateStore;
  /** What the store logged. */
  readonly log: ReturnType<typeof openTestLog>;
  /** Replaces certificate and key by others of the same authority, and reads them. */
  renew(options?: LeafOptions): Promise<Pair>;
  close(): Promise<void>;
}

/**
 * @param options.clientCa authorities of client certificates; without it clients are not asked for any.
 * @param options.checkEveryMs how often the files are looked at; seldom, unless given.
 */
export async function openTestCertificates(
  options: { clientCa?: string; checkEveryMs?: number; leaf?: LeafOptions } = {},
): Promise<TestCertificates> {
  const files = await openTestFiles();
  const authority = await createAuthority();
  const write = async ({ cert, key }: Pair) => ({
    cert: { setting: 'TLS_CERT', path: await files.write('cert.pem', cert) },
    key: { setting: 'TLS_KEY', path: await files.write('key.pem', key) },
  });
  const { clientCa } = options;
  const log = openTestLog();
  const store = await openCertificateStore({
    files: {
      ...(await write(await authority.issue(options.leaf))),
      clientCa:
        clientCa === undefined
          ? undefined
          : { setting: 'MQTT_CLIENT_CA', path: await files.write('ca.pem', clientCa) },
    },
    checkEveryMs: options.checkEveryMs ?? 3_600_000,
    log: log.log,
  });
  return {
    authority,
    files,
    store,
    log,
    async renew(leaf) {
      const pair = await authority.issue(leaf);
      await write(pair);
      await store.reload();
      return pair;
    },
    async close() {
      store.close();
      await files.remove();
    },
  };
}
