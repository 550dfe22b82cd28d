import type { SessionJson } from '../../api/session.js';
import type { Call } from '../command/command.js';
import { openApi } from '../store/api-address.js';
import { type EndManyOptions, endMany } from '../store/end-many.js';
import { toCellText } from '../terminal/cells.js';
import { type CommandIo, write } from '../terminal/io.js';
import { type ListColumn, writeListing } from '../terminal/listing.js';
import { blockTime, tableTime, timeWidth, uncut } from '../terminal/table.js';
import { formatBlock, listRows, toJsonLine } from '../terminal/text.js';

const defaultLimit = 50;

/**
 * Lists sessions in order of id, a page at a time.
 *
 * @throws SvcMqttError USAGE, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN, NATS_*.
 */
export async function listSessions(call: Call<{ readonly device?: string }>): Promise<void> {
  const { config, options, io } = call;
  const { device, limit = defaultLimit, json } = options;
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
  const timeOrNone = (at: string | null) => (at === null ? '-' : time(at));
  const keep = timeWidth;
  return [
    { title: 'ID', keep: uncut, text: ({ id }) => id },
    { title: 'DEVICE', text: ({ device }) => device },
    { title: 'CLIENT ID', text: ({ client }) => client },
    { title: 'STATE', keep: 10, text: toState },
    { title: 'AWAY SINCE', keep, text: ({ away_since: at }) => timeOrNone(at) },
    { title: 'EXPIRES', keep, text: ({ expires_at: at }) => timeOrNone(at) },
    { title: 'SUBSCRIPTIONS', text: ({ subscriptions }) => String(subscriptions.length) },
    { title: 'PENDING', text: ({ pending }) => String(pending ?? '-') },
    { title: 'OLDEST', keep, text: ({ oldest_pending_at: at }) => timeOrNone(at) },
    { title: 'UNACKNOWLEDGED', text: ({ unacknowledged }) => String(unacknowledged) },
  ];
}

/** In a word. */
function toState({ problem, connected }: SessionJson): string {
  if (problem !== null) return 'unreadable';
  return connected ? 'connected' : 'away';
}

/**
 * Shows a session.
 *
 * @throws SvcMqttError USAGE, SESSION_NOT_FOUND, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN, NATS_*.
 */
export async function showSession({ config, options, args: [id = ''], io }: Call): Promise<void> {
  const found = await openApi(config, io).api.session(id);
  await write(io.stdout, options.json === true ? toJsonLine(found) : formatBlock(toRows(found, io)));
}

function toRows(found: SessionJson, io: CommandIo): [string, string][] {
  const time = blockTime(io);
  const {
    away_since: since,
    oldest_pending_at: oldest,
    expires_at: at,
    expiry_seconds: sec,
    problem,
  } = found;
  const names: [string, string][] = [
    ['id', found.id],
    ['device', found.device],
    ['client id', found.client],
    ['state', toState(found)],
  ];
  if (problem !== null) return [...names, ['problem', problem]];
  const subscriptions = found.subscriptions.map(({ filter, qos }) => `${filter}  QoS ${qos}`);
  return [
    ...names,
    ['away since', since === null ? '-' : time(since)],
    ['outlives its connection', sec === null ? 'for ever' : `${sec} s`],
    ['expires', at === null ? '-' : time(at)],
    ['pending', String(found.pending ?? '-')],
    ['oldest of them', oldest === null ? '-' : time(oldest)],
    ['unacknowledged', String(found.unacknowledged)],
    ...listRows('subscriptions', subscriptions),
  ];
}

/** Ends sessions: see `endMany`. */
export function endSessions(call: Call<EndManyOptions>): Promise<number> {
  return endMany(call, {
    command: 'session end',
    noun: 'session',
    notFound: 'SESSION_NOT_FOUND',
    doing: 'Ending',
    done: 'ended',
    suggestion: '`svc-mqtt session list` shows them',
    question: (what) =>
      `End ${what}? Subscriptions and what waits are gone; a client that is connected is disconnected.`,
    end: (id, api) => api.endSession(id),
    async idsOf(device, api) {
      const ids: string[] = [];
      for await (const page of api.sessions({ device, limit: Number.POSITIVE_INFINITY }))
        ids.push(...page.map(({ id }) => id));
      return ids;
    },
  });
}
