import { X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { messageOf, SvcMqttError } from '../../errors.js';

/** What an operator needs to know of a certificate. */
export interface CertificateInfo {
  /** The file that it was read from. */
  readonly path: string;
  /** Subject, else alternative names, of the first certificate in the file, the server's own; on one line. */
  readonly subject: string;
  readonly validFrom: Date;
  /** When the first one in the file to expire does, which ends the use of all. */
  readonly expiresAt: Date;
  /** When the first one does. */
  readonly ownExpiresAt: Date;
  /** SHA-256 of the first one, as `openssl x509 -fingerprint -sha256` shows it. */
  readonly fingerprint: string;
}

/** A file and the setting that names it. */
export interface NamedFile {
  readonly setting: string;
  readonly path: string;
}

/** What to do about any of the problems with a file. */
export const correctFile = 'Correct the file, or the setting that names it';

/** Far more than a chain, or all authorities of an operating system, take. */
const maxFileBytes = 4_194_304;
const pemCertificate = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/**
 * Reads what a certificate file says of itself; also of one that is expired.
 *
 * @param setting that names the file, for the message.
 * @throws SvcMqttError CONFIG_INVALID when the file cannot be read or holds no certificate.
 */
export async function readCertificateInfo(path: string, setting = 'The file'): Promise<CertificateInfo> {
  const file = { setting, path };
  return describeCertificates(await readPemFile(file), file);
}

/** The same of the text of a file. */
export function describeCertificates(pem: string, file: NamedFile): CertificateInfo {
  const certificates = parseCertificates(pem, file);
  const first = certificates[0] as X509Certificate;
  // Undefined, whatever its type says, when the certificate names its owner by alternative names only.
  const subject = first.subject as string | undefined;
  return {
    path: file.path,
    subject: subject?.split('\n').join(', ') ?? first.subjectAltName ?? '',
    validFrom: new Date(first.validFrom),
    expiresAt: new Date(Math.min(...certificates.map(({ validTo }) => Date.parse(validTo)))),
    ownExpiresAt: new Date(first.validTo),
    fingerprint: first.fingerprint256,
  };
}

/** @throws SvcMqttError CONFIG_INVALID unless every certificate in the text can be read and there is at least one. */
export function parseCertificates(pem: string, file: NamedFile): X509Certificate[] {
  const blocks = pem.match(pemCertificate) ?? [];
  if (blocks.length === 0) throw fileError(file, 'holds no certificate in PEM form');
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch (error) {
      throw fileError(file, `holds a certificate (number ${index + 1}) that cannot be read`, error);
    }
  });
}

const unreadable: Readonly<Record<string, string>> = {
  ENOENT: 'does not exist',
  EACCES: 'may not be read by this user',
  EISDIR: 'is a directory',
};

/** Reads a file of certificates or keys. */
export async function readPemFile(file: NamedFile): Promise<string> {
  try {
    // The size first, so that a wrong path, to a device or a disk image, is not read into memory.
    if ((await stat(file.path)).size > maxFileBytes) {
      throw fileError(file, `is over ${maxFileBytes} bytes and no certificate`);
    }
    return await readFile(file.path, 'utf8');
  } catch (error) {
    if (error instanceof SvcMqttError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? '';
    throw fileError(file, unreadable[code] ?? `cannot be read (${messageOf(error)})`, error);
  }
}

/** @param problem what follows "the file", as "does not exist". */
export function fileError({ setting, path }: NamedFile, problem: string, cause?: unknown): SvcMqttError {
  return new SvcMqttError('CONFIG_INVALID', `${setting}: ${path} ${problem}`, {
    suggestion: correctFile,
    cause,
  });
}
