import type { SortField } from '../../server/live.js';
import type { ConnectionDetails, ConnectionPage, ConnectionRow, PageRequest, Stats } from './api.js';
import { columns, growWidths, type Widths } from './columns.js';

/** What the operator has been told last. */
export interface Notice {
  readonly text: string;
  readonly tone: 'good' | 'bad';
}

/** How the replica is reached. `gone` keeps the last data on the screen, greyed. */
export type Link =
  | { readonly state: 'connecting' }
  | { readonly state: 'live' }
  | { readonly state: 'gone'; readonly reason: string; readonly retryInSec: number };

/** A question that has to be answered with y before something is done. */
export interface Question {
  readonly about: 'revoke' | 'stop';
  readonly target: string;
}

/** A page as it came, and where in the sorted list it begins. */
export interface LoadedPage extends ConnectionPage {
  readonly offset: number;
}

/** Everything that the screen shows. */
export interface TopState {
  readonly columns: number;
  readonly rows: number;
  /** How many connections the table can show. */
  readonly tableRows: number;
  readonly screen: 'table' | 'details' | 'help' | 'log';
  readonly sort: SortField;
  readonly descending: boolean;
  readonly filter: string;
  /** The filter as it was when typing began; undefined: nobody types. */
  readonly filterBefore: string | undefined;
  readonly frozen: boolean;
  /** Index of the selected connection in the sorted list; 0 when the list is empty. */
  readonly cursor: number;
  /** Index of the first connection on the screen. */
  readonly top: number;
  /** The connection that was chosen by moving; the selection follows it while it is on the page. */
  readonly chosen: string | undefined;
  readonly page: LoadedPage | undefined;
  readonly widths: Widths;
  readonly stats: Stats | undefined;
  readonly details:
    | { readonly id: string; readonly found: ConnectionDetails | 'ended' | undefined }
    | undefined;
  readonly link: Link;
  readonly question: Question | undefined;
  readonly notice: Notice | undefined;
  /** The screen belongs to the server's own process: to quit is to stop it. */
  readonly serving: boolean;
  /** The latest lines of the server's log, when it is served here. */
  readonly logLines: readonly string[];
}

export type Action =
  | { readonly type: 'resized'; readonly columns: number; readonly rows: number }
  | { readonly type: 'page'; readonly request: PageRequest; readonly page: ConnectionPage }
  | { readonly type: 'stats'; readonly stats: Stats }
  | { readonly type: 'details'; readonly id: string; readonly found: ConnectionDetails | 'ended' }
  | { readonly type: 'log'; readonly lines: readonly string[] }
  | { readonly type: 'lost'; readonly reason: string; readonly retryInSec: number }
  | { readonly type: 'notice'; readonly notice: Notice }
  | { readonly type: 'move'; readonly by: number }
  | { readonly type: 'move-page'; readonly by: -1 | 1 }
  | { readonly type: 'move-to'; readonly end: 'first' | 'last' }
  | { readonly type: 'sort'; readonly by: -1 | 1 }
  | { readonly type: 'reverse' }
  | { readonly type: 'filter-begin' }
  | { readonly type: 'filter-type'; readonly text: string }
  | { readonly type: 'filter-erase'; readonly all: boolean }
  | { readonly type: 'filter-end'; readonly keep: boolean }
  | { readonly type: 'freeze' }
  | { readonly type: 'open'; readonly screen: 'details' | 'help' | 'log' }
  | { readonly type: 'back' }
  | { readonly type: 'kick' }
  | { readonly type: 'revoke' }
  | { readonly type: 'copy' }
  | { readonly type: 'answer'; readonly yes: boolean }
  | { readonly type: 'quit' };

/** What is to be done outside of the state. */
export type Effect =
  | { readonly type: 'kick'; readonly id: string }
  | { readonly type: 'revoke'; readonly device: string }
  | { readonly type: 'copy'; readonly text: string }
  | { readonly type: 'quit' };

export type Step = readonly [TopState, readonly Effect[]];

const maxFilterLength = 256;
/** Most connections that the API sends at once. */
const maxPageLength = 500;

