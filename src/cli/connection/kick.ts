import { SvcMqttError } from '../../errors.js';
import { usageError } from '../command/usage-error.js';
import { type ApiConfig, openApi } from '../store/api-address.js';
import { type EndManyOptions, endMany } from '../store/end-many.js';
import type { LiveApi } from '../store/live-api.js';
import { confirm, requireTerminal } from '../terminal/ask.js';
import type { CommandIo } from '../terminal/io.js';
import { escapeControls, formatCount } from '../terminal/text.js';

const doing = 'Kicking';
const pageSize = 500;

/**
 * Ends connections, after asking on a terminal. Those that are not there are named at the end; the others are ended.
 *
 * @returns the exit status: 1 when the question was answered with no.
 * @throws SvcMqttError USAGE, CONNECTION_NOT_FOUND, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN.
 */
export async function kickConnections(
  config: ApiConfig,
  options: EndManyOptions,
  io: CommandIo,
): Promise<number> {
  const { device } = options;
  if ((device === undefined) === (options.ids.length === 0)) {
    throw usageError('connection kick takes ids of connections, or --device <id>', 'Give one of the two');
  }
  if (options.yes !== true) requireTerminal(doing, io);
  const { api } = openApi(config, io);
  const ids = device === undefined ? [...new Set(options.ids)] : await listIdsOf(device, api);
  const question = { doing, text: toQuestionText(ids, device), declined: 'Nothing was kicked.' };
  if (!(await confirm(question, options.yes, io))) return 1;
  const unknown = await endMany(
    ids,
    { end: (id) => api.kick(id), notFound: 'CONNECTION_NOT_FOUND', done: 'kicked', json: options.json },
    io,
  );
  // Of a device's connections one that has gone by itself is no failure.
  if (unknown.length > 0 && device === undefined) throw connectionsNotFound(unknown);
  return 0;
}

/** The connections of a device, as they are now. @throws SvcMqttError CONNECTION_NOT_FOUND when there is none. */
async function listIdsOf(device: string, api: LiveApi): Promise<string[]> {
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

function toQuestionText(ids: readonly string[], device: string | undefined): string {
  const only = ids.length === 1;
  const which = only ? `connection ${escapeControls(ids[0] ?? '')}` : formatCount(ids.length, 'connection');
  const whose = device === undefined ? '' : ` of device ${escapeControls(device)}`;
  return `Kick ${which}${whose}? ${only ? 'Its client' : 'Their clients'} may come back at once.`;
}

function connectionsNotFound(unknown: readonly string[]): SvcMqttError {
  const shown = unknown.slice(0, 20).map(escapeControls).join(', ');
  const more = unknown.length > 20 ? ` and ${unknown.length - 20} more` : '';
  return new SvcMqttError(
    'CONNECTION_NOT_FOUND',
    unknown.length === 1 ? `There is no connection ${shown}` : `There are no connections ${shown}${more}`,
    { suggestion: '`svc-mqtt connection list` shows those that there are' },
  );
}
