import type { ConnectionPageJson } from '../../api/connection.js';
import type { PageRequest } from '../store/live-api.js';
import { columns, growWidths } from './columns.js';
import {
  type Action,
  keepInView,
  type Notice,
  type Question,
  resize,
  rowAt,
  type Step,
  selectedRow,
  type TopState,
} from './state.js';

const maxFilterLength = 256;

function moveTo(state: TopState, cursor: number): TopState {
  const moved = keepInView({ ...state, cursor, notice: undefined });
  // At the very top the selection stays on top, whoever is there.
  const chosen = moved.cursor === 0 ? undefined : rowAt(moved, moved.cursor)?.id;
  return { ...moved, chosen, kicked: undefined };
}

/** A list sorted or filtered in another way begins at its top. */
function restart(state: TopState): TopState {
  return { ...state, cursor: 0, top: 0, chosen: undefined, kicked: undefined, notice: undefined };
}

function takePage(state: TopState, request: PageRequest, page: ConnectionPageJson): TopState {
  const { filter, sort, descending } = state;
  // The answer to a question that is no longer asked.
  if (request.filter !== filter || request.sort !== sort || request.descending !== descending) return state;
  const loaded = { ...page, offset: request.offset };
  const widths = growWidths(state.widths, page.connections);
  const next: TopState = { ...state, page: loaded, widths, link: { state: 'live' } };
  const at = page.connections.findIndex(({ id }) => id === state.chosen);
  if (state.chosen === undefined || at < 0) {
    const kept = keepInView(next);
    if (state.kicked !== undefined) return kept;
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
      if (row === undefined) return [state, []];
      if (row.id === state.kicked?.id && !state.kicked.failed) return [state, []];
      const { id, device, client } = row;
      return [ask(state, { about: 'kick', id, device, client }), []];
    }
    case 'revoke': {
      const row = selectedRow(state);
      return [row === undefined ? state : ask(state, { about: 'revoke', device: row.device }), []];
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
  const { id, device, client } = question;
  return [{ ...state, chosen: id, kicked: { id, failed: false } }, [{ type: 'kick', id, device, client }]];
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
  return filter === state.filter ? state : restart({ ...state, filter });
}

function openScreen(state: TopState, screen: 'details' | 'help' | 'log'): TopState {
  if (screen !== 'details') return { ...state, screen, notice: undefined };
  const row = selectedRow(state);
  if (row === undefined) return state;
  return { ...state, screen, details: { id: row.id, found: undefined }, notice: undefined };
}

/** Back to the table; from the table, to all connections. */
function goBack(state: TopState): TopState {
  if (state.screen !== 'table') return { ...state, screen: 'table', details: undefined };
  return refilter({ ...state, notice: undefined }, '');
}