export function initialState(options: {
  columns: number;
  rows: number;
  sort?: SortField;
  descending?: boolean;
  filter?: string;
  serving?: boolean;
}): TopState {
  return resize(
    {
      columns: options.columns,
      rows: options.rows,
      tableRows: 1,
      screen: 'table',
      sort: options.sort ?? 'rate',
      descending: options.descending ?? true,
      filter: options.filter ?? '',
      filterBefore: undefined,
      frozen: false,
      cursor: 0,
      top: 0,
      chosen: undefined,
      page: undefined,
      widths: {},
      stats: undefined,
      details: undefined,
      link: { state: 'connecting' },
      question: undefined,
      notice: undefined,
      serving: options.serving ?? false,
      logLines: [],
    },
    options.columns,
    options.rows,
  );
}

/** Lines that are not the table: header, titles, status and keys; events when there is room for them. */
export function chromeOf(rows: number): { header: number; events: number } {
  return { header: rows < 12 ? 1 : rows < 18 ? 3 : 5, events: rows >= 30 ? 4 : 0 };
}

function resize(state: TopState, columnCount: number, rows: number): TopState {
  const { header, events } = chromeOf(rows);
  // One line for the titles, one for what is told, one for the keys.
  const tableRows = Math.max(1, rows - header - events - 3);
  return keepInView({ ...state, columns: columnCount, rows, tableRows, widths: {} });
}

/** What to ask for: the screen and one more above and below, so that scrolling finds its rows there. */
export function requestOf(state: TopState): PageRequest {
  const { filter, sort, descending, top, tableRows } = state;
  const offset = Math.max(0, top - tableRows);
  const limit = Math.min(maxPageLength, top - offset + 2 * tableRows);
  return { filter, sort, descending, offset, limit };
}

/** Whether what is loaded answers the request, as far as the rows on the screen go. */
export function isLoaded(state: TopState): boolean {
  const { page, top, tableRows } = state;
  if (page === undefined) return false;
  const end = Math.min(top + tableRows, page.matching);
  return page.offset <= top && page.offset + page.connections.length >= end;
}

/** The row of an index in the sorted list; undefined while it is not loaded. */
export function rowAt({ page }: TopState, index: number): ConnectionRow | undefined {
  return page === undefined ? undefined : page.connections[index - page.offset];
}

/** The connection that keys act on. */
export function selectedRow(state: TopState): ConnectionRow | undefined {
  const { details } = state;
  if (state.screen === 'details' && details !== undefined) {
    return typeof details.found === 'object' ? details.found : undefined;
  }
  return rowAt(state, state.cursor);
}

/** Keeps the selection inside of the list, and the screen around the selection. */
function keepInView(state: TopState): TopState {
  const count = state.page?.matching ?? 0;
  const cursor = Math.max(0, Math.min(state.cursor, count - 1));
  const lastTop = Math.max(0, count - state.tableRows);
  const lowest = Math.max(0, cursor - state.tableRows + 1);
  const top = Math.min(lastTop, Math.max(lowest, Math.min(state.top, cursor)));
  return { ...state, cursor, top };
}

function moveTo(state: TopState, cursor: number): TopState {
  const moved = keepInView({ ...state, cursor, notice: undefined });
  // At the very top the selection stays on top, whoever is there.
  const chosen = moved.cursor === 0 ? undefined : rowAt(moved, moved.cursor)?.id;
  return { ...moved, chosen };
}

/** A list sorted or filtered in another way begins at its top. */
function restart(state: TopState): TopState {
  return { ...state, cursor: 0, top: 0, chosen: undefined, notice: undefined };
}

function takePage(state: TopState, request: PageRequest, page: ConnectionPage): TopState {
  const { filter, sort, descending } = state;
  // The answer to a question that is no longer asked.
  if (request.filter !== filter || request.sort !== sort || request.descending !== descending) return state;
  const loaded = { ...page, offset: request.offset };
  const widths = growWidths(state.widths, page.connections);
  const next: TopState = { ...state, page: loaded, widths, link: { state: 'live' } };
  const at = page.connections.findIndex(({ id }) => id === state.chosen);
  if (state.chosen === undefined || at < 0) {
    const kept = keepInView(next);
    const chosen = kept.cursor === 0 ? undefined : (rowAt(kept, kept.cursor)?.id ?? state.chosen);
    return { ...kept, chosen };
  }
  // The selection goes with its connection.
  return keepInView({ ...next, cursor: request.offset + at });
}

