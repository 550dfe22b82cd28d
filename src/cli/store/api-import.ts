import { maxImported } from '../../api/constants.js';
import { type ImportJson, toImportedDeviceJson } from '../../api/stored-device.js';
import type { DeviceRow } from '../../db/devices/device-insert.js';
import { SvcMqttError } from '../../errors.js';
import { requireGoing } from '../terminal/io.js';
import type { ApiCall } from './api-call.js';
import { ApiProblem, hasChangedNothing } from './api-send.js';
import { type DeviceStore, FateUnknown, type ImportArguments } from './store.js';

/** Bytes that one request takes, less what is around the devices. */
const maxBytes = 1_000_000;

/**
 * Imports devices over the API. The secrets stay here: salts and hashes are sent. All or none is one request, so that it
 * goes as far as one does; otherwise each request is stored for itself.
 */
export function openApiImport(api: ApiCall, signal: AbortSignal): DeviceStore['import'] {
  return async <Row extends DeviceRow>(...[batches, options]: ImportArguments<Row>) => {
    const { allOrNone, onSending, onStored } = options;
    const store = async (rows: readonly Row[], devices: readonly string[]) => {
      requireGoing(signal);
      await onSending(rows);
      // Made of text, since each device is JSON already: that is how its size is known.
      const body = `{"devices":[${devices.join(',')}],"skip_existing":${!allOrNone}}`;
      let stored: ReadonlyMap<string, Date>;
      let isForGood = true;
      try {
        const { imported } = await api.sendText<ImportJson>('POST', '/devices/import', body);
        stored = new Map(imported.map(({ id, created_at: at }) => [id, new Date(at)]));
      } catch (error) {
        const taken = error instanceof ApiProblem ? takenOf(error) : new Set<number>();
        if (taken.size === 0) throw hasChangedNothing(error) ? error : new FateUnknown(error);
        // Told as the database tells it; who wants all or none refuses then.
        stored = new Map(rows.flatMap(({ id }, at) => (taken.has(at) ? [] : [[id, new Date()] as const])));
        isForGood = false;
      }
      await onStored(rows, stored, isForGood);
    };
    let rows: Row[] = [];
    let devices: string[] = [];
    let bytes = 0;
    for await (const batch of batches) {
      for (const row of batch) {
        const device = JSON.stringify(toImportedDeviceJson(row));
        const more = Buffer.byteLength(device) + 1;
        if (rows.length === maxImported || bytes + more > maxBytes) {
          if (allOrNone) throw tooMany();
          await store(rows, devices);
          [rows, devices, bytes] = [[], [], 0];
        }
        rows.push(row);
        devices.push(device);
        bytes += more;
      }
    }
    if (rows.length > 0) await store(rows, devices);
  };
}

/** The places in the request of devices whose ids are taken. */
function takenOf({ code, faults }: ApiProblem): ReadonlySet<number> {
  const places = faults.flatMap(({ field }) => /^devices\.(\d+)\.id$/.exec(field)?.[1] ?? []);
  return new Set(code === 'DEVICE_EXISTS' ? places.map(Number) : []);
}

function tooMany(): SvcMqttError {
  return new SvcMqttError(
    'INPUT_INVALID',
    `Over the API all or none goes up to ${maxImported.toLocaleString('en-US')} devices, and there are more; nothing was imported`,
    { suggestion: 'Import them with --continue --report <file>, or where the database is' },
  );
}
