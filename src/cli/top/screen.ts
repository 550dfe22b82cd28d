import {
  cellWidth,
  dim,
  fitLine,
  type Line,
  lineWidth,
  type Span,
  toCellText,
  toWidth,
} from '../terminal/cells.js';
import { formatInteger } from '../terminal/format.js';
import { columns } from './columns.js';
import { drawDetails } from './details.js';
import { drawDevice } from './device-screen.js';
import { drawHeader } from './header.js';
import { keyHelp } from './keys.js';
import { drawMessages } from './messages-screen.js';
import {
  chromeOf,
  countRows,
  maxListLength,
  type Question,
  type TopState,
  type View,
  views,
} from './state.js';
import { drawEvents, drawTable } from './table.js';

/**
 * The whole screen: as many lines as the terminal has, each exactly as wide as the terminal.
 *
 * @param where the address of the replica, for when there is nothing else to show.
 */
export function drawScreen(state: TopState, where: string): Line[] {
  const { columns: width, rows } = state;
  const chrome = chromeOf(rows, state.view);
  const body = drawBody(state, where, state.tableRows + 1 + chrome.events);
  const lines = [
    ...drawHeader(state.stats, where, width, chrome.header),
    ...body,
    drawStatus(state),
    drawKeys(state),
  ];
  const grey = state.link.state === 'gone';
  return lines.slice(0, rows).map((line, index) => {
    const fitted = fitLine(line, width);
    return grey && index < lines.length - 2 ? fitted.map(toGrey) : fitted;
  });
}

/** Old data is shown as such. */
function toGrey({ text, inverse }: Span): Span {
  return inverse === true ? { text, inverse, dim: true } : { text, dim: true };
}

function drawBody(state: TopState, where: string, height: number): Line[] {
  const lines = drawShown(state, where, height);
  while (lines.length < height) lines.push([]);
  return lines.slice(0, height);
}

function drawShown(state: TopState, where: string, height: number): Line[] {
  const { columns: width, screen, stats } = state;
  switch (screen) {
    case 'table': {
      const { events } = chromeOf(state.rows, state.view);
      return [...drawTable(state, where), ...drawEvents(stats?.recent_events ?? [], events, width)];
    }
    case 'details':
      return drawDetails(state, height, width);
    case 'device':
      return drawDevice(state, height, width);
    case 'messages':
      return drawMessages(state, height, width);
    case 'help':
      return drawHelp(height, state.serving);
    case 'log':
      return drawLog(state.logLines, height);
  }
}

/** What is asked, typed, told or wrong; and which part of which list is seen. */
function drawStatus(state: TopState): Line {
  const right = state.screen === 'table' ? drawPosition(state) : [];
  const message = drawMessage(state);
  const left = message.length > 0 ? message : drawViews(state, state.columns - lineWidth(right) - 2);
  const space = state.columns - lineWidth(left) - lineWidth(right) - 2;
  if (space < 1) return [{ text: ' ' }, ...left];
  return [{ text: ' ' }, ...left, { text: ' '.repeat(space) }, ...right];
}

/** The views with their keys; where there is little room, the name of the one that is shown alone. */
function drawViews({ view }: TopState, width: number): Line {
  const draw = (isNamed: (each: string) => boolean, gap: string) =>
    views.map((each, index): Span => {
      const text = `${index === 0 ? '' : gap}${index + 1}${isNamed(each) ? ` ${each}` : ''}`;
      return each === view ? { text, bold: true, color: 'cyan' } : { text, dim: true };
    });
  const choices = [draw(() => true, '   '), draw(() => true, ' '), draw((each) => each === view, ' ')];
  return choices.find((line) => lineWidth(line) < width) ?? [];
}

const answers = ' y/N';

function drawMessage({ question, filterBefore, filter, link, notice, columns: width }: TopState): Span[] {
  if (question !== undefined) {
    const text = toQuestionText(question);
    // Where there is no room for all of it, what can be answered stays.
    const room = Math.min(cellWidth(text), width - 1 - answers.length);
    return [
      { text: toWidth(text, room), bold: true, color: 'red' },
      { text: answers, bold: true },
    ];
  }
  if (filterBefore !== undefined) {
    return [
      { text: '/', color: 'cyan', bold: true },
      { text: toCellText(filter) },
      { text: ' ', inverse: true },
    ];
  }
  if (link.state === 'gone') {
    const retry = link.retryInSec === 0 ? 'trying again' : `trying again in ${link.retryInSec} s`;
    return [{ text: `✗ ${toCellText(link.reason)}; ${retry}`, bold: true, color: 'red' }];
  }
  if (notice === undefined) return [];
  return [{ text: toCellText(notice.text), color: notice.tone === 'good' ? 'green' : 'red' }];
}

