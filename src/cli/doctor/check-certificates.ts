import type { Config } from '../../config.js';
import {
  checkCertificates,
  listCertificateFiles,
  readCertificateFiles,
} from '../../server/tls/certificate-files.js';
import { type CertificateInfo, readCertificateInfo } from '../../server/tls/certificate-info.js';
import type { Check } from './finding.js';

const dayMs = 86_400_000;
/** A renewal that was meant to come by itself has failed by then. */
const soonMs = 14 * dayMs;

/** Whether the certificates that the settings name can be used, and for how long. */
export async function checkAllCertificates(check: Check, config: Config): Promise<void> {
  const look = async (setting: string, read: () => Promise<CertificateInfo>) => {
    try {
      checkExpiry(check, setting, await read());
    } catch (error) {
      check.failure(error);
    }
  };
  const { mqtt, http } = listCertificateFiles(config);
  for (const each of [mqtt, http]) {
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

function checkExpiry(
  { ok, warning, problem }: Check,
  setting: string,
  { path, subject, validFrom, expiresAt }: CertificateInfo,
): void {
  const nowMs = Date.now();
  const leftMs = expiresAt.getTime() - nowMs;
  const what = `${setting} (${path}, ${subject})`;
  const day = expiresAt.toISOString().slice(0, 10);
  const days = Math.floor(leftMs / dayMs);
  const left = days === 0 ? 'today or tomorrow' : days === 1 ? 'in 1 day' : `in ${days} days`;
  const renew = 'Renew it and replace the file; a running server takes it over within seconds';
  if (leftMs <= 0) problem(`${what} expired on ${day}`, renew);
  else if (validFrom.getTime() > nowMs)
    problem(
      `${what} is not valid before ${validFrom.toISOString()}`,
      'Wait until then, or correct the clock of this machine',
    );
  else if (leftMs < soonMs) warning(`${what} expires ${left}, on ${day}`, renew);
  else ok(`${what} expires ${left}, on ${day}`);
}
