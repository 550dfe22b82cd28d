import type {
  ConnectionDetailsJson,
  ConnectionJson,
  ConnectionPageJson,
  SortField,
} from '../../api/connection.js';
import type { PageRequest } from '../store/live-api.js';
import type { Widths } from './columns.js';
import type { TopStats } from './top-stats.js';

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
export type Question =
  | { readonly about: 'revoke'; readonly device: string }
  | { readonly about: 'kick'; readonly id: string; readonly device: string; readonly client: string }
  | { readonly about: 'stop' };

/** A page as it came, and where in the sorted list it begins. */
export interface LoadedPage extends ConnectionPageJson {
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
  /**
   * The connection that was kicked, until the selection is moved. Meanwhile nothing else is selected, also when it has
   * left the list: a key that is pressed again, or held, must not meet whoever comes to its place. It is kicked again
   * only when that has failed.
   */
  readonly kicked: { readonly id: string; readonly failed: boolean } | undefined;
  readonly page: LoadedPage | undefined;
  readonly widths: Widths;
  readonly stats: TopStats | undefined;
  readonly details:
    | { readonly id: string; readonly found: ConnectionDetailsJson | 'ended' | undefined }
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
  | { readonly type: 'page'; readonly request: PageRequest; readonly page: ConnectionPageJson }
  | { readonly type: 'stats'; readonly stats: TopStats }
  | { readonly type: 'details'; readonly id: string; readonly found: ConnectionDetailsJson | 'ended' }
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
  | { readonly type: 'kick-failed'; readonly id: string }
  | { readonly type: 'revoke' }
  | { readonly type: 'copy' }
  | { readonly type: 'answer'; readonly yes: boolean }
  | { readonly type: 'quit' };

/** What is to be done outside of the state. */
export type Effect =
  | { readonly type: 'kick'; readonly id: string; readonly device: string; readonly client: string }
  | { readonly type: 'revoke'; readonly device: string }
  | { readonly type: 'copy'; readonly text: string }
  | { readonly type: 'quit' };

export type Step = readonly [TopState, readonly Effect[]];

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
      kicked: undefined,
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
  const events = rows >= 50 ? 9 : rows >= 36 ? 6 : rows >= 22 ? 4 : 0;
  return { header: rows < 12 ? 1 : rows < 18 ? 3 : 5, events };
}

/** The state on a terminal of another size. */
export function resize(state: TopState, columnCount: number, rows: number): TopState {
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
export function rowAt({ page }: TopState, index: number): ConnectionJson | undefined {
  return page === undefined ? undefined : page.connections[index - page.offset];
}

/** The connection that keys act on. */
export function selectedRow(state: TopState): ConnectionJson | undefined {
  const { details } = state;
  if (state.screen === 'details' && details !== undefined) {
    return typeof details.found === 'object' ? details.found : undefined;
  }
  return isSelected(state, state.cursor) ? rowAt(state, state.cursor) : undefined;
}

/** Whether the selection is at an index, of which the row may not be loaded yet. */
export function isSelected(state: TopState, index: number): boolean {
  if (index !== state.cursor) return false;
  return state.kicked === undefined || rowAt(state, index)?.id === state.kicked.id;
}

/** Keeps the selection inside of the list, and the screen around the selection. */
export function keepInView(state: TopState): TopState {
  const count = state.page?.matching ?? 0;
  const cursor = Math.max(0, Math.min(state.cursor, count - 1));
  const lastTop = Math.max(0, count - state.tableRows);
  const lowest = Math.max(0, cursor - state.tableRows + 1);
  const top = Math.min(lastTop, Math.max(lowest, Math.min(state.top, cursor)));
  return { ...state, cursor, top };
}
