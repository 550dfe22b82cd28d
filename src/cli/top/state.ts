import type {
  ConnectionDetailsJson,
  ConnectionJson,
  ConnectionPageJson,
  SortField,
} from '../../api/connection.js';
import type { DeviceDetailsJson } from '../../api/device.js';
import type { PassingMessageJson } from '../../api/passing-message.js';
import type { SessionJson } from '../../api/session.js';
import type { PageRequest } from '../store/live-api.js';
import type { Widths } from './columns.js';
import type { TopStats } from './top-stats.js';

/** What the table can show, in the order of the keys 1 to 5. */
export const views = ['connections', 'devices', 'sessions', 'replicas', 'events'] as const;
export type View = (typeof views)[number];

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
  | { readonly about: 'kick' | 'end'; readonly id: string; readonly device: string; readonly client: string }
  | { readonly about: 'stop' };

/** A page as it came, and where in the sorted list it begins. */
export interface LoadedPage extends ConnectionPageJson {
  readonly offset: number;
}

/** Which rows of a list are asked for, beside those of connections. */
export interface ListRequest {
  readonly view: Exclude<View, 'connections'>;
  readonly filter: string;
  /** The first row on the screen, and how many there are. */
  readonly top: number;
  readonly shown: number;
  /** How many rows from the first one on. */
  readonly limit: number;
}

/** A row of a list, as it is drawn, and what keys act on. */
export interface ListRow {
  readonly key: string;
  /** The text of each column. */
  readonly cells: readonly string[];
  readonly device?: string | undefined;
  readonly session?: { readonly id: string; readonly device: string; readonly client: string };
  readonly replica?: string;
  readonly color?: 'yellow' | 'red' | undefined;
}

/** The rows of a list from the first one on. */
export interface LoadedList {
  readonly rows: readonly ListRow[];
  /** There are more. */
  readonly more: boolean;
  /** Why there are none. */
  readonly problem?: string;
}

/** What is kept of a view while another one is shown. */
export type Place = Pick<TopState, 'cursor' | 'top' | 'chosen' | 'filter' | 'widths' | 'list'>;

/** Everything that is told of one device. */
export interface DeviceFound {
  readonly device: DeviceDetailsJson;
  /** Undefined: they cannot be read now. */
  readonly sessions: readonly SessionJson[] | undefined;
}

/** The messages of a device as they pass. */
export interface Peek {
  readonly device: string;
  /** The latest last. */
  readonly messages: readonly PassingMessageJson[];
  /** So many came too fast, or while the screen was frozen. */
  readonly missed: number;
  /** Why none come; undefined: they would. */
  readonly problem: string | undefined;
  /** What was shown before. */
  readonly from: 'table' | 'details' | 'device';
}

