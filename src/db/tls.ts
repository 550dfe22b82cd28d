import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { messageOf, SvcMqttError } from '../errors.js';
import type { DatabaseAddress } from './dsn.js';

/**
 * The TLS options that an `sslmode` asks for, or false for none. As in libpq, `require` encrypts without
 * verifying unless a certificate authority is given, `verify-ca` ignores the host name, `verify-full` verifies
 * it. Without `sslrootcert`, and with `system`, the authorities of Node.js are used. `allow` is treated as `disable`.
 *
 * @throws SvcMqttError CONFIG_INVALID when a named file cannot be read.
 * @see https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION
 */
export function tlsOptions(address: DatabaseAddress): false | ConnectionOptions {
  const { sslMode } = address;
  if (sslMode === 'disable' || sslMode === 'allow' || address.host.startsWith('/')) return false;
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
    throw new SvcMqttError(
      'CONFIG_INVALID',
      `The file of ${keyword} in DATABASE_URL cannot be read: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
}
