import type { ConnectionJson, ConnectionPageJson } from '../../api/connection.js';
import type { DeviceDetailsJson, DeviceJson } from '../../api/device.js';
import type { Config } from '../../config.js';
import { messageOf } from '../../errors.js';
import { openApi } from '../store/api-address.js';
import type { RemoteApi } from '../store/live-api.js';
import type { CommandIo } from '../terminal/io.js';
import { formatCount } from '../terminal/text.js';

/** Who asks only in passing does not wait for an API that hangs. */
const timeoutMs = 2_000;
const pageSize = 500;
/** Beyond it the answer costs the replica more than it is worth in passing. */
const maxConnections = 10_000;

/** Why nobody can say what is connected: no sentence, no full stop. */
export interface Unknown {
  readonly unknown: string;
}

/** What an answer leaves out; undefined: nothing. */
interface Answered {
  readonly note: string | undefined;
  /** The known device as the API has it. */
  readonly device: DeviceDetailsJson | undefined;
}

/**
 * Asks the HTTP API that the settings name, and no other, which devices are connected.
 *
 * @param known a device of the database, by which is seen whether the API serves the same one.
 */
export async function readOnlineDevices(
  config: Config,
  known: DeviceJson | undefined,
  io: CommandIo,
): Promise<Unknown | (Answered & { readonly ids: ReadonlySet<string> })> {
  return await ask<Replicas & { readonly ids: ReadonlySet<string> }>(config, known, io, async (api) => {
    const ids = new Set<string>();
    for (let offset = 0; ; offset += pageSize) {
      const page = await api.page({ ...all, offset });
      if (page.matching > maxConnections)
        return { unknown: `${formatCount(page.matching, 'connection')} are too many to look through` };
      for (const { device } of page.connections) ids.add(device);
      if (offset + pageSize >= page.matching) return { ids, replicas: page.replicas };
    }
  });
}

/** Asks in the same way for the connections of one device, at most 500 of them. */
export async function readConnectionsOf(
  config: Config,
  device: DeviceJson,
  io: CommandIo,
): Promise<Unknown | (Answered & { readonly connections: readonly ConnectionJson[] })> {
  return await ask<ConnectionPageJson>(config, device, io, (api) => api.page({ ...all, device: device.id }));
}

const all = { filter: '', sort: 'device', descending: false, offset: 0, limit: pageSize } as const;

type Replicas = Pick<ConnectionPageJson, 'replicas'>;

async function ask<T extends Replicas>(
  config: Config,
  known: DeviceJson | undefined,
  io: CommandIo,
  read: (api: RemoteApi) => Promise<T | Unknown>,
): Promise<Unknown | (T & Answered)> {
  try {
    const { url, api } = openApi(config, io, { timeoutMs, quietly: true });
    const device = known && (await api.device(known.id));
    if (device?.created_at !== known?.created_at)
      return { unknown: `${url} serves another database than this command uses` };
    const [answer, { replicas: all }] = await Promise.all([read(api), api.stats()]);
    if ('unknown' in answer) return answer;
    const answered = answer.replicas.filter(({ ok }) => ok).length;
    const most = Math.max(all ?? 0, answer.replicas.length);
    return {
      ...answer,
      device,
      note: answered >= most ? undefined : `Only ${answered} of ${most} replicas answered`,
    };
  } catch (error) {
    return { unknown: messageOf(error).replace(/\.$/, '') };
  }
}
