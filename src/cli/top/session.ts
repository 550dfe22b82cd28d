import { messageOf, SvcMqttError } from '../../errors.js';
import type { FollowMessages, MessageListener } from '../store/follow-messages.js';
import type { LiveApi } from '../store/live-api.js';
import { openEventHistory } from './event-history.js';
import { isAboutStorage, loadList } from './lists.js';
import { reduce } from './reduce.js';
import { type Action, type Effect, isLoaded, listRequestOf, requestOf, type TopState } from './state.js';
import { toTopStats } from './top-stats.js';

/** The state of the screen, and what keeps it true. */
export type TopSession = ReturnType<typeof startTopSession>;

const refreshMs = 1_000;
/** Keys that come close together are answered together. */
const gatherMs = 30;
const longestRetrySec = 10;
/** Sessions of one device that its screen shows. */
const sessionsOfDevice = 100;

/**
 * Starts to ask the replica every second, and at once when another part of the list is wanted; one question at a time.
 * While the replica does not answer it is asked again after 1, 2, 4, … 10 s.
 */
export function startTopSession(options: {
  api: LiveApi;
  /** Follows the messages of a device. */
  follow: FollowMessages;
  initial: TopState;
  /** Puts a text into the operator's clipboard. */
  copy(text: string): void;
  /** The latest lines of the server's log, when it is served here. */
  readLog?: () => readonly string[];
}) {
  const { api } = options;
  const listeners = new Set<() => void>();
  const events = openEventHistory();
  let state = options.initial;
  let closed = false;
  /** Another part of the list is wanted than was asked for. */
  let wanted = true;
  let wake = () => {};
  /** The replica has answered a question. */
  let answered = false;
  /** Whose messages are followed, and what ends that. */
  let peeked: { readonly device: string; readonly end: AbortController } | undefined;
  let onQuit = () => {};
  let onRefused: (error: SvcMqttError) => void = () => {};
  const quit = new Promise<void>((resolve, reject) => {
    onQuit = resolve;
    onRefused = reject;
  });
  // Who does not wait for it must not be ended by it.
  quit.catch(() => {});

  function dispatch(action: Action): void {
    const before = state;
    const [next, effects] = reduce(state, action);
    state = next;
    for (const effect of effects) run(effect);
    if (state === before || closed) return;
    followPeek();
    if (wantsOther(before, state)) {
      wanted = true;
      wake();
    }
    for (const listener of listeners) listener();
  }

  /** Follows the messages of the device that is looked at, and of no other. */
  function followPeek(): void {
    const device = state.screen === 'messages' && !closed ? state.peek?.device : undefined;
    if (device === peeked?.device) return;
    peeked?.end.abort();
    peeked = device === undefined ? undefined : { device, end: new AbortController() };
    if (peeked === undefined || device === undefined) return;
    const { signal } = peeked.end;
    const listener: MessageListener = {
      message: (message) => signal.aborted || dispatch({ type: 'passed', device, message }),
      missed: (missed) => signal.aborted || dispatch({ type: 'passed-by', device, missed }),
    };
    options.follow(device, listener, signal).catch((error: unknown) => {
      if (!signal.aborted) dispatch({ type: 'peek-failed', device, problem: describe(error) });
    });
  }

  function run(effect: Effect): void {
    if (effect.type === 'quit') onQuit();
    else if (effect.type === 'copy') options.copy(effect.text);
    else if (effect.type === 'kick') end(effect, api.kick(effect.id), 'Kicked');
    else if (effect.type === 'end-session') end(effect, api.endSession(effect.id), 'Ended the session of');
    else attempt(api.revoke(effect.device), `Device ${effect.device} is revoked`);
  }

  function end(
    { id, device, client }: Effect & { type: 'kick' | 'end-session' },
    work: Promise<void>,
    done: string,
  ): void {
    work.catch(() => dispatch({ type: 'kick-failed', id }));
    attempt(work, `${done} ${device}, client ${client}`);
  }

  function attempt(work: Promise<void>, done: string): void {
    work.then(
      () => {
        dispatch({ type: 'notice', notice: { text: done, tone: 'good' } });
        wanted = true;
        wake();
      },
      (error: unknown) => dispatch({ type: 'notice', notice: { text: describe(error), tone: 'bad' } }),
    );
  }

  /** Waits, unless something is wanted sooner. */
  async function pause(ms: number, interruptible = true): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        if (!interruptible && !closed) return;
        clearTimeout(timer);
        resolve();
      };
      if (closed || (interruptible && wanted)) wake();
    });
  }

  async function refresh(): Promise<void> {
    const [request, listRequest] = [requestOf(state), listRequestOf(state)];
    const asks = wanted || !state.frozen || !isLoaded(state);
    wanted = false;
    const asksPage = asks && listRequest === undefined;
    const [page, fleet] = await Promise.all([asksPage ? api.page(request) : undefined, api.fleet()]);
    events.add(fleet);
    if (page !== undefined) dispatch({ type: 'page', request, page });
    dispatch({ type: 'stats', stats: toTopStats(fleet) });
    if (asks && listRequest !== undefined) {
      const list = await loadList(listRequest, api, { fleet, events: events.list() });
      dispatch({ type: 'list', request: listRequest, list });
    }
    if (options.readLog !== undefined) dispatch({ type: 'log', lines: options.readLog() });
    await refreshDetails();
  }

  async function refreshDetails(): Promise<void> {
    const { screen, details, device } = state;
    if (screen === 'details' && details !== undefined) {
      const { id } = details;
      const found = await api.details(id).catch((error: unknown) => {
        if (error instanceof SvcMqttError && error.code === 'CONNECTION_NOT_FOUND') return 'ended' as const;
        throw error;
      });
      dispatch({ type: 'details', id, found });
    }
    if (screen === 'device' && device !== undefined) {
      const { id } = device;
      const found = await api.device(id);
      const sessions =
        found === undefined
          ? undefined
          : await api.listSessions({ devices: [id], limit: sessionsOfDevice }).catch((error: unknown) => {
              if (isAboutStorage(error)) return undefined;
              throw error;
            });
      dispatch({
        type: 'device',
        id,
        found: found === undefined ? 'gone' : { device: found, sessions: sessions?.sessions },
      });
    }
  }

  async function follow(): Promise<void> {
    let failures = 0;
    while (!closed) {
      const startedMs = performance.now();
      try {
        await refresh();
        answered = true;
        failures = 0;
        await pause(Math.max(0, startedMs + refreshMs - performance.now()));
        if (wanted) await pause(gatherMs, false);
      } catch (error) {
        // Another try would be answered the same, and take one of the attempts that the API allows an address.
        if (!answered && isRefusal(error)) return onRefused(error);
        const retrySec = Math.min(longestRetrySec, 2 ** failures);
        failures += 1;
        for (let left = retrySec; left > 0 && !closed; left -= 1) {
          dispatch({ type: 'lost', reason: describe(error), retryInSec: left });
          await pause(1_000, false);
        }
        wanted = true;
      }
    }
  }

  // What it does not catch is a defect, which ends the process.
  void follow();
  return {
    get state(): TopState {
      return state;
    },
    dispatch,
    /** @returns a function that ends the subscription. */
    subscribe(listener: () => void): () => void {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    /** Resolves when the operator quits; rejects when the first answer is that the key is missing, wrong or too low. */
    quit,
    close(): void {
      closed = true;
      peeked?.end.abort();
      wake();
    },
  };
}

/** Whether the list has to be asked for again at once. */
function wantsOther(before: TopState, now: TopState): boolean {
  if (before.details?.id !== now.details?.id && now.details !== undefined) return true;
  if (before.device?.id !== now.device?.id && now.device !== undefined) return true;
  const [asked, asks] = [requestOf(before), requestOf(now)];
  if (before.view !== now.view || asked.filter !== asks.filter || asked.replica !== asks.replica) return true;
  if (asked.sort !== asks.sort || asked.descending !== asks.descending) return true;
  return (before.top !== now.top || before.tableRows !== now.tableRows) && !isLoaded(now);
}

function isRefusal(error: unknown): error is SvcMqttError {
  return error instanceof SvcMqttError && (error.code === 'UNAUTHENTICATED' || error.code === 'FORBIDDEN');
}

function describe(error: unknown): string {
  return messageOf(error).replace(/\.$/, '');
}
