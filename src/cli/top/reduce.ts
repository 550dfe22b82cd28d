import type { ConnectionPageJson } from '../../api/connection.js';
import type { PageRequest } from '../store/live-api.js';
import { columns, growToConnections, growWidths, sortsDescending } from './columns.js';
import { listColumns } from './lists.js';
import {
  type Action,
  fitRows,
  keepInView,
  keyAt,
  type ListRequest,
  type LoadedList,
  type Notice,
  type Question,
  resize,
  type Step,
  selectedDevice,
  selectedItem,
  selectedRow,
  type TopState,
  untouched,
  type View,
  views,
} from './state.js';

const maxFilterLength = 256;

function moveTo(state: TopState, cursor: number): TopState {
  const moved = keepInView({ ...state, cursor, notice: undefined });
  // At the very top the selection stays on top, whoever is there.
  const chosen = moved.cursor === 0 ? undefined : keyAt(moved, moved.cursor);
  return { ...moved, chosen, kicked: undefined };
}

/** A list sorted or filtered in another way begins at its top. */
function restart(state: TopState): TopState {
  return { ...state, cursor: 0, top: 0, chosen: undefined, kicked: undefined, notice: undefined };
}

function takePage(state: TopState, request: PageRequest, page: ConnectionPageJson): TopState {
  const { filter, sort, descending, replica } = state;
  // The answer to a question that is no longer asked.
  if (state.view !== 'connections' || request.filter !== filter || request.replica !== replica) return state;
  if (request.sort !== sort || request.descending !== descending) return state;
  const loaded = { ...page, offset: request.offset };
  const widths = growToConnections(state.widths, page.connections);
  const next: TopState = { ...state, page: loaded, widths, link: { state: 'live' } };
  return followChosen(
    next,
    request.offset + page.connections.findIndex(({ id }) => id === state.chosen),
    page.connections.some(({ id }) => id === state.chosen),
  );
}

function takeList(state: TopState, { view, filter }: ListRequest, list: LoadedList): TopState {
  if (view !== state.view || filter !== state.filter) return state;
  const columns = listColumns[view].map((column, at) => ({ ...column, at }));
  const widths = growWidths(state.widths, columns, list.rows, ({ at }, { cells }) => cells[at] ?? '');
  const at = list.rows.findIndex(({ key }) => key === state.chosen);
  return followChosen({ ...state, list, widths, link: { state: 'live' } }, at, at >= 0);
}

/** The selection goes with the row that was chosen, while it is there. */
function followChosen(next: TopState, at: number, isThere: boolean): TopState {
  if (next.chosen !== undefined && isThere) return keepInView({ ...next, cursor: at });
  const kept = keepInView(next);
  if (next.kicked !== undefined) return kept;
  return { ...kept, chosen: kept.cursor === 0 ? undefined : (keyAt(kept, kept.cursor) ?? next.chosen) };
}

function showTable(state: TopState): TopState {
  return { ...state, screen: 'table', details: undefined, device: undefined, peek: undefined };
}

/** Another list, as it was left. */
function showView(state: TopState, view: View): TopState {
  const { cursor, top, chosen, filter, widths, list } = state;
  const shown = { ...showTable(state), notice: undefined, kicked: undefined };
  if (view === state.view) return shown;
  const places = { ...state.places, [state.view]: { cursor, top, chosen, filter, widths, list } };
  return fitRows({ ...shown, ...(state.places[view] ?? untouched), view, places });
}

function sortBy(state: TopState, by: -1 | 1): TopState {
  if (state.view !== 'connections') return state;
  const at = columns.findIndex(({ field }) => field === state.sort);
  const next = columns[(at + by + columns.length) % columns.length];
  if (next === undefined) return state;
  return restart({ ...state, sort: next.field, descending: sortsDescending(next.field, false) });
}

function ask(state: TopState, question: Question | undefined): TopState {
  return { ...state, question, notice: undefined };
}

/** The state after an action, and what is to be done. Pure: the same input gives the same output. */
export function reduce(state: TopState, action: Action): Step {
  switch (action.type) {
    case 'kick': {
      const about = state.view === 'sessions' ? 'end' : 'kick';
      const row = about === 'end' ? selectedItem(state)?.session : selectedRow(state);
      if (row === undefined) return [state, []];
      if (row.id === state.kicked?.id && !state.kicked.failed) return [state, []];
      const { id, device, client } = row;
      return [ask(state, { about, id, device, client }), []];
    }
    case 'revoke': {
      const device = selectedDevice(state);
      return [device === undefined ? state : ask(state, { about: 'revoke', device }), []];
    }
    case 'copy': {
      const device = selectedDevice(state);
      if (device === undefined) return [state, []];
      const notice: Notice = { text: `Device id ${device} copied`, tone: 'good' };
      return [{ ...state, notice }, [{ type: 'copy', text: device }]];
    }
    case 'answer': {
      const { question } = state;
      const next = ask(state, undefined);
      if (!action.yes || question === undefined) return [next, []];
      return answerYes(next, question);
    }
    case 'quit':
      return state.serving ? [ask(state, { about: 'stop' }), []] : [state, [{ type: 'quit' }]];
    default:
      return [update(state, action), []];
  }
}

