import type { Actor } from '../../db/audit.js';
import { SvcMqttError } from '../../errors.js';
import type { RunningServer } from '../../server/start.js';
import type { LiveApi } from '../store/live-api.js';

/** The same answers from the server in this process. Who runs the server may do everything. */
export function openLocalApi(server: Pick<RunningServer, 'view' | 'revoke'>, actor: Actor): LiveApi {
  const { connections } = server.view;
  const ended = (id: string) =>
    new SvcMqttError('CONNECTION_NOT_FOUND', `There is no connection with the id ${id} any more`);
  return {
    page: ({ filter, device, replica, ...request }) =>
      connections.list({ ...request, text: filter, device, replica, type: undefined }, async (work) =>
        work(),
      ),
    fleet: () => server.view.readFleet(),
    async details(id) {
      const found = await connections.find(id);
      if (found === undefined) throw ended(id);
      return found;
    },
    async kick(id) {
      if (!(await connections.kick(id, actor))) throw ended(id);
    },
    revoke: (device) => server.revoke(device, actor),
  };
}
