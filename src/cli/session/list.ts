import type { SessionJson } from '../../api/session.js';
import { type ApiConfig, openApi } from '../store/api-address.js';
import { toCellText } from '../terminal/cells.js';
import { type CommandIo, write } from '../terminal/io.js';
import { type ListColumn, writeListing } from '../terminal/listing.js';
import { tableTime, timeWidth, uncut } from '../terminal/table.js';

export interface SessionListOptions {
  readonly device?: string | undefined;
  readonly limit?: number | undefined;
  readonly json?: boolean | undefined;
}

const defaultLimit = 50;

/**
 * Lists sessions in order of id, a page at a time.
 *
 * @throws SvcMqttError USAGE, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN, NATS_*.
 */
export async function listSessions(
  config: ApiConfig,
  { device, limit = defaultLimit, json }: SessionListOptions,
  io: CommandIo,
): Promise<void> {
  const { api } = openApi(config, io);
  const found = await writeListing<SessionJson>(io, {
    json,
    limit,
    read: (most) => api.sessions({ device, limit: most }),
    columns: () => toColumns(io),
  });
  if (found) return;
  const whose = device === undefined ? 'There is no session' : `Device ${toCellText(device)} has no session`;
  await write(io.stderr, `${whose} that outlives its connection.\n`);
}

function toColumns(io: CommandIo): ListColumn<SessionJson>[] {
  const time = tableTime(io);
  return [
    { title: 'ID', keep: uncut, text: ({ id }) => id },
    { title: 'DEVICE', text: ({ device }) => device },
    { title: 'CLIENT ID', text: ({ client }) => client },
    { title: 'STATE', keep: 10, text: toState },
    { title: 'AWAY SINCE', keep: timeWidth, text: ({ away_since: at }) => (at === null ? '-' : time(at)) },
    { title: 'EXPIRES', keep: timeWidth, text: ({ expires_at: at }) => (at === null ? '-' : time(at)) },
    { title: 'SUBSCRIPTIONS', text: ({ subscriptions }) => String(subscriptions.length) },
    { title: 'PENDING', text: ({ pending }) => String(pending ?? '-') },
    {
      title: 'OLDEST',
      keep: timeWidth,
      text: ({ oldest_pending_at: at }) => (at === null ? '-' : time(at)),
    },
    { title: 'UNACKNOWLEDGED', text: ({ unacknowledged }) => String(unacknowledged) },
  ];
}

/** In a word. */
export function toState({ problem, connected }: SessionJson): string {
  if (problem !== null) return 'unreadable';
  return connected ? 'connected' : 'away';
}
