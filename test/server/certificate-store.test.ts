import { createPrivateKey } from 'node:crypto';
import { chmod, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { readConfig } from '../../src/read-config.js';
import { type CertificateFiles, listCertificateFiles } from '../../src/server/tls/certificate-files.js';
import { readCertificateInfo } from '../../src/server/tls/certificate-info.js';
import { type CertificateStore, openCertificateStore } from '../../src/server/tls/certificate-store.js';
import {
  createAuthority,
  openTestFiles,
  type Pair,
  type TestAuthority,
  type TestFiles,
} from '../support/certificates.js';
import { openTestLog } from '../support/forwarding.js';

let authority: TestAuthority;
let files: TestFiles;
let stores: CertificateStore[];
let log: ReturnType<typeof openTestLog>;

beforeEach(async () => {
  authority = await createAuthority();
  files = await openTestFiles();
  stores = [];
  log = openTestLog();
});

afterEach(async () => {
  for (const store of stores) store.close();
  await files.remove();
});

const named = (clientCa = false): CertificateFiles => ({
  cert: { setting: 'TLS_CERT', path: files.path('cert.pem') },
  key: { setting: 'TLS_KEY', path: files.path('key.pem') },
  clientCa: clientCa ? { setting: 'MQTT_CLIENT_CA', path: files.path('ca.pem') } : undefined,
});

async function write({ cert, key }: Pair): Promise<void> {
  await files.write('cert.pem', cert);
  await files.write('key.pem', key);
}

async function open(options: { clientCa?: boolean; checkEveryMs?: number } = {}): Promise<CertificateStore> {
  const { clientCa = false, checkEveryMs = 3_600_000 } = options;
  const store = await openCertificateStore({ files: named(clientCa), log: log.log, checkEveryMs });
  stores.push(store);
  return store;
}

const refusal = (message: string) => ({ code: 'CONFIG_INVALID', message: expect.stringContaining(message) });

describe('a start is refused', () => {
  it('without a file, naming it and its setting', async () => {
    await expect(open()).rejects.toMatchObject(refusal(`TLS_CERT: ${files.path('cert.pem')} does not exist`));
    await files.write('cert.pem', (await authority.issue()).cert);
    await expect(open()).rejects.toMatchObject(refusal(`TLS_KEY: ${files.path('key.pem')} does not exist`));
    await mkdir(files.path('key.pem'));
    await expect(open()).rejects.toMatchObject(refusal('key.pem is a directory'));
  });

  it('with a file that this user may not read', async (context) => {
    context.skip(process.getuid?.() === 0, 'the superuser may read everything');
    await write(await authority.issue());
    await chmod(files.path('key.pem'), 0);
    await expect(open()).rejects.toMatchObject(refusal('key.pem may not be read by this user'));
  });

  it.each([
    ['cert.pem', 'no text of a certificate', 'cert.pem holds no certificate in PEM form'],
    ['cert.pem', '', 'cert.pem holds no certificate in PEM form'],
    [
      'cert.pem',
      '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n',
      'cert.pem holds a certificate (number 1) that cannot be read',
    ],
    ['key.pem', 'no key', 'key.pem holds no private key in PEM form'],
    ['ca.pem', '', 'MQTT_CLIENT_CA: '],
  ])('when %s holds "%s"', async (name, content, message) => {
    await write(await authority.issue());
    await files.write('ca.pem', authority.cert);
    await files.write(name, content);
    await expect(open({ clientCa: true })).rejects.toMatchObject(refusal(message));
  });

  it('with the key of another certificate, or one with a passphrase', async () => {
    const [one, other] = [await authority.issue(), await authority.issue()];
    await write({ cert: one.cert, key: other.key });
    await expect(open()).rejects.toMatchObject(
      refusal(`key.pem is not the key of the first certificate in ${files.path('cert.pem')} (TLS_CERT)`),
    );
    const format = { format: 'pem', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase: 'secret' } as const;
    await write({ cert: one.cert, key: createPrivateKey(one.key).export(format).toString() });
    await expect(open()).rejects.toMatchObject(refusal('key.pem is encrypted: give it without a passphrase'));
  });

  it('with half of the settings', () => {
    const list = (env: Record<string, string>) => listCertificateFiles(readConfig({ env }));
    expect(list({})).toEqual({ mqtt: undefined, http: undefined });
    for (const [env, message] of [
      [{ TLS_CERT: 'x' }, 'TLS_CERT is set without TLS_KEY'],
      [{ TLS_KEY: 'x' }, 'TLS_KEY is set without TLS_CERT'],
      [{ HTTP_TLS_KEY: 'x' }, 'HTTP_TLS_KEY is set without HTTP_TLS_CERT'],
      [{ WSS_PORT: '0' }, 'WSS_PORT is set without TLS_CERT and TLS_KEY'],
      [{ MQTT_CLIENT_CA: 'x' }, 'MQTT_CLIENT_CA is set without TLS_CERT and TLS_KEY'],
      [{ MQTT_CLIENT_CERT: 'required' }, 'MQTT_CLIENT_CERT=required is set without MQTT_CLIENT_CA'],
    ] as [Record<string, string>, string][]) {
      expect(() => list(env)).toThrow(message);
    }
  });
});

describe('a start is loud', () => {
  it.each([
    ['certificate_expired', 50, { expiresInDays: -1 }],
    ['certificate_not_yet_valid', 50, { startsInDays: 1 }],
    ['certificate_expires_soon', 40, { expiresInDays: 13 }],
  ])('as %s', async (event, level, leaf) => {
    await write(await authority.issue(leaf));
    await open();
    expect(log.lines).toMatchObject([{ event, level, file: files.path('cert.pem') }]);
  });

  it('but not with a certificate that is good for long', async () => {
    await write(await authority.issue({ expiresInDays: 15 }));
    await open();
    expect(log.lines).toEqual([]);
  });
});

describe('information', () => {
  it('is that of the first certificate of a file, and the first expiry of all', async () => {
    const { cert } = await authority.issue({ commonName: 'gateway', expiresInDays: 30 });
    const path = await files.write('chain.pem', `comment\n${cert}\n${authority.cert}`);
    const info = await readCertificateInfo(path);
    expect(info).toMatchObject({ path, subject: 'CN=gateway' });
    // The authority's own is good for ten days.
    expect(Math.round((info.expiresAt.getTime() - Date.now()) / 86_400_000)).toBe(10);
    expect(info.fingerprint).toMatch(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
  });
});

describe('files that change', () => {
  it('come into use by themselves', async () => {
    await write(await authority.issue());
    const store = await open({ checkEveryMs: 100 });
    const before = store.info.fingerprint;
    const used: unknown[] = [];
    store.onChange(() => used.push(store.contextOptions().cert));
    const renewed = await authority.issue();
    await write(renewed);
    await vi.waitFor(() => expect(used).toEqual([renewed.cert]));
    expect(store.info.fingerprint).not.toBe(before);
    expect(log.count('certificate_reloaded')).toBe(1);
    expect(log.count('certificate_reload_failed')).toBe(0);
  });

  it('come into use when they are mounted as Kubernetes does: links to a directory that is a link', async () => {
    const put = async (version: string, { cert, key }: Pair) => {
      await mkdir(files.path(version));
      await writeFile(files.path(`${version}/cert.pem`), cert);
      await writeFile(files.path(`${version}/key.pem`), key);
      await symlink(version, files.path('..data_tmp'));
      await rename(files.path('..data_tmp'), files.path('..data'));
    };
    await put('..v1', await authority.issue());
    await symlink('..data/cert.pem', files.path('cert.pem'));
    await symlink('..data/key.pem', files.path('key.pem'));
    const store = await open({ checkEveryMs: 100 });
    const renewed = await authority.issue();
    await put('..v2', renewed);
    await rm(files.path('..v1'), { recursive: true });
    await vi.waitFor(() => expect(store.contextOptions()).toMatchObject(renewed));
  });

  it('stay out of use, and are complained of once, while they are faulty', async () => {
    const first = await authority.issue();
    await write(first);
    const store = await open({ checkEveryMs: 5 });
    const changes: unknown[] = [];
    store.onChange(() => changes.push(1));
    for (const fault of ['nonsense', (await authority.issue()).key]) {
      await files.write('key.pem', fault);
      const complaints = log.count('certificate_reload_failed');
      await vi.waitFor(() => expect(log.count('certificate_reload_failed')).toBe(complaints + 1));
      for (let check = 0; check < 3; check += 1) await store.reload();
      expect(log.count('certificate_reload_failed')).toBe(complaints + 1);
      expect(store.contextOptions()).toMatchObject(first);
    }
    expect(log.lines.at(-1)).toMatchObject({
      level: 50,
      problem: expect.stringContaining(files.path('key.pem')),
    });
    await rm(files.path('cert.pem'));
    await store.reload();
    expect(log.lines.at(-1)?.problem).toContain('cert.pem does not exist');
    expect(changes).toEqual([]);
    const renewed = await authority.issue();
    await write(renewed);
    await vi.waitFor(() => expect(store.contextOptions()).toMatchObject(renewed));
  });

  it('stay out of use when they have expired', async () => {
    const first = await authority.issue();
    await write(first);
    const store = await open();
    await write(await authority.issue({ expiresInDays: -1 }));
    await store.reload();
    expect(store.contextOptions()).toMatchObject(first);
    expect(log.lines.at(-1)?.problem).toContain('has expired');
  });

  it('are used when only another one of the chain has expired', async () => {
    const { cert: expired } = await authority.issue({ expiresInDays: -1 });
    const chainOf = ({ cert, key }: Pair) => ({ cert: `${cert}\n${expired}`, key });
    await write(chainOf(await authority.issue()));
    const store = await open();
    const renewed = chainOf(await authority.issue());
    await write(renewed);
    await store.reload();
    expect(store.contextOptions()).toMatchObject(renewed);
    expect(log.count('certificate_reload_failed')).toBe(0);
  });

  it('that hold the authorities of clients are among them', async () => {
    await write(await authority.issue());
    await files.write('ca.pem', authority.cert);
    const store = await open({ clientCa: true });
    const other = await createAuthority();
    await files.write('ca.pem', other.cert);
    await store.reload();
    expect(store.contextOptions().ca).toBe(other.cert);
  });
});