/** Everything that the screen shows. */
export interface TopState {
  readonly columns: number;
  readonly rows: number;
  /** How many rows the table can show. */
  readonly tableRows: number;
  readonly screen: 'table' | 'details' | 'device' | 'messages' | 'help' | 'log';
  readonly view: View;
  /** Where other views were left. */
  readonly places: Partial<Readonly<Record<View, Place>>>;
  /** What the table shows, unless that is connections. */
  readonly list: LoadedList | undefined;
  /** Only connections of this replica. */
  readonly replica: string | undefined;
  readonly sort: SortField;
  readonly descending: boolean;
  readonly filter: string;
  /** The filter as it was when typing began; undefined: nobody types. */
  readonly filterBefore: string | undefined;
  readonly frozen: boolean;
  /** Index of the selected row in the list; 0 when the list is empty. */
  readonly cursor: number;
  /** Index of the first row on the screen. */
  readonly top: number;
  /** The row that was chosen by moving; the selection follows it while it is loaded. */
  readonly chosen: string | undefined;
  /**
   * The connection that was kicked, or the session that was ended, until the selection is moved. Meanwhile nothing else is selected, also when it has
   * left the list: a key that is pressed again, or held, must not meet whoever comes to its place. It is kicked again
   * only when that has failed.
   */
  readonly kicked: { readonly id: string; readonly failed: boolean } | undefined;
  readonly page: LoadedPage | undefined;
  readonly widths: Widths;
  readonly stats: TopStats | undefined;
  readonly details:
    | {
        readonly id: string;
        readonly found: ConnectionDetailsJson | 'ended' | undefined;
        /** Messages a second, as they were read one second after the other. */
        readonly rates: readonly number[];
      }
    | undefined;
  readonly device: { readonly id: string; readonly found: DeviceFound | 'gone' | undefined } | undefined;
  readonly peek: Peek | undefined;
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
  | { readonly type: 'list'; readonly request: ListRequest; readonly list: LoadedList }
  | { readonly type: 'device'; readonly id: string; readonly found: DeviceFound | 'gone' }
  | { readonly type: 'peek' }
  | { readonly type: 'passed'; readonly device: string; readonly message: PassingMessageJson }
  | { readonly type: 'passed-by'; readonly device: string; readonly missed: number }
  | { readonly type: 'peek-failed'; readonly device: string; readonly problem: string }
  | { readonly type: 'view'; readonly view: View }
  | { readonly type: 'next-view'; readonly by: -1 | 1 }
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
  | {
      readonly type: 'kick' | 'end-session';
      readonly id: string;
      readonly device: string;
      readonly client: string;
    }
  | { readonly type: 'revoke'; readonly device: string }
  | { readonly type: 'copy'; readonly text: string }
  | { readonly type: 'quit' };

export type Step = readonly [TopState, readonly Effect[]];

/** Most connections that the API sends at once. */
const maxPageLength = 500;
/** The most rows of another list: of more, a filter shows the rest. */
export const maxListLength = 1_000;

/** A view that nobody has looked at yet, at its top. */
export const untouched: Place = {
  cursor: 0,
  top: 0,
  chosen: undefined,
  filter: '',
  widths: {},
  list: undefined,
};

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
      view: 'connections',
      places: {},
      ...untouched,
      replica: undefined,
      sort: options.sort ?? 'rate',
      descending: options.descending ?? true,
      filter: options.filter ?? '',
      filterBefore: undefined,
      frozen: false,
      kicked: undefined,
      page: undefined,
      stats: undefined,
      details: undefined,
      device: undefined,
      peek: undefined,
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
export function chromeOf(rows: number, view: View): { header: number; events: number } {
  const events = rows >= 50 ? 9 : rows >= 36 ? 6 : rows >= 22 ? 4 : 0;
  return { header: rows < 12 ? 1 : rows < 18 ? 3 : 5, events: view === 'events' ? 0 : events };
}

/** The state on a terminal of another size. */
export function resize(state: TopState, columnCount: number, rows: number): TopState {
  return fitRows({ ...state, columns: columnCount, rows, widths: {} });
}

/** The state with as many rows in the table as there is room for. */
export function fitRows(state: TopState): TopState {
  const { header, events } = chromeOf(state.rows, state.view);
  // One line for the titles, one for what is told, one for the keys.
  return keepInView({ ...state, tableRows: Math.max(1, state.rows - header - events - 3) });
}

/** What to ask for of connections: the screen and one more above and below, so that scrolling finds its rows there. */
export function requestOf(state: TopState): PageRequest {
  const { filter, sort, descending, top, tableRows, replica } = state;
  const offset = Math.max(0, top - tableRows);
  const limit = Math.min(maxPageLength, top - offset + 2 * tableRows);
  return { filter, sort, descending, offset, limit, replica };
}

/** What to ask for of another list: the screen and one more below; undefined: connections are shown. */
export function listRequestOf(state: TopState): ListRequest | undefined {
  const { view, filter, top, tableRows } = state;
  if (view === 'connections') return undefined;
  return { view, filter, top, shown: tableRows, limit: Math.min(maxListLength, top + 2 * tableRows) };
}

/** How many rows the list has, as far as is known. */
export function countRows({ view, page, list }: TopState): number {
  return (view === 'connections' ? page?.matching : list?.rows.length) ?? 0;
}

/** Whether what is loaded answers the request, as far as the rows on the screen go. */
export function isLoaded(state: TopState): boolean {
  const { view, page, list, top, tableRows } = state;
  if (view !== 'connections')
    return list !== undefined && (!list.more || list.rows.length >= Math.min(maxListLength, top + tableRows));
  if (page === undefined) return false;
  const end = Math.min(top + tableRows, page.matching);
  return page.offset <= top && page.offset + page.connections.length >= end;
}

/** The connection of an index in the sorted list; undefined while it is not loaded. */
export function rowAt({ page }: TopState, index: number): ConnectionJson | undefined {
  return page === undefined ? undefined : page.connections[index - page.offset];
}

/** What the row of an index is known by. */
export function keyAt(state: TopState, index: number): string | undefined {
  return state.view === 'connections' ? rowAt(state, index)?.id : state.list?.rows[index]?.key;
}

/** The connection that keys act on. */
export function selectedRow(state: TopState): ConnectionJson | undefined {
  const { details } = state;
  if (state.screen === 'details' && details !== undefined) {
    return typeof details.found === 'object' ? details.found : undefined;
  }
  if (state.view !== 'connections') return undefined;
  return isSelected(state, state.cursor) ? rowAt(state, state.cursor) : undefined;
}

/** The row of another list that keys act on. */
export function selectedItem(state: TopState): ListRow | undefined {
  if (state.view === 'connections' || state.screen !== 'table') return undefined;
  return isSelected(state, state.cursor) ? state.list?.rows[state.cursor] : undefined;
}

/** The device that keys act on. */
export function selectedDevice(state: TopState): string | undefined {
  if (state.screen === 'messages') return state.peek?.device;
  if (state.screen === 'device') return state.device?.id;
  return selectedRow(state)?.device ?? selectedItem(state)?.device;
}

/** Whether the selection is at an index, of which the row may not be loaded yet. */
export function isSelected(state: TopState, index: number): boolean {
  if (index !== state.cursor) return false;
  return state.kicked === undefined || keyAt(state, index) === state.kicked.id;
}

/** Keeps the selection inside of the list, and the screen around the selection. */
export function keepInView(state: TopState): TopState {
  const count = countRows(state);
  const cursor = Math.max(0, Math.min(state.cursor, count - 1));
  const lastTop = Math.max(0, count - state.tableRows);
  const lowest = Math.max(0, cursor - state.tableRows + 1);
  const top = Math.min(lastTop, Math.max(lowest, Math.min(state.top, cursor)));
  return { ...state, cursor, top };
}
