import { toDeviceDetailsJson, toDeviceJson } from '../../api/device.js';
import { toPassingMessageJson } from '../../api/passing-message.js';
import type { Actor } from '../../db/audit.js';
import { SvcMqttError } from '../../errors.js';
import { peekRefusals } from '../../server/forward/peek.js';
import type { RunningServer } from '../../server/start.js';
import type { FollowMessages } from '../store/follow-messages.js';
import type { LiveApi } from '../store/live-api.js';

/** The same answers from the server in this process. Who runs the server may do everything. */
export function openLocalApi(
  server: Pick<RunningServer, 'view' | 'devices' | 'revoke'>,
  actor: Actor,
): LiveApi {
  const { connections, sessions } = server.view;
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
    async listDevices({ idPrefix, limit }) {
      const filter = { ...(idPrefix === '' ? {} : { idPrefix }), state: 'all' } as const;
      const order = { sort: 'id', descending: false, after: undefined } as const;
      const found = await server.devices.list({ ...filter, ...order, limit: limit + 1 });
      return {
        devices: found.slice(0, limit).map(toDeviceJson),
        next_cursor: found.length > limit ? 'there are more' : null,
      };
    },
    async device(id) {
      const found = await server.devices.find(id);
      return found && toDeviceDetailsJson(found, await server.devices.ledger(id));
    },
    async listSessions({ devices = [], idPrefix = '', limit }) {
      const page = await sessions.list({ devices, devicePrefix: idPrefix, after: undefined, limit });
      return { sessions: page.sessions, next_cursor: page.next ?? null };
    },
    async endSession(id) {
      if ((await sessions.end(id, actor)) === undefined)
        throw new SvcMqttError('SESSION_NOT_FOUND', `There is no session with the id ${id} any more`);
    },
  };
}

/** The messages of a device from the server in this process. */
export function followLocally(server: Pick<RunningServer, 'devices' | 'peeks'>): FollowMessages {
  return async (id, listener, signal) => {
    const device = await server.devices.find(id);
    if (device === undefined) throw new SvcMqttError('DEVICE_NOT_FOUND', `There is no device ${id}`);
    await new Promise<void>((resolve, reject) => {
      const fail = (reason: string) => reject(new SvcMqttError('DEVICE_UNAVAILABLE', reason));
      const end = server.peeks.open(device, {
        message: (message) => listener.message(toPassingMessageJson(message)),
        missed: (count) => listener.missed(count),
        ended: fail,
      });
      if (typeof end === 'string') return fail(peekRefusals[end]);
      const stop = () => {
        end();
        resolve();
      };
      if (signal.aborted) stop();
      else signal.addEventListener('abort', stop, { once: true });
    });
  };
}
