import { SvcMqttError } from '../../errors.js';
import type { ApiConfig } from '../store/api-address.js';
import { type Ending, type EndManyOptions, endMany } from '../store/end-many.js';
import type { RemoteApi } from '../store/live-api.js';
import type { CommandIo } from '../terminal/io.js';
import { escapeControls } from '../terminal/text.js';

const ending: Ending = {
  command: 'session end',
  noun: 'session',
  notFound: 'SESSION_NOT_FOUND',
  doing: 'Ending',
  done: 'ended',
  suggestion: '`svc-mqtt session list` shows them',
  idsOf,
  question: (what) =>
    `End ${what}? Subscriptions and what waits are gone; a client that is connected is disconnected.`,
  end: (id, api) => api.endSession(id),
};

/** Ends sessions: see `endMany`. */
export function endSessions(config: ApiConfig, options: EndManyOptions, io: CommandIo): Promise<number> {
  return endMany(config, options, ending, io);
}

async function idsOf(device: string, api: RemoteApi): Promise<string[]> {
  const ids: string[] = [];
  for await (const page of api.sessions({ device, limit: Number.POSITIVE_INFINITY }))
    ids.push(...page.map(({ id }) => id));
  if (ids.length > 0) return ids;
  throw new SvcMqttError('SESSION_NOT_FOUND', `Device ${escapeControls(device)} has no session`, {
    suggestion: '`svc-mqtt session list` shows who has',
  });
}
