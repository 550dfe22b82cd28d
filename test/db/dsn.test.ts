import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseDatabaseUrl, sslModes } from '../../src/db/connection/dsn.js';
import { tlsOptions } from '../../src/db/connection/tls.js';
import { SvcMqttError } from '../../src/errors.js';

/** What a user, password or name may hold; PostgreSQL itself refuses U+0000. */
const anyText = fc
  .string({ unit: 'binary', minLength: 1, maxLength: 40 })
  .filter((text) => text.isWellFormed() && !text.includes('\0'));

const quote = (value: string) => `'${value.replace(/(['\\])/g, '\\$1')}'`;

describe('a keyword/value DSN', () => {
  test('as GORM users write it', () => {
    const dsn = `host=db user=u password='p w' dbname=d port=5433 sslmode=disable TimeZone=UTC`;
    expect(parseDatabaseUrl(dsn)).toMatchObject({
      host: 'db',
      port: 5_433,
      user: 'u',
      password: 'p w',
      database: 'd',
      sslMode: 'disable',
      where: 'postgres://db:5433/d',
    });
  });

  test.each([
    ['host = db  user\t=\nu', { host: 'db', user: 'u' }],
    [`user=u password=''`, { user: 'u', password: undefined, host: 'localhost', port: 5_432 }],
    // As in libpq, white space after "=" is skipped, so this is no empty password.
    ['user=u password= x dbname=d', { user: 'u', password: 'x', database: 'd' }],
    [String.raw`user=u password=a\ b\'c`, { password: `a b'c` }],
    [
      'host=/var/run/postgresql dbname=d',
      { host: '/var/run/postgresql', where: 'postgres:///d?host=/var/run/postgresql&port=5432' },
    ],
    ['host=::1 dbname=d', { host: '::1', where: 'postgres://[::1]:5432/d' }],
    ['user=u search_path=a,b', { options: '-c search_path=a,b' }],
    [
      'user=u connect_timeout=3 application_name=gateway',
      { connectTimeoutSec: 3, applicationName: 'gateway' },
    ],
    [
      'user=u',
      { sslMode: 'prefer', applicationName: 'svc-mqtt', connectTimeoutSec: undefined, options: undefined },
    ],
  ])('%s', (dsn, expected) => {
    expect(parseDatabaseUrl(dsn)).toMatchObject(expected);
  });

  test('gives back any quoted value', () => {
    fc.assert(
      fc.property(anyText, anyText, anyText, (user, password, database) => {
        const dsn = `user=${quote(user)} password=${quote(password)} dbname=${quote(database)}`;
        expect(parseDatabaseUrl(dsn)).toMatchObject({ user, password, database });
      }),
    );
  });
});

describe('a URL', () => {
  test.each([
    ['postgres://u:p@db:5433/d', { host: 'db', port: 5_433, user: 'u', password: 'p', database: 'd' }],
    ['postgresql://u@db/d', { host: 'db', port: 5_432, user: 'u', password: undefined }],
    ['postgres://db', { host: 'db', user: undefined, database: undefined, where: 'postgres://db:5432/' }],
    ['postgres://u:p:q@r@db/d', { password: 'p:q@r', host: 'db' }],
    ['postgres://[::1]:5433/d', { host: '::1', port: 5_433 }],
    ['postgres://%2Frun%2Fpg/d', { host: '/run/pg' }],
    ['postgres:///d?host=/run/pg&port=5433', { host: '/run/pg', port: 5_433, database: 'd' }],
    [
      'postgres://u@db/d?sslmode=verify-full&sslrootcert=/ca.pem',
      { sslMode: 'verify-full', sslRootCert: '/ca.pem' },
    ],
    ['postgres://u@db/d?ssl=true', { sslMode: 'require' }],
    ['postgres://u@db/d?sslrootcert=system', { sslMode: 'verify-full', sslRootCert: 'system' }],
    ['postgres://u@db/d?sslrootcert=system&sslmode=verify-full', { sslMode: 'verify-full' }],
    ['postgres://u@db/d?options=-c%20geqo%3Doff', { options: '-c geqo=off' }],
  ])('%s', (url, expected) => {
    expect(parseDatabaseUrl(url)).toMatchObject(expected);
  });

  test('gives back any percent-encoded value', () => {
    fc.assert(
      fc.property(anyText, anyText, anyText, (user, password, database) => {
        const [u, p, d] = [user, password, database].map(encodeURIComponent);
        expect(parseDatabaseUrl(`postgres://${u}:${p}@db/${d}`)).toMatchObject({ user, password, database });
      }),
    );
  });
});