function toQuestionText(question: Question): string {
  if (question.about === 'stop') return 'Stop this server? Its devices are disconnected.';
  const device = toCellText(question.device);
  if (question.about === 'end')
    return `End session ${toCellText(question.client)} of ${device}? What waits for it is lost.`;
  return question.about === 'kick'
    ? `Kick client ${toCellText(question.client)} of ${device}? It may come back.`
    : `Revoke device ${device}? It stays out until it is enabled again.`;
}

function drawPosition(state: TopState): Line {
  const { view, page, list, top, tableRows, sort, descending, filter, filterBefore, frozen, replica } = state;
  const spans: Span[] = [];
  if (frozen) spans.push({ text: ' FROZEN ', inverse: true, bold: true }, { text: '  ' });
  if (view === 'connections' && replica !== undefined)
    spans.push(dim('replica '), { text: toCellText(replica), bold: true }, { text: '   ' });
  if (filter !== '' && filterBefore === undefined) {
    spans.push(dim('filter '), { text: toCellText(filter), bold: true }, { text: '   ' });
  }
  const count = countRows(state);
  if (count > 0) {
    const last = Math.min(count, top + tableRows);
    spans.push({ text: `${formatInteger(top + 1)}–${formatInteger(last)} of ${formatInteger(count)}` });
  }
  if (view !== 'connections') {
    if (list?.more === true)
      spans.push(count >= maxListLength ? { text: '; / finds others', color: 'yellow' } : dim('+'));
    return spans;
  }
  if (page !== undefined && count > 0) {
    const all = page.matching === page.total ? '' : ` (${formatInteger(page.total)} in all)`;
    spans.push(dim(`${all}   `));
  }
  const title = columns.find(({ field }) => field === sort)?.title.toLowerCase() ?? sort;
  spans.push(dim('by '), { text: `${title} ${descending ? '▼' : '▲'}`, color: 'cyan' });
  return spans;
}

const keyGap = '  ';

type Hint = readonly [key: string, does: string];

const back: Hint = ['Esc', 'back'];
const help: Hint = ['?', 'help'];
const kick: Hint = ['x', 'kick'];
const revoke: Hint = ['R', 'revoke'];
const copy: Hint = ['c', 'copy'];
const peek: Hint = ['p', 'messages'];
const whileTyping: readonly Hint[] = [
  ['Enter', 'keep'],
  ['Esc', 'take back'],
  ['Ctrl-U', 'clear'],
];
const ordering: readonly Hint[] = [
  ['< >', 'sort'],
  ['r', 'reverse'],
];
const onRow: Readonly<Record<View, readonly Hint[]>> = {
  connections: [['Enter', 'details'], kick, revoke, copy],
  devices: [['Enter', 'details'], revoke, copy],
  sessions: [['Enter', 'device'], ['x', 'end'], revoke, copy],
  replicas: [['Enter', 'connections']],
  events: [['Enter', 'device'], revoke, copy],
};

function keysOf({ filterBefore, screen, view, frozen, serving }: TopState): readonly Hint[] {
  if (filterBefore !== undefined) return whileTyping;
  const freeze: Hint = ['Space', frozen ? 'go on' : 'freeze'];
  if (screen === 'details') return [back, kick, revoke, copy, peek, help];
  if (screen === 'device') return [back, revoke, copy, peek, help];
  if (screen === 'messages') return [back, freeze, copy];
  if (screen !== 'table') return [back];
  const keys: Hint[] = [['q', 'quit'], help, ['/', 'filter'], ...onRow[view], freeze];
  if (view === 'connections') keys.push(...ordering);
  if (view !== 'replicas') keys.push(peek);
  if (serving) keys.push(['l', 'log']);
  return keys;
}

/** The keys that matter here, the first ones first, as far as there is room; 80 columns show those that act. */
function drawKeys(state: TopState): Line {
  const spans: Span[] = [];
  let left = state.columns;
  for (const [key, does] of keysOf(state)) {
    const space = spans.length === 0 ? ' ' : keyGap;
    const needed = space.length + key.length + 1 + does.length;
    if (needed > left) break;
    left -= needed;
    spans.push({ text: `${space}${key}`, bold: true }, dim(` ${does}`));
  }
  return spans;
}

/** What the keys do. */
function drawHelp(height: number, serving: boolean): Line[] {
  const rows: (readonly [string, string])[] = [...keyHelp];
  if (serving) rows.splice(-2, 0, ['l', "the server's log"]);
  const lines: Line[] = [[], [dim('  KEYS')]];
  for (const [keys, does] of rows)
    lines.push([{ text: `  ${toWidth(keys, 16)}`, bold: true, color: 'cyan' }, { text: does }]);
  lines.push(
    [],
    [
      dim(
        '  IN FLIGHT: messages waiting until NATS has stored them. QOS: shares of QoS 0, 1 and 2 in percent.',
      ),
    ],
  );
  return lines.slice(0, height);
}

/** The latest lines of the server's log. */
function drawLog(lines: readonly string[], height: number): Line[] {
  return [
    [dim('  LOG')],
    ...lines.slice(-(height - 1)).map((text): Line => [{ text: `  ${toCellText(text)}` }]),
  ];
}
