import { SvcMqttError } from '../../errors.js';
import { usageError } from '../command/usage-error.js';
import { type ApiConfig, openApi } from '../store/api-address.js';
import { type EndManyOptions, endMany } from '../store/end-many.js';
import type { RemoteApi } from '../store/live-api.js';
import { confirm, requireTerminal } from '../terminal/ask.js';
import type { CommandIo } from '../terminal/io.js';
import { escapeControls, formatCount } from '../terminal/text.js';

const doing = 'Ending';

/**
 * Ends sessions, after asking on a terminal. Those that are not there are named at the end; the others are ended.
 *
 * @returns the exit status: 1 when the question was answered with no.
 * @throws SvcMqttError USAGE, SESSION_NOT_FOUND, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN, NATS_*.
 */
export async function endSessions(
  config: ApiConfig,
  options: EndManyOptions,
  io: CommandIo,
): Promise<number> {
  const { device } = options;
  if ((device === undefined) === (options.ids.length === 0)) {
    throw usageError('session end takes ids of sessions, or --device <id>', 'Give one of the two');
  }
  if (options.yes !== true) requireTerminal(doing, io);
  const { api } = openApi(config, io);
  const ids = device === undefined ? [...new Set(options.ids)] : await listIdsOf(device, api);
  const text = toQuestionText(ids, device);
  if (!(await confirm({ doing, text, declined: 'Nothing was ended.' }, options.yes, io))) return 1;
  const unknown = await endMany(
    ids,
    { end: (id) => api.endSession(id), notFound: 'SESSION_NOT_FOUND', done: 'ended', json: options.json },
    io,
  );
  if (unknown.length > 0 && device === undefined) throw sessionsNotFound(unknown);
  return 0;
}

async function listIdsOf(device: string, api: RemoteApi): Promise<string[]> {
  const ids: string[] = [];
  for await (const page of api.sessions({ device, limit: Number.POSITIVE_INFINITY }))
    ids.push(...page.map(({ id }) => id));
  if (ids.length > 0) return ids;
  throw new SvcMqttError('SESSION_NOT_FOUND', `Device ${escapeControls(device)} has no session`, {
    suggestion: '`svc-mqtt session list` shows who has',
  });
}

function toQuestionText(ids: readonly string[], device: string | undefined): string {
  const which =
    ids.length === 1 ? `session ${escapeControls(ids[0] ?? '')}` : formatCount(ids.length, 'session');
  const whose = device === undefined ? '' : ` of device ${escapeControls(device)}`;
  return `End ${which}${whose}? Subscriptions and what waits are gone; a client that is connected is disconnected.`;
}

function sessionsNotFound(unknown: readonly string[]): SvcMqttError {
  const shown = unknown.slice(0, 20).map(escapeControls).join(', ');
  const more = unknown.length > 20 ? ` and ${unknown.length - 20} more` : '';
  return new SvcMqttError(
    'SESSION_NOT_FOUND',
    unknown.length === 1 ? `There is no session ${shown}` : `There are no sessions ${shown}${more}`,
    { suggestion: '`svc-mqtt session list` shows them' },
  );
}
