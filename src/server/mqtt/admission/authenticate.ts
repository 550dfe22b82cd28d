import type { Config } from '../../../config.js';
import {
  type DeviceCredentials,
  isExpired,
  matchSecret,
  type WhichSecret,
} from '../../../db/devices/device-credentials.js';
import type { LookUp } from '../../directory/device-directory.js';
import type { CloseReason } from '../protocol/close-reason.js';
import type { Connect } from '../protocol/codec.js';
import type { ClientCertificate } from '../transport/accepted-socket.js';

/** The device that a client is, and the secret that it has shown, if it has. */
export interface Authenticated {
  readonly device: DeviceCredentials;
  readonly secret: WhichSecret | undefined;
}

export type Authentication = Authenticated | Refusal;

/** A refused CONNECT: CONNACK with the code that the reason has in the client's version, then the end [MQTT-3.2.2-5]. */
export interface Refusal {
  readonly refused: CloseReason;
  /** For the log. */
  readonly fields?: Readonly<Record<string, unknown>>;
}

/** Looks a device up, as `DeviceDirectory` does. */
export type FindDevice = (id: string) => Promise<LookUp>;

/** Who may log in how; see the settings' help. */
export type LoginRule = Config['mqttClientCert'];

const badCredentials: Refusal = { refused: 'bad-credentials' };

/**
 * Checks who a client is: by the certificate that it showed when the transport was opened, by user name and password,
 * or by both. Only who proves to be a device learns that it is revoked or expired.
 */
export async function authenticate(
  connect: Connect,
  find: FindDevice,
  { certificate, rule }: { certificate: ClientCertificate | undefined; rule: LoginRule },
): Promise<Authentication> {
  if (certificate === undefined) {
    return rule === 'optional' ? checkPassword(connect, find) : refuse('certificate-missing');
  }
  if (problemOf(certificate) !== undefined) return refuse('certificate-untrusted');
  const named = await findNamed(connect.userName, certificate.names, find);
  if ('refused' in named) return named;
  const secret = rule === 'with-password' ? matchPassword(connect, named.device) : undefined;
  if (rule === 'with-password' && secret === undefined) return badCredentials;
  return requireActive({ device: named.device, secret });
}

/**
 * Why a certificate is not trusted now, as OpenSSL calls it. The handshake of a resumed session does not look at its
 * dates again, and time passes between handshake and CONNECT.
 */
export function problemOf({ problem, validFromMs, validUntilMs }: ClientCertificate): string | undefined {
  if (problem !== undefined) return problem;
  const nowMs = Date.now();
  if (nowMs < validFromMs) return 'CERT_NOT_YET_VALID';
  return nowMs >= validUntilMs ? 'CERT_HAS_EXPIRED' : undefined;
}

async function checkPassword(connect: Connect, find: FindDevice): Promise<Authentication> {
  if (!isGiven(connect.userName) || connect.password === undefined) return badCredentials;
  const lookUp = await find(connect.userName);
  if (lookUp.found === 'away') return databaseAway;
  const secret = lookUp.found === 'yes' ? matchPassword(connect, lookUp.device) : undefined;
  if (lookUp.found === 'no' || secret === undefined) return badCredentials;
  return requireActive({ device: lookUp.device, secret });
}

/** The device of a certificate: the one that CONNECT names, else the first that the certificate names and that exists. */
async function findNamed(
  userName: string | undefined,
  names: readonly string[],
  find: FindDevice,
): Promise<{ readonly device: DeviceCredentials } | Refusal> {
  if (isGiven(userName) && !names.includes(userName)) return refuse('certificate-mismatch');
  for (const name of isGiven(userName) ? [userName] : names) {
    const lookUp: LookUp = await find(name);
    if (lookUp.found === 'away') return databaseAway;
    if (lookUp.found === 'yes') return { device: lookUp.device };
  }
  return refuse('certificate-unknown');
}

function matchPassword(connect: Connect, device: DeviceCredentials): WhichSecret | undefined {
  return connect.password === undefined ? undefined : matchSecret(device, connect.password);
}

function requireActive(login: Authenticated): Authentication {
  if (login.device.revokedAtMs !== undefined) return refuse('revoked-at-connect');
  return isExpired(login.device) ? refuse('expired-at-connect') : login;
}

const databaseAway: Refusal = { refused: 'database-away' };

function refuse(refused: CloseReason): Refusal {
  return { refused };
}

/** An empty user name names nobody. */
export function isGiven(userName: string | undefined): userName is string {
  return userName !== undefined && userName !== '';
}
