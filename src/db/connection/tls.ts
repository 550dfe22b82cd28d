import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import type pg from 'pg';
import { messageOf, SvcMqttError } from '../../errors.js';
import type { DatabaseAddress, SslMode } from './dsn.js';
import { NegotiatedStream, type Way } from './negotiated-stream.js';

/** In which order the modes that leave it to the server try; any other has one way. */
const waysOf: Partial<Record<SslMode, readonly Way[]>> = {
  allow: ['plain', 'tls'],
  prefer: ['tls', 'plain'],
};

/**
 * How the driver is to encrypt, as an `sslmode` asks: decided for each connection, as in libpq.
 *
 * @throws SvcMqttError CONFIG_INVALID when a named file cannot be read.
 * @see https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
 */
export function encryptionOf(address: DatabaseAddress): Pick<pg.ClientConfig, 'ssl' | 'stream'> {
  const options = tlsOptions(address);
  const ways = waysOf[address.sslMode];
  if (options === false || ways === undefined) return { ssl: options };
  return { ssl: false, stream: () => new NegotiatedStream(ways, options) };
}

/**
 * The TLS options that an `sslmode` asks for, or false for none. As in libpq, `require` encrypts without
 * verifying unless a certificate authority is given, `verify-ca` ignores the host name, `verify-full` verifies
 * it. Without `sslrootcert`, and with `system`, the authorities of Node.js are used.
 */
export function tlsOptions(address: DatabaseAddress): false | ConnectionOptions {
  const { sslMode } = address;
  if (sslMode === 'disable' || address.host.startsWith('/')) return false;
  const rootCert = address.sslRootCert === 'system' ? undefined : address.sslRootCert;
  const verify = sslMode.startsWith('verify') || (sslMode === 'require' && rootCert !== undefined);
  return {
    rejectUnauthorized: verify,
    ...(address.minTlsVersion === undefined ? {} : { minVersion: address.minTlsVersion }),
    ...(address.maxTlsVersion === undefined ? {} : { maxVersion: address.maxTlsVersion }),
    ...(verify && sslMode !== 'verify-full' ? { checkServerIdentity: () => undefined } : {}),
    ...(rootCert === undefined ? {} : { ca: readFile('sslrootcert', rootCert) }),
    ...(address.sslCert === undefined ? {} : { cert: readFile('sslcert', address.sslCert) }),
    ...(address.sslKey === undefined ? {} : { key: readFile('sslkey', address.sslKey) }),
  };
}

function readFile(keyword: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const detail = `The file of ${keyword} in DATABASE_URL cannot be read: ${messageOf(error)}`;
    throw new SvcMqttError('CONFIG_INVALID', detail, { cause: error });
  }
}