function sortBy(state: TopState, by: -1 | 1): TopState {
  const at = columns.findIndex(({ field }) => field === state.sort);
  const next = columns[(at + by + columns.length) % columns.length];
  if (next === undefined) return state;
  return restart({ ...state, sort: next.field, descending: next.descendingFirst });
}

function ask(state: TopState, question: Question | undefined): TopState {
  return { ...state, question, notice: undefined };
}

/** The state after an action, and what is to be done. Pure: the same input gives the same output. */
export function reduce(state: TopState, action: Action): Step {
  switch (action.type) {
    case 'kick': {
      const row = selectedRow(state);
      return row === undefined ? [state, []] : [state, [{ type: 'kick', id: row.id }]];
    }
    case 'revoke': {
      const row = selectedRow(state);
      return [row === undefined ? state : ask(state, { about: 'revoke', target: row.device }), []];
    }
    case 'copy': {
      const row = selectedRow(state);
      if (row === undefined) return [state, []];
      const notice: Notice = { text: `Device id ${row.device} copied`, tone: 'good' };
      return [{ ...state, notice }, [{ type: 'copy', text: row.device }]];
    }
    case 'answer': {
      const { question } = state;
      const next = ask(state, undefined);
      if (!action.yes || question === undefined) return [next, []];
      return question.about === 'stop'
        ? [next, [{ type: 'quit' }]]
        : [next, [{ type: 'revoke', device: question.target }]];
    }
    case 'quit':
      return state.serving ? [ask(state, { about: 'stop', target: '' }), []] : [state, [{ type: 'quit' }]];
    default:
      return [update(state, action), []];
  }
}

function update(
  state: TopState,
  action: Exclude<Action, { type: 'kick' | 'revoke' | 'copy' | 'answer' | 'quit' }>,
): TopState {
  switch (action.type) {
    case 'resized':
      return resize(state, action.columns, action.rows);
    case 'page':
      return takePage(state, action.request, action.page);
    case 'stats':
      return { ...state, stats: action.stats, link: { state: 'live' } };
    case 'details':
      return state.details?.id === action.id
        ? { ...state, details: { id: action.id, found: action.found } }
        : state;
    case 'lost':
      return { ...state, link: { state: 'gone', reason: action.reason, retryInSec: action.retryInSec } };
    case 'log':
      return { ...state, logLines: action.lines };
    case 'notice':
      return { ...state, notice: action.notice };
    case 'move':
      return moveTo(state, state.cursor + action.by);
    case 'move-page':
      return moveTo(
        { ...state, top: state.top + action.by * state.tableRows },
        state.cursor + action.by * state.tableRows,
      );
    case 'move-to':
      return moveTo(state, action.end === 'first' ? 0 : Number.MAX_SAFE_INTEGER);
    case 'sort':
      return sortBy(state, action.by);
    case 'reverse':
      return restart({ ...state, descending: !state.descending });
    case 'filter-begin':
      return { ...state, screen: 'table', filterBefore: state.filter, notice: undefined };
    case 'filter-type':
      return refilter(state, (state.filter + action.text).slice(0, maxFilterLength));
    case 'filter-erase':
      return refilter(state, action.all ? '' : [...state.filter].slice(0, -1).join(''));
    case 'filter-end':
      return refilter(
        { ...state, filterBefore: undefined },
        action.keep ? state.filter : (state.filterBefore ?? ''),
      );
    case 'freeze':
      return { ...state, frozen: !state.frozen };
    case 'open':
      return openScreen(state, action.screen);
    case 'back':
      return goBack(state);
  }
}

function refilter(state: TopState, filter: string): TopState {
  return filter === state.filter ? state : { ...restart({ ...state, filter }), widths: {} };
}

function openScreen(state: TopState, screen: 'details' | 'help' | 'log'): TopState {
  if (screen !== 'details') return { ...state, screen, notice: undefined };
  const row = rowAt(state, state.cursor);
  if (row === undefined) return state;
  return { ...state, screen, details: { id: row.id, found: undefined }, notice: undefined };
}

/** Back to the table; from the table, to all connections. */
function goBack(state: TopState): TopState {
  if (state.screen !== 'table') return { ...state, screen: 'table', details: undefined };
  return refilter({ ...state, notice: undefined }, '');
}
