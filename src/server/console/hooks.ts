import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { type ApiError, asApiError } from './api-error.js';

export interface Loaded<T> {
  /** The latest answer, also while a newer one is waited for, or the same is asked again and fails. */
  readonly data: T | undefined;
  /** Why the last one failed. */
  readonly error: ApiError | undefined;
  /** Whether that is of what is asked for now; otherwise the latest answer is to what was asked for before. */
  readonly current: boolean;
  /** Asks now. */
  refresh(): void;
}

/** After what passes by itself. */
const retryMs = 3_000;

/**
 * Asks at once, and again so long after it asked, or soon after an answer that took longer; not while the page is hidden.
 *
 * @param what names what is asked for: another name is another question.
 * @param everyMs undefined: until there is an answer.
 */
export function useLoad<T>(what: string, ask: () => Promise<T>, everyMs?: number): Loaded<T> {
  const [state, setState] = useState<{
    of?: string;
    data?: T | undefined;
    error?: ApiError | undefined;
  }>({});
  const latest = useRef(ask);
  latest.current = ask;
  const [round, setRound] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a round more is to ask again.
  useEffect(() => {
    let over = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let asking = false;
    /** How long until it is asked again; undefined: not by itself. */
    let waitMs: number | undefined = 0;
    const run = async () => {
      clearTimeout(timer);
      if (over || asking || document.hidden || waitMs === undefined) return;
      asking = true;
      const askedMs = performance.now();
      try {
        const data = await latest.current();
        waitMs = everyMs;
        if (!over) setState({ of: what, data });
      } catch (failure) {
        let error = asApiError(failure);
        waitMs = error.passes ? Math.max(retryMs, everyMs ?? 0) : everyMs;
        if (error.passes) error = error.suggesting('It is asked again');
        if (!over) setState(({ of, data }) => ({ of: what, data: of === what ? data : undefined, error }));
      }
      asking = false;
      if (over || waitMs === undefined) return;
      timer = setTimeout(run, Math.max(waitMs / 4, waitMs - (performance.now() - askedMs)));
    };
    const onVisible = () => void run();
    void run();
    document.addEventListener('visibilitychange', onVisible);
    return () => {
      over = true;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', onVisible);
    };
  }, [what, everyMs, round]);
  const refresh = useCallback(() => setRound((before) => before + 1), []);
  const current = state.of === what;
  return { data: state.data, error: current ? state.error : undefined, current, refresh };
}

/** Where one is: the part of the address behind the #, as path and query. */
export interface Place {
  readonly path: readonly string[];
  readonly query: URLSearchParams;
}

export function usePlace(): Place {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const onChange = () => setHash(location.hash);
    addEventListener('hashchange', onChange);
    return () => removeEventListener('hashchange', onChange);
  }, []);
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?');
  return { path: path.split('/').map(decode), query: new URLSearchParams(query) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address of a place, for links. */
export function linkTo(path: readonly string[], query: Readonly<Record<string, string>> = {}): string {
  const named = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== ''));
  const text = named.toString();
  return `#/${path.map(encodeURIComponent).join('/')}${text === '' ? '' : `?${text}`}`;
}
