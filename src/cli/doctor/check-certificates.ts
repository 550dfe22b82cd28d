import type { Config } from '../../config.js';
import {
  type CertificateFiles,
  checkCertificates,
  listCertificateFiles,
  readCertificateFiles,
} from '../../server/tls/certificate-files.js';
import { type CertificateInfo, readCertificateInfo } from '../../server/tls/certificate-info.js';
import { type Finding, ok, problem, toFinding, warning } from './finding.js';

const dayMs = 86_400_000;
/** A renewal that was meant to come by itself has failed by then. */
const soonMs = 14 * dayMs;

/** Whether the certificates that the settings name can be used, and for how long. */
export async function checkAllCertificates(config: Config, add: (finding: Finding) => void): Promise<void> {
  const look = async (setting: string, read: () => Promise<CertificateInfo>) => {
    try {
      add(describeExpiry(setting, await read()));
    } catch (error) {
      add(toFinding('certs', error));
    }
  };
  let files: { mqtt: CertificateFiles | undefined; http: CertificateFiles | undefined };
  try {
    files = listCertificateFiles(config);
  } catch (error) {
    add(toFinding('certs', error));
    return;
  }
  for (const each of [files.mqtt, files.http]) {
    if (each === undefined) continue;
    await look(each.cert.setting, async () => checkCertificates(each, await readCertificateFiles(each)).info);
  }
  const others = [
    ['MQTT_CLIENT_CA', config.mqttClientCa],
    ['NATS_TLS_CA', config.natsTlsCa],
    ['NATS_TLS_CERT', config.natsTlsCert],
  ] as const;
  for (const [setting, path] of others) {
    if (path !== undefined) await look(setting, () => readCertificateInfo(path, setting));
  }
}

function describeExpiry(setting: string, { path, subject, validFrom, expiresAt }: CertificateInfo): Finding {
  const nowMs = Date.now();
  const leftMs = expiresAt.getTime() - nowMs;
  const what = `${setting} (${path}, ${subject})`;
  const day = expiresAt.toISOString().slice(0, 10);
  const renew = 'Renew it and replace the file; a running server takes it over within seconds';
  if (leftMs <= 0) return problem('certs', `${what} expired on ${day}`, renew);
  if (validFrom.getTime() > nowMs) {
    const detail = `${what} is not valid before ${validFrom.toISOString()}`;
    return problem('certs', detail, 'Wait until then, or correct the clock of this machine');
  }
  const days = Math.floor(leftMs / dayMs);
  const left = days === 0 ? 'today or tomorrow' : days === 1 ? 'in 1 day' : `in ${days} days`;
  if (leftMs < soonMs) return warning('certs', `${what} expires ${left}, on ${day}`, renew);
  return ok('certs', `${what} expires ${left}, on ${day}`);
}
