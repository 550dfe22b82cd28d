import { messageOf } from '../../errors.js';
import type { Log } from '../../log.js';
import {
  type CertificateFiles,
  type Certificates,
  checkCertificates,
  type RawCertificates,
  readCertificateFiles,
  toContextOptions,
} from './certificate-files.js';
import type { CertificateInfo } from './certificate-info.js';

/** The certificate in use by a listener, kept as its files are. */
export type CertificateStore = Awaited<ReturnType<typeof openCertificateStore>>;

/**
 * The files are read and compared this often. Watching them is no use where they are symbolic links, or links to
 * directories of links as those that Kubernetes mounts: what is replaced is not what is watched.
 */
const checkEveryMs = 5_000;
const dayMs = 86_400_000;
/** So long before the end it is said once a day that a certificate expires. */
const expiresSoonMs = 14 * dayMs;

/**
 * Reads certificate files and keeps them current. A start with files that cannot be used fails; a start with an
 * expired certificate is only loud, since clients that do not look at the date still work. Later contents that cannot be
 * used, or that have expired, change nothing and are logged.
 *
 * @throws SvcMqttError CONFIG_INVALID naming the file and what is wrong.
 */
export async function openCertificateStore(options: {
  files: CertificateFiles;
  log: Log;
  checkEveryMs?: number;
}) {
  const { files, log } = options;
  let raw = await readCertificateFiles(files);
  let current = checkCertificates(files, raw);
  let warnedAtMs = 0;
  const callbacks: (() => void)[] = [];
  /** What was wrong at the last check, and what was said of it: each fault is said once. */
  let fault: string | undefined;
  let reported: string | undefined;
  let checks: Promise<void> = Promise.resolve();
  let checking = 0;

  function warnOfExpiry(): void {
    const nowMs = Date.now();
    if (nowMs - warnedAtMs < dayMs) return;
    const { info } = current;
    const fields = { file: info.path, subject: info.subject, expires: info.expiresAt, from: info.validFrom };
    if (info.expiresAt.getTime() <= nowMs) {
      log.error({ event: 'certificate_expired', ...fields }, 'The certificate in use has expired');
    } else if (info.validFrom.getTime() > nowMs) {
      log.error({ event: 'certificate_not_yet_valid', ...fields }, 'The certificate in use is not valid yet');
    } else if (info.expiresAt.getTime() - nowMs < expiresSoonMs) {
      log.warn({ event: 'certificate_expires_soon', ...fields }, 'The certificate in use expires soon');
    } else {
      return;
    }
    warnedAtMs = nowMs;
  }

  /** @param patient two files may just be being replaced one after the other: a fault is logged when it stays. */
  async function check(patient: boolean): Promise<void> {
    const before = fault;
    try {
      const found = await readCertificateFiles(files);
      if (!isSame(found, raw)) take(found, checkCertificates(files, found));
      fault = undefined;
      reported = undefined;
    } catch (error) {
      fault = messageOf(error);
    }
    if (fault !== undefined && fault !== reported && (fault === before || !patient)) {
      reported = fault;
      log.error(
        { event: 'certificate_reload_failed', problem: fault },
        'The certificate files cannot be used; what was read before stays in use',
      );
    }
    warnOfExpiry();
  }

  function take(found: RawCertificates, checked: Certificates): void {
    const { info } = checked;
    // A chain may end in a root that has expired, which clients do not look at, and one behind it may be renewed.
    const expiresAt = info.ownExpiresAt;
    if (expiresAt.getTime() <= Date.now() && info.fingerprint !== current.info.fingerprint) {
      throw new Error(`${info.path} holds a certificate that has expired (${expiresAt.toISOString()})`);
    }
    raw = found;
    current = checked;
    warnedAtMs = 0;
    for (const callback of callbacks) callback();
    log.info(
      { event: 'certificate_reloaded', file: info.path, subject: info.subject, expires: info.expiresAt },
      'Changed certificate files are in use; connections go on',
    );
  }

  /** One check at a time, in the order in which they are asked for. */
  function run(patient: boolean): Promise<void> {
    checking += 1;
    checks = checks
      .then(() => check(patient))
      .finally(() => {
        checking -= 1;
      });
    return checks;
  }

  warnOfExpiry();
  const timer = setInterval(() => {
    if (checking === 0) void run(true);
  }, options.checkEveryMs ?? checkEveryMs);
  timer.unref();

  return {
    /** Of the certificate in use, which is not the file's while that is faulty. */
    get info(): CertificateInfo {
      return current.info;
    },
    /** Clients are asked for certificates. */
    clientCa: files.clientCa !== undefined,
    contextOptions: () => toContextOptions(current),
    /** Calls back when another certificate, or other authorities, have come into use. */
    onChange(callback: () => void): void {
      callbacks.push(callback);
    },
    /** Reads the files now and takes over what has changed. Never rejects: what is wrong is logged. */
    reload: () => run(false),
    close: (): void => clearInterval(timer),
  };
}

function isSame(a: RawCertificates, b: RawCertificates): boolean {
  return a.cert === b.cert && a.key === b.key && a.clientCa === b.clientCa;
}
