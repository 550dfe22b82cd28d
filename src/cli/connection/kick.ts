import { SvcMqttError } from '../../errors.js';
import type { ApiConfig } from '../store/api-address.js';
import { type Ending, type EndManyOptions, endMany } from '../store/end-many.js';
import type { RemoteApi } from '../store/live-api.js';
import type { CommandIo } from '../terminal/io.js';
import { escapeControls } from '../terminal/text.js';

const pageSize = 500;

const ending: Ending = {
  command: 'connection kick',
  noun: 'connection',
  notFound: 'CONNECTION_NOT_FOUND',
  doing: 'Kicking',
  done: 'kicked',
  suggestion: '`svc-mqtt connection list` shows those that there are',
  idsOf,
  question: (what, isOne) => `Kick ${what}? ${isOne ? 'Its client' : 'Their clients'} may come back at once.`,
  end: (id, api) => api.kick(id),
};

/** Ends connections: see `endMany`. */
export function kickConnections(config: ApiConfig, options: EndManyOptions, io: CommandIo): Promise<number> {
  return endMany(config, options, ending, io);
}

/** The connections of a device, as they are now. @throws SvcMqttError CONNECTION_NOT_FOUND when there is none. */
async function idsOf(device: string, api: RemoteApi): Promise<string[]> {
  const ids = new Set<string>();
  for (let offset = 0; ; offset += pageSize) {
    const request = { filter: '', sort: 'connected', descending: false, offset, limit: pageSize } as const;
    const page = await api.page({ ...request, device });
    for (const { id } of page.connections) ids.add(id);
    if (offset + pageSize >= page.matching) break;
  }
  if (ids.size > 0) return [...ids];
  throw new SvcMqttError('CONNECTION_NOT_FOUND', `Device ${escapeControls(device)} has no connection`, {
    suggestion: '`svc-mqtt connection list` shows who has',
  });
}