function answerYes(state: TopState, question: Question): Step {
  if (question.about === 'stop') return [state, [{ type: 'quit' }]];
  if (question.about === 'revoke') return [state, [{ type: 'revoke', device: question.device }]];
  const { about, id, device, client } = question;
  const type = about === 'end' ? 'end-session' : 'kick';
  return [{ ...state, chosen: id, kicked: { id, failed: false } }, [{ type, id, device, client }]];
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
      return takeDetails(state, action);
    case 'list':
      return takeList(state, action.request, action.list);
    case 'device':
      return state.device?.id === action.id
        ? { ...state, device: { id: action.id, found: action.found }, link: { state: 'live' } }
        : state;
    case 'peek':
      return openPeek(state);
    case 'passed':
    case 'passed-by':
    case 'peek-failed':
      return takePassing(state, action);
    case 'view':
      return showView(state, action.view);
    case 'next-view':
      return showView(
        state,
        views[(views.indexOf(state.view) + action.by + views.length) % views.length] ?? 'connections',
      );
    case 'lost':
      return { ...state, link: { state: 'gone', reason: action.reason, retryInSec: action.retryInSec } };
    case 'log':
      return { ...state, logLines: action.lines };
    case 'kick-failed':
      return state.kicked?.id === action.id ? { ...state, kicked: { id: action.id, failed: true } } : state;
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
      return state.view === 'connections' ? restart({ ...state, descending: !state.descending }) : state;
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
  return filter === state.filter ? state : restart({ ...state, filter });
}

/** Seconds of which the rate of a connection is remembered. */
const keptRates = 120;

function takeDetails(state: TopState, { id, found }: Action & { type: 'details' }): TopState {
  const { details } = state;
  if (details?.id !== id) return state;
  if (found === 'ended') return { ...state, details: { ...details, found } };
  return { ...state, details: { id, found, rates: [...details.rates, found.rate ?? 0].slice(-keptRates) } };
}

function openScreen(state: TopState, screen: 'details' | 'help' | 'log'): TopState {
  if (screen !== 'details') return { ...state, screen, notice: undefined };
  if (state.view === 'connections') {
    const row = selectedRow(state);
    if (row === undefined) return state;
    return { ...state, screen, details: { id: row.id, found: undefined, rates: [] }, notice: undefined };
  }
  const item = selectedItem(state);
  if (item?.replica !== undefined)
    return restart({ ...showView(state, 'connections'), replica: item.replica, filter: '' });
  if (item?.device === undefined) return state;
  return { ...state, screen: 'device', device: { id: item.device, found: undefined }, notice: undefined };
}

/** Messages that are kept of what has passed. */
const keptMessages = 200;

function openPeek(state: TopState): TopState {
  const device = selectedDevice(state);
  const from = state.screen;
  if (device === undefined || from === 'messages' || from === 'help' || from === 'log') return state;
  const peek = { device, messages: [], missed: 0, problem: undefined, from };
  return { ...state, screen: 'messages', peek, notice: undefined };
}

function takePassing(
  state: TopState,
  action: Action & { type: 'passed' | 'passed-by' | 'peek-failed' },
): TopState {
  const { peek, frozen } = state;
  if (peek?.device !== action.device) return state;
  if (action.type === 'peek-failed') return { ...state, peek: { ...peek, problem: action.problem } };
  if (action.type === 'passed-by' || frozen) {
    const more = action.type === 'passed-by' ? action.missed : 1;
    return { ...state, peek: { ...peek, missed: peek.missed + more } };
  }
  const messages = [...peek.messages, action.message].slice(-keptMessages);
  return { ...state, peek: { ...peek, messages } };
}

/** Back to the table; from the table, to all of its rows. */
function goBack(state: TopState): TopState {
  if (state.screen === 'messages') return { ...state, screen: state.peek?.from ?? 'table', peek: undefined };
  if (state.screen !== 'table') return showTable(state);
  const { view, replica } = state;
  if (view === 'connections' && replica !== undefined)
    return restart({ ...state, replica: undefined, filter: '' });
  return refilter({ ...state, notice: undefined }, '');
}
