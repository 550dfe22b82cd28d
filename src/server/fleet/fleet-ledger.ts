import { readLedgerJson } from '../../api/device.js';
import type { DeviceLedger } from '../operate/device-ledger.js';
import type { Asking } from './asking.js';
import { answers } from './wire.js';

/**
 * The ledger of a device: what is written, and what the replicas that answer have not written yet. What one of them writes
 * while it is asked can be missing, or counted twice, in this answer.
 *
 * @returns undefined: nothing is known of it.
 * @throws SvcMqttError DATABASE_*.
 */
export async function readFleetLedger(
  deviceId: string,
  local: Pick<DeviceLedger, 'read'>,
  asking: Asking,
): ReturnType<DeviceLedger['read']> {
  const told = await asking.askAll('ledger', { device: deviceId }, answers.ledger);
  const elsewhere = told.flatMap(({ answer }) => answer?.ledger ?? []).map(readLedgerJson);
  return await local.read(deviceId, elsewhere);
}
