import type { Config } from '../../config.js';
import { type DeviceCredentials, matchesSecret } from '../../db/devices.js';
import type { DeviceDirectory, LookUp } from '../device-directory.js';
import type { ClientCertificate } from './accepted-socket.js';
import type { CloseReason } from './close-reason.js';
import { ConnectReturnCode } from './packets/connack.js';
import type { Connect } from './packets/connect.js';

export type Authentication = { readonly device: DeviceCredentials } | Refusal;

interface Refusal {
  readonly refused: CloseReason;
  readonly returnCode: ConnectReturnCode;
}

/** Who may log in how; see the settings' help. */
export type LoginRule = Config['mqttClientCert'];

const badCredentials: Refusal = {
  refused: 'bad-credentials',
  returnCode: ConnectReturnCode.badUserNameOrPassword,
};

/**
 * Checks who a client is: by the certificate that it showed when the transport was opened, by user name and password,
 * or by both. Only who proves to be a device learns that it is revoked.
 */
export async function authenticate(
  connect: Connect,
  directory: DeviceDirectory,
  { certificate, rule }: { certificate: ClientCertificate | undefined; rule: LoginRule },
): Promise<Authentication> {
  if (certificate === undefined) {
    return rule === 'optional' ? checkPassword(connect, directory) : refuse('certificate-missing');
  }
  if (certificate.problem !== undefined) return refuse('certificate-untrusted');
  const named = await findNamed(connect.userName, certificate.names, directory);
  if ('refused' in named) return named;
  if (rule === 'with-password' && !hasPassword(connect, named.device)) return badCredentials;
  return requireActive(named.device);
}

async function checkPassword(connect: Connect, directory: DeviceDirectory): Promise<Authentication> {
  if (!isGiven(connect.userName) || connect.password === undefined) return badCredentials;
  const lookUp = await directory.find(connect.userName);
  if (lookUp.found === 'away') return databaseAway;
  if (lookUp.found === 'no' || !hasPassword(connect, lookUp.device)) return badCredentials;
  return requireActive(lookUp.device);
}

/** The device of a certificate: the one that CONNECT names, else the first that the certificate names and that exists. */
async function findNamed(
  userName: string | undefined,
  names: readonly string[],
  directory: DeviceDirectory,
): Promise<Authentication> {
  if (isGiven(userName) && !names.includes(userName)) return refuse('certificate-mismatch');
  for (const name of isGiven(userName) ? [userName] : names) {
    const lookUp: LookUp = await directory.find(name);
    if (lookUp.found === 'away') return databaseAway;
    if (lookUp.found === 'yes') return { device: lookUp.device };
  }
  return refuse('certificate-unknown');
}

function hasPassword(connect: Connect, device: DeviceCredentials): boolean {
  return connect.password !== undefined && matchesSecret(device, connect.password);
}

function requireActive(device: DeviceCredentials): Authentication {
  return device.revoked ? refuse('revoked-at-connect') : { device };
}

const databaseAway: Refusal = {
  refused: 'database-away',
  returnCode: ConnectReturnCode.serverUnavailable,
};

function refuse(refused: CloseReason): Refusal {
  return { refused, returnCode: ConnectReturnCode.notAuthorized };
}

function isGiven(userName: string | undefined): userName is string {
  return userName !== undefined && userName !== '';
}
