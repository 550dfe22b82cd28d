import type { SessionJson } from '../../api/session.js';
import { type ApiConfig, openApi } from '../store/api-address.js';
import { type CommandIo, write } from '../terminal/io.js';
import { blockTime } from '../terminal/table.js';
import { formatBlock, toJsonLine } from '../terminal/text.js';
import { toState } from './list.js';

/**
 * Shows a session.
 *
 * @throws SvcMqttError USAGE, SESSION_NOT_FOUND, API_UNREACHABLE, UNAUTHENTICATED, FORBIDDEN, NATS_*.
 */
export async function showSession(
  config: ApiConfig,
  options: { readonly id: string; readonly json?: boolean | undefined },
  io: CommandIo,
): Promise<void> {
  const found = await openApi(config, io).api.session(options.id);
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
    ...(subscriptions.length === 0 ? ['none'] : subscriptions).map(
      (text, index) => [index === 0 ? 'subscriptions' : '', text] satisfies [string, string],
    ),
  ];
}