describe('what cannot be read is refused', () => {
  test.each([
    ['', /empty/],
    ['mysql://u:p@db/d', /neither/],
    ['just some words', /neither/],
    [`user=u password='open`, /quotes/],
    [`user=u password=two words host=db`, /password/],
    ['user=u port=abc', /port .* 1 to 65535/],
    ['user=u port=0', /port/],
    ['user=u sslmode=on', /sslmode.*verify-full/],
    ['user=u sslrootcert=system sslmode=verify-ca', /sslrootcert=system .*sslmode=verify-ca.*verify-full/],
    ['user=u sslrootcert=system sslmode=disable', /sslrootcert=system .*sslmode=disable/],
    ['postgres://u@db/d?ssl=true&sslrootcert=system', /sslrootcert=system .*sslmode=require/],
    ['user=u hostt=db', /unknown keyword "hostt"/],
    ['user=u service=x', /unknown keyword "service"/],
    ['host=a,b user=u', /several hosts/],
    ['postgres://a:1,b:2/d', /several hosts/],
    ['postgres://u:%zz@db/d', /password .*percent/],
    ['postgres://u:p@db/d?sslmode', /keyword=value/],
    ['postgres://u:p@db:99999/d', /port/],
  ])('%s', (text, reason) => {
    const error = refusalOf(text);
    expect(error.code).toBe('CONFIG_INVALID');
    expect(error.message).toMatch(reason);
    expect(error.suggestion).toContain('postgres://');
  });

  test('without ever repeating the password or failing in another way', () => {
    const secret = 'S3cr3tPassw0rd';
    const piece = fc.oneof(
      fc.constantFrom(
        'host',
        'user',
        'dbname',
        'port',
        'sslmode',
        '=',
        ' ',
        "'",
        '\\',
        '@',
        ':',
        '/',
        '?',
        '&',
        '%',
        '[',
        ']',
        ',',
      ),
      fc.constantFrom(...sslModes),
      fc.string({ maxLength: 5 }),
    );
    const junk = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''));
    const text = fc.oneof(
      junk.map((rest) => `postgres://u:${secret}@db${rest}`),
      junk.map((rest) => `password=${secret} ${rest}`),
      fc.tuple(junk, junk).map(([before, after]) => `${before} password='${secret}' ${after}`),
    );
    fc.assert(
      fc.property(text, (dsn) => {
        try {
          expect(parseDatabaseUrl(dsn).where).not.toContain(secret);
        } catch (error) {
          if (!(error instanceof SvcMqttError)) throw error;
          expect(error.toLine()).not.toContain(secret);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});

describe('what demands something', () => {
  const forms = (keyword: string, value: string) => [
    `host=db user=u ${keyword}='${value}'`,
    `postgres://u@db/d?${keyword}=${encodeURIComponent(value)}`,
  ];

  test.each([
    ['channel_binding', 'require', 'sslmode=verify-full'],
    ['gssencmode', 'require', 'sslmode=verify-full'],
    ['require_auth', 'scram-sha-256', 'pg_hba.conf'],
    ['require_auth', '!password', 'pg_hba.conf'],
    ['requirepeer', 'postgres', 'socket directory'],
    ['sslcrl', '/crl.pem', 'Leave it out'],
    ['sslcrldir', '/crl', 'Leave it out'],
    ['sslcertmode', 'require', 'clientcert'],
    ['sslnegotiation', 'direct', 'Leave it out'],
    ['sslsni', '0', 'Leave it out'],
    ['target_session_attrs', 'read-write', 'takes writes'],
    ['target_session_attrs', 'primary', 'any or prefer-standby'],
    ['min_protocol_version', '3.2', 'version 3.0'],
    ['Channel_Binding', 'require', 'sslmode=verify-full'],
  ])('and cannot be kept is refused: %s=%s', (keyword, value, todo) => {
    for (const text of forms(keyword, value)) {
      const error = refusalOf(text);
      expect(error.code).toBe('CONFIG_INVALID');
      expect(error.message).toContain(`demands with ${keyword.toLowerCase()} `);
      expect(error.suggestion).toContain(todo);
    }
  });

  test.each([
    ['channel_binding', 'prefer'],
    ['channel_binding', 'disable'],
    ['gssencmode', 'prefer'],
    ['gssencmode', 'disable'],
    ['require_auth', ''],
    ['sslcrl', ''],
    ['sslcertmode', 'allow'],
    ['sslnegotiation', 'postgres'],
    ['sslsni', '1'],
    ['target_session_attrs', 'any'],
    ['min_protocol_version', '3.0'],
    ['max_protocol_version', 'latest'],
    ['requiressl', '0'],
  ])('and makes no difference is taken: %s=%s', (keyword, value) => {
    for (const text of forms(keyword, value))
      expect(parseDatabaseUrl(text)).toMatchObject({ sslMode: 'prefer' });
  });

  test.each([
    ['requiressl=1', 'require'],
    ['requiressl=1&sslmode=verify-ca', 'verify-ca'],
    ['sslmode=disable&requiressl=1', 'disable'],
    ['requiressl=1&sslrootcert=system', 'verify-full'],
  ])('is kept: %s', (query, sslMode) => {
    for (const text of [`postgres://u@db/d?${query}`, `host=db ${query.replace('&', ' ')}`]) {
      expect(parseDatabaseUrl(text)).toMatchObject({ sslMode });
    }
  });

  test('of the TLS version reaches the handshake', () => {
    const tls = (query: string) => tlsOptions(parseDatabaseUrl(`postgres://u@db/d?sslmode=require&${query}`));
    expect(tls('ssl_min_protocol_version=TLSv1.3')).toMatchObject({ minVersion: 'TLSv1.3' });
    expect(tls('ssl_max_protocol_version=tlsv1.2')).toMatchObject({ maxVersion: 'TLSv1.2' });
    for (const query of [
      'ssl_min_protocol_version=SSLv3',
      'ssl_max_protocol_version=TLSv1.1',
      'ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2',
      'requiressl=yes',
    ]) {
      expect(refusalOf(`postgres://u@db/d?${query}`).message).toContain(query.split('=')[0]?.slice(0, 4));
    }
  });

  test('no client certificate is kept: sslcertmode=disable', () => {
    const text = 'postgres://u@db/d?sslcert=/c.pem&sslkey=/k.pem';
    expect(parseDatabaseUrl(text)).toMatchObject({ sslCert: '/c.pem', sslKey: '/k.pem' });
    expect(parseDatabaseUrl(`${text}&sslcertmode=disable`)).toMatchObject({
      sslCert: undefined,
      sslKey: undefined,
    });
  });
});

function refusalOf(text: string): SvcMqttError {
  try {
    parseDatabaseUrl(text);
  } catch (error) {
    if (error instanceof SvcMqttError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}
