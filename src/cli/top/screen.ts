import { fitLine, type Line, lineWidth, type Span, toCellText } from '../terminal/cells.js';
import { formatInteger } from '../terminal/format.js';
import { columns } from './columns.js';
import { drawDetails, drawHelp, drawLog } from './details.js';
import { drawHeader } from './header.js';
import { chromeOf, type Question, type TopState } from './state.js';
import { drawEvents, drawTable } from './table.js';

/**
 * The whole screen: as many lines as the terminal has, each exactly as wide as the terminal.
 *
 * @param where the address of the replica, for when there is nothing else to show.
 */
export function drawScreen(state: TopState, where: string): Line[] {
  const { columns: width, rows } = state;
  const chrome = chromeOf(rows);
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
  const { columns: width, screen, stats } = state;
  const { events } = chromeOf(state.rows);
  const lines =
    screen === 'table'
      ? [...drawTable(state, where), ...drawEvents(stats?.recent_events ?? [], events, width)]
      : screen === 'details'
        ? drawDetails(state, height, width)
        : screen === 'help'
          ? drawHelp(height, state.serving)
          : drawLog(state.logLines, height);
  return [...lines, ...Array.from({ length: Math.max(0, height - lines.length) }, (): Line => [])].slice(
    0,
    height,
  );
}

/** What is asked, typed, told or wrong; and which part of which list is seen. */
function drawStatus(state: TopState): Line {
  const left = drawMessage(state);
  const right = state.screen === 'table' ? drawPosition(state) : [];
  const space = state.columns - lineWidth(left) - lineWidth(right) - 2;
  if (space < 1) return [{ text: ' ' }, ...left];
  return [{ text: ' ' }, ...left, { text: ' '.repeat(space) }, ...right];
}

function drawMessage({ question, filterBefore, filter, link, notice }: TopState): Span[] {
  if (question !== undefined) {
    return [
      { text: toQuestionText(question), bold: true, color: 'red' },
      { text: ' y/N ', bold: true },
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
  return question.about === 'kick'
    ? `Kick client ${toCellText(question.client)} of ${device}? It may come back.`
    : `Revoke device ${device}? It stays out until it is enabled again.`;
}

function drawPosition({
  page,
  top,
  tableRows,
  sort,
  descending,
  filter,
  filterBefore,
  frozen,
}: TopState): Line {
  const spans: Span[] = [];
  if (frozen) spans.push({ text: ' FROZEN ', inverse: true, bold: true }, { text: '  ' });
  if (filter !== '' && filterBefore === undefined) {
    spans.push({ text: 'filter ', dim: true }, { text: toCellText(filter), bold: true }, { text: '   ' });
  }
  if (page !== undefined && page.matching > 0) {
    const last = Math.min(page.matching, top + tableRows);
    const all = page.matching === page.total ? '' : ` (${formatInteger(page.total)} in all)`;
    spans.push({
      text: `${formatInteger(top + 1)}–${formatInteger(last)} of ${formatInteger(page.matching)}`,
    });
    spans.push({ text: `${all}   `, dim: true });
  }
  const title = columns.find(({ field }) => field === sort)?.title.toLowerCase() ?? sort;
  spans.push({ text: 'by ', dim: true }, { text: `${title} ${descending ? '▼' : '▲'}`, color: 'cyan' });
  return spans;
}

const keyGap = '  ';

/** The keys that matter here, the first ones first, as far as there is room; 80 columns show those that act. */
function drawKeys(state: TopState): Line {
  const keys: readonly (readonly [string, string])[] =
    state.filterBefore !== undefined
      ? [
          ['Enter', 'keep'],
          ['Esc', 'take back'],
          ['Ctrl-U', 'clear'],
        ]
      : state.screen === 'table'
        ? [
            ['q', 'quit'],
            ['?', 'help'],
            ['/', 'filter'],
            ['Enter', 'details'],
            ['x', 'kick'],
            ['R', 'revoke'],
            ['c', 'copy'],
            ['Space', state.frozen ? 'go on' : 'freeze'],
            ['< >', 'sort'],
            ['r', 'reverse'],
            ...(state.serving ? ([['l', 'log']] as const) : []),
          ]
        : state.screen === 'details'
          ? [
              ['Esc', 'back'],
              ['x', 'kick'],
              ['R', 'revoke'],
              ['c', 'copy'],
              ['?', 'help'],
            ]
          : [['Esc', 'back']];
  const spans: Span[] = [];
  let left = state.columns;
  for (const [key, does] of keys) {
    const space = spans.length === 0 ? ' ' : keyGap;
    const needed = space.length + key.length + 1 + does.length;
    if (needed > left) break;
    left -= needed;
    spans.push({ text: `${space}${key}`, bold: true }, { text: ` ${does}`, dim: true });
  }
  return spans;
}
