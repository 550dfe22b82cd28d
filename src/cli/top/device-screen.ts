import { dim, type Line, toCellText, toWidth } from '../terminal/cells.js';
import { formatAge, formatClock, formatInteger } from '../terminal/format.js';
import { labelDevice, labelled } from './details.js';
import { sessionState, showMetadata, showPending, stateColors, stateOf } from './lists.js';
import type { DeviceFound, TopState } from './state.js';

/** One device with its messages and sessions, at most `height` lines. */
export function drawDevice({ device: shown }: TopState, height: number, width: number): Line[] {
  const found = shown?.found;
  if (found === undefined) return [[], [dim('   Asking …')]];
  if (found === 'gone')
    return [[], [{ text: '   There is no such device. Enter or Esc goes back.', color: 'yellow' }]];
  const nowMs = Date.now();
  const lines = [...describe(found, nowMs), [], ...drawSessions(found, nowMs, width)];
  return lines.length <= height ? lines : [...lines.slice(0, height - 1), [dim('  …')]];
}

function describe({ device, sessions }: DeviceFound, nowMs: number): Line[] {
  const ago = (at: string | null) => (at === null ? 'never' : `${formatAge(nowMs - Date.parse(at))} ago`);
  const state = stateOf(device, nowMs);
  const { ledger, metadata, expires_at: expires, previous_secret_until: until } = device;
  const pending = sessions?.map(({ pending: count }) => count ?? 0) ?? [];
  return [
    [],
    labelDevice(device.id, device.type),
    labelled(
      'state',
      { text: state, color: stateColors[state] },
      dim(
        `   last seen ${ago(device.last_seen_at)}   added ${ago(device.created_at)}   expires ${
          expires === null ? 'never' : new Date(expires).toISOString()
        }`,
      ),
    ),
    labelled(
      'secret',
      dim(
        `${device.last_secret_used === null ? 'not used since it was made' : `${device.last_secret_used} one in use`}${
          until === null ? '' : `, the one before ends ${new Date(until).toISOString()}`
        }`,
      ),
    ),
    labelled(
      'metadata',
      Object.keys(metadata).length === 0 ? dim('none') : { text: toCellText(showMetadata(metadata, '  ')) },
    ),
    ...(ledger === null
      ? [labelled('messages', dim('none yet'))]
      : [
          labelled(
            'messages in',
            { text: formatInteger(ledger.received), bold: true },
            dim(
              `   ${formatInteger(ledger.stored)} stored   ${
                ledger.last_stream === null
                  ? 'none in a stream'
                  : `the last as ${toCellText(ledger.last_stream)} ${ledger.last_sequence}`
              }`,
            ),
          ),
          labelled(
            'refused',
            ledger.refused === 0
              ? dim('0')
              : { text: formatInteger(ledger.refused), bold: true, color: 'yellow' },
            dim(
              ledger.last_refused_at === null
                ? ''
                : `   the last ${ago(ledger.last_refused_at)} at ${formatClock(ledger.last_refused_at)}: ${toCellText(ledger.last_refused_reason ?? '')}`,
            ),
          ),
          labelled('messages out', { text: formatInteger(ledger.delivered), bold: true }),
          labelled('last address', { text: toCellText(ledger.last_address ?? '–') }),
        ]),
    labelled(
      'commands',
      sessions === undefined
        ? { text: 'cannot be read now: NATS is away', color: 'yellow' }
        : { text: `${showPending(Math.max(0, ...pending))} wait for it` },
    ),
  ];
}

function drawSessions({ sessions = [] }: DeviceFound, nowMs: number, width: number): Line[] {
  const lines: Line[] = [[dim(`  SESSIONS ${sessions.length}`)]];
  for (const session of sessions) {
    const { client, away_since: away, pending, subscriptions } = session;
    const state = sessionState(session);
    const since = state === 'away' && away !== null ? ` ${formatAge(nowMs - Date.parse(away))}` : '';
    const filters = subscriptions.map(({ filter }) => filter).join('  ');
    lines.push([
      { text: `  ${toWidth(toCellText(client), Math.max(10, Math.min(32, Math.floor(width / 3))))}  ` },
      { text: toWidth(state + since, 12) },
      dim(`  ${showPending(pending)} pending   ${toCellText(filters)}`),
    ]);
  }
  if (sessions.length === 0) lines.push([dim('  none that outlives its connection')]);
  return lines;
}
