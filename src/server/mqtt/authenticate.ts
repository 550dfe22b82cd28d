import { type DeviceCredentials, matchesSecret } from '../../db/devices.js';
import type { DeviceDirectory } from '../device-directory.js';
import type { CloseReason } from './close-reason.js';
import { ConnectReturnCode } from './packets/connack.js';
import type { Connect } from './packets/connect.js';

export type Authentication =
  | { readonly device: DeviceCredentials }
  | { readonly refused: CloseReason; readonly returnCode: ConnectReturnCode };

const badCredentials: Authentication = {
  refused: 'bad-credentials',
  returnCode: ConnectReturnCode.badUserNameOrPassword,
};

/** Checks user name and password of a CONNECT. Only who knows the secret learns that a device is revoked. */
export async function authenticate(connect: Connect, directory: DeviceDirectory): Promise<Authentication> {
  if (connect.userName === undefined || connect.userName === '' || connect.password === undefined) {
    return badCredentials;
  }
  const lookUp = await directory.find(connect.userName);
  if (lookUp.found === 'away') {
    return { refused: 'database-away', returnCode: ConnectReturnCode.serverUnavailable };
  }
  if (lookUp.found === 'no' || !matchesSecret(lookUp.device, connect.password)) return badCredentials;
  if (lookUp.device.revoked) {
    return { refused: 'revoked-at-connect', returnCode: ConnectReturnCode.notAuthorized };
  }
  return { device: lookUp.device };
}
