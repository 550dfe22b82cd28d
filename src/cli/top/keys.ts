import type { Key } from 'ink';
import { type Action, type TopState, views } from './state.js';

/** The keys of which a terminal sends more than a character. */
export type SpecialKeys = Readonly<Partial<Key>>;

/** What is shown of the keys, the most important ones first. */
export const keyHelp: readonly (readonly [keys: string, does: string])[] = [
  ['1 … 5 Tab', 'connections, devices, sessions, replicas, events'],
  ['↑ ↓ j k', 'move'],
  ['PgUp PgDn', 'a screen up or down'],
  ['Home End g G', 'the first, the last'],
  ['< > ← →', 'sort connections by the column to the left or right'],
  ['r', 'reverse the order'],
  [
    '/',
    'filter as you type: words that must all occur, of devices and sessions how the id begins; Enter keeps it, Esc takes it back',
  ],
  ['Esc', 'back; on a table: no filter'],
  ['Space', 'freeze, and go on'],
  ['Enter', 'details of the connection or the device; connections of the replica'],
  ['x', 'kick: end the connection, after a question; the client may come back. To kick another, move first'],
  ['x', 'of sessions: end it, with what waits for it, after a question'],
  ['R', 'revoke the device, after a question; `svc-mqtt device enable` lets it in again'],
  ['c', 'copy the device id to the clipboard (OSC 52)'],
  ['p', 'the messages of the device as they pass, for an operator'],
  ['?', 'this help'],
  ['q Ctrl-C', 'quit'],
];

const letters: Readonly<Record<string, Action>> = {
  j: { type: 'move', by: 1 },
  k: { type: 'move', by: -1 },
  g: { type: 'move-to', end: 'first' },
  G: { type: 'move-to', end: 'last' },
  '<': { type: 'sort', by: -1 },
  ',': { type: 'sort', by: -1 },
  '>': { type: 'sort', by: 1 },
  '.': { type: 'sort', by: 1 },
  r: { type: 'reverse' },
  '/': { type: 'filter-begin' },
  ' ': { type: 'freeze' },
  x: { type: 'kick' },
  R: { type: 'revoke' },
  c: { type: 'copy' },
  p: { type: 'peek' },
  '?': { type: 'open', screen: 'help' },
  l: { type: 'open', screen: 'log' },
  q: { type: 'quit' },
};

/** What works on the other screens too. */
const everywhere: ReadonlySet<Action['type']> = new Set(['open', 'filter-begin', 'freeze']);

/** What acts on a device, and so only where that device is seen. */
const onDevice: ReadonlySet<Action['type']> = new Set(['revoke', 'copy', 'peek']);

/** What a key does only when it comes alone, so that no text that is pasted does. */
export const takenAlone: ReadonlySet<Action['type']> = new Set(['kick', 'revoke', 'answer', 'copy', 'peek']);

/** What a key means in a state; undefined: nothing. */
export function toAction(input: string, key: SpecialKeys, state: TopState): Action | undefined {
  if (key.ctrl === true && input === 'c') return { type: 'quit' };
  if (state.question !== undefined) return { type: 'answer', yes: input === 'y' || input === 'Y' };
  if (state.filterBefore !== undefined) return toFilterAction(input, key);
  const view = toView(input, key);
  if (view !== undefined) return view;
  const moving = toMove(key);
  if (moving !== undefined) return state.screen === 'table' ? moving : undefined;
  if (key.escape === true) return { type: 'back' };
  if (key.return === true)
    return state.screen === 'table' ? { type: 'open', screen: 'details' } : { type: 'back' };
  if (key.ctrl === true || key.meta === true) return undefined;
  if (input === 'q' && state.screen !== 'table') return { type: 'back' };
  if (input === 'l' && !state.serving) return undefined;
  const action = Object.hasOwn(letters, input) ? letters[input] : undefined;
  if (action === undefined || state.screen === 'table' || everywhere.has(action.type)) return action;
  if (state.screen === 'messages') return action.type === 'copy' ? action : undefined;
  if (state.screen === 'device') return onDevice.has(action.type) ? action : undefined;
  return state.screen === 'details' && (onDevice.has(action.type) || action.type === 'kick')
    ? action
    : undefined;
}

function toView(input: string, key: SpecialKeys): Action | undefined {
  if (key.tab === true) return { type: 'next-view', by: key.shift === true ? -1 : 1 };
  if (key.ctrl === true || key.meta === true || !/^[1-9]$/.test(input)) return undefined;
  const view = views[Number(input) - 1];
  return view === undefined ? undefined : { type: 'view', view };
}

function toMove(key: SpecialKeys): Action | undefined {
  if (key.upArrow === true) return { type: 'move', by: -1 };
  if (key.downArrow === true) return { type: 'move', by: 1 };
  if (key.leftArrow === true) return { type: 'sort', by: -1 };
  if (key.rightArrow === true) return { type: 'sort', by: 1 };
  if (key.pageUp === true) return { type: 'move-page', by: -1 };
  if (key.pageDown === true) return { type: 'move-page', by: 1 };
  if (key.home === true) return { type: 'move-to', end: 'first' };
  return key.end === true ? { type: 'move-to', end: 'last' } : undefined;
}

function toFilterAction(input: string, key: SpecialKeys): Action | undefined {
  if (key.return === true) return { type: 'filter-end', keep: true };
  if (key.escape === true) return { type: 'filter-end', keep: false };
  if (key.backspace === true || key.delete === true) return { type: 'filter-erase', all: false };
  if (key.ctrl === true) return input === 'u' ? { type: 'filter-erase', all: true } : undefined;
  const moving = key.leftArrow === true || key.rightArrow === true ? undefined : toMove(key);
  if (moving !== undefined || key.meta === true || key.tab === true) return moving;
  const text = input.replace(/\p{C}/gu, '');
  return text === '' ? undefined : { type: 'filter-type', text };
}
