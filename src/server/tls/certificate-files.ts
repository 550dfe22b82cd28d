import { createPrivateKey, type KeyObject } from 'node:crypto';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import type { Config } from '../../config.js';
import { messageOf, SvcMqttError } from '../../errors.js';
import {
  type CertificateInfo,
  correctFile,
  describeCertificates,
  fileError,
  type NamedFile,
  parseCertificates,
  readPemFile,
} from './certificate-info.js';

/** The files of one listener. */
export interface CertificateFiles {
  readonly cert: NamedFile;
  readonly key: NamedFile;
  /** Authorities whose client certificates are trusted; undefined: clients are not asked for any. */
  readonly clientCa: NamedFile | undefined;
}

/** The contents of the files, checked: they belong together and TLS takes them. */
export interface Certificates {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string | undefined;
  readonly info: CertificateInfo;
}

/** What the files hold, unchecked; equal contents have equal texts. */
export type RawCertificates = Readonly<Record<'cert' | 'key', string>> & {
  readonly clientCa: string | undefined;
};

/**
 * The certificate files that the settings name, for the MQTT broker and for the HTTP API.
 *
 * @throws SvcMqttError CONFIG_INVALID for a setting that lacks the one it goes with.
 */
export function listCertificateFiles(
  config: Pick<Config, 'tlsCert' | 'tlsKey' | 'mqttClientCa' | 'wssPort' | 'httpTlsCert' | 'httpTlsKey'> &
    Pick<Config, 'mqttClientCert'>,
): { mqtt: CertificateFiles | undefined; http: CertificateFiles | undefined } {
  const mqtt = pairFiles('TLS_CERT', config.tlsCert, 'TLS_KEY', config.tlsKey);
  if (mqtt === undefined && config.wssPort !== undefined) throw needs('WSS_PORT', 'TLS_CERT and TLS_KEY');
  const { mqttClientCa } = config;
  if (mqtt === undefined && mqttClientCa !== undefined) throw needs('MQTT_CLIENT_CA', 'TLS_CERT and TLS_KEY');
  if (mqttClientCa === undefined && config.mqttClientCert !== 'optional') {
    throw needs(`MQTT_CLIENT_CERT=${config.mqttClientCert}`, 'MQTT_CLIENT_CA');
  }
  return {
    mqtt:
      mqtt && mqttClientCa !== undefined
        ? { ...mqtt, clientCa: { setting: 'MQTT_CLIENT_CA', path: mqttClientCa } }
        : mqtt,
    http: pairFiles('HTTP_TLS_CERT', config.httpTlsCert, 'HTTP_TLS_KEY', config.httpTlsKey),
  };
}

function pairFiles(
  certSetting: string,
  cert: string | undefined,
  keySetting: string,
  key: string | undefined,
): CertificateFiles | undefined {
  if (cert === undefined && key === undefined) return undefined;
  if (cert === undefined) throw needs(keySetting, certSetting);
  if (key === undefined) throw needs(certSetting, keySetting);
  return {
    cert: { setting: certSetting, path: cert },
    key: { setting: keySetting, path: key },
    clientCa: undefined,
  };
}

function needs(setting: string, other: string): SvcMqttError {
  return new SvcMqttError('CONFIG_INVALID', `${setting} is set without ${other}`, {
    suggestion: `Set ${other} too, or leave out ${setting}`,
  });
}

/** @throws SvcMqttError CONFIG_INVALID naming every file that cannot be read, in the order of the settings. */
export async function readCertificateFiles(files: CertificateFiles): Promise<RawCertificates> {
  const { cert, key, clientCa } = files;
  const reads = [readPemFile(cert), readPemFile(key), clientCa && readPemFile(clientCa)] as const;
  // Each read to its end, so that all problems are told at once and in the same order every time.
  const settled = await Promise.allSettled(reads);
  const problems = settled.flatMap((each) => (each.status === 'rejected' ? [messageOf(each.reason)] : []));
  if (problems.length > 0) {
    throw new SvcMqttError('CONFIG_INVALID', problems.join('; '), { suggestion: correctFile });
  }
  return { cert: await reads[0], key: await reads[1], clientCa: await reads[2] };
}

/**
 * Checks that the contents of the files can be used together. Expiry is not judged here.
 *
 * @throws SvcMqttError CONFIG_INVALID naming the file and what is wrong.
 */
export function checkCertificates(files: CertificateFiles, raw: RawCertificates): Certificates {
  const { cert, key, clientCa } = files;
  const [own] = parseCertificates(raw.cert, cert);
  if (own?.checkPrivateKey(parseKey(raw.key, key)) !== true) {
    throw fileError(key, `is not the key of the first certificate in ${cert.path} (${cert.setting})`);
  }
  if (clientCa !== undefined) parseCertificates(raw.clientCa ?? '', clientCa);
  try {
    createSecureContext(toContextOptions(raw));
  } catch (error) {
    throw fileError(cert, `is not accepted by OpenSSL: ${messageOf(error)}`, error);
  }
  return { ...raw, info: describeCertificates(raw.cert, cert) };
}

/** The options of a server's TLS. */
export function toContextOptions(
  certificates: RawCertificates,
): SecureContextOptions & { minVersion: 'TLSv1.2' } {
  const { cert, key, clientCa } = certificates;
  return { cert, key, ...(clientCa === undefined ? {} : { ca: clientCa }), minVersion: 'TLSv1.2' };
}

function parseKey(pem: string, file: NamedFile): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    const encrypted = /ENCRYPTED/.test(pem);
    throw fileError(
      file,
      encrypted ? 'is encrypted: give it without a passphrase' : 'holds no private key in PEM form',
      error,
    );
  }
}
