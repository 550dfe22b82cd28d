import type { Actor } from '../../db/audit.js';
import { SvcMqttError } from '../../errors.js';
import { showDetails, showPage } from '../../server/http/connections.js';
import { showStats } from '../../server/http/stats.js';
import type { RunningServer } from '../../server/start.js';
import type { TopApi } from './api.js';

/** The same answers from the server in this process. Who runs the server may do everything. */
export function openLocalApi(server: Pick<RunningServer, 'fleet' | 'revoke'>, actor: Actor): TopApi {
  const { connections, events } = server.fleet;
  const ended = (id: string) =>
    new SvcMqttError('CONNECTION_NOT_FOUND', `There is no connection with the id ${id} any more`);
  return {
    async page({ filter, ...request }) {
      return showPage(connections.list({ ...request, text: filter, device: undefined, type: undefined }));
    },
    stats: async () => showStats(await server.fleet.readStats(), events),
    async details(id) {
      const found = connections.find(id);
      if (found === undefined) throw ended(id);
      return showDetails(found);
    },
    async kick(id) {
      if (connections.kick(id, actor) === undefined) throw ended(id);
    },
    revoke: (device) => server.revoke(device, actor),
  };
}
