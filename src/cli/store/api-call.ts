import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, SvcMqttError } from '../../errors.js';
import { prefaced, requireGoing } from '../terminal/io.js';
import { callApi, hasChangedNothing, type Method, parseAnswer, type Send, sendOverHttp } from './api-send.js';
import type { Remote } from './target.js';

/** Requests of the API whose answers are JSON. */
export type ApiCall = ReturnType<typeof openCalls>;

type Parameters = Readonly<Record<string, string | number | readonly string[] | undefined>>;

/** Longer than the server waits for its database. */
const timeoutMs = 60_000;
const rowsPerPage = 1_000;
/** Longest wait at once, and most of them, when the API says that there are too many requests. */
const longestPauseSec = 10;
const mostPauses = 60;

/** Opens the API for a command that has time; nothing is asked yet. */
export function openApiCall(remote: Remote, signal: AbortSignal): ApiCall {
  return openCalls(waitInTurn(sendOverHttp(remote.url, remote.key, timeoutMs), signal));
}

export function openCalls(send: Send) {
  const get = async <T>(path: string, query: Parameters = {}) => {
    const parameters = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) {
      for (const each of value === undefined ? [] : [value].flat()) parameters.append(name, String(each));
    }
    return parseAnswer<T>(await callApi(send, 'GET', parameters.size === 0 ? path : `${path}?${parameters}`));
  };
  const sendText = async <T>(method: Method, path: string, body?: string) => {
    const text = await callApi(send, method, path, body);
    return (text === '' ? undefined : parseAnswer<T>(text)) as T;
  };
  return {
    get,
    /** Undefined when the answer is a problem of this code. */
    getUnless: <T>(code: ErrorCode, path: string) => orUndefined(code, get<T>(path)),
    /** Undefined where there is nothing to answer. */
    send: <T = undefined>(method: Method, path: string, body?: unknown) =>
      sendText<T>(method, path, body === undefined ? undefined : JSON.stringify(body)),
    /** The same with a body that is JSON already. */
    sendText,
    /**
     * The pages of a list.
     *
     * @param query what is asked for: parameters of GET, fields of the body of POST.
     * @param rowsOf the rows of an answer.
     * @param limit most rows in all.
     */
    async *pages<Page extends { readonly next_cursor: string | null }, Row>(
      method: 'GET' | 'POST',
      path: string,
      query: Readonly<Record<string, unknown>>,
      rowsOf: (answer: Page) => readonly Row[],
      limit = Number.POSITIVE_INFINITY,
    ): AsyncGenerator<readonly Row[]> {
      let cursor: string | null | undefined;
      for (let left = limit; left > 0 && cursor !== null; ) {
        const asked = { ...query, limit: Math.min(rowsPerPage, left), cursor };
        const answer: Page =
          method === 'GET'
            ? await get(path, asked as Parameters)
            : await sendText('POST', path, JSON.stringify(asked));
        const rows = rowsOf(answer);
        yield rows;
        left -= rows.length;
        cursor = answer.next_cursor;
      }
    },
  };
}

/** What is asked for, or undefined when the failure is of this code. */
export async function orUndefined<T>(code: ErrorCode, asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof SvcMqttError && error.code === code) return undefined;
    throw error;
  }
}

/** What is asked to be made; a failure behind which it may be there says so: `Whether ${what} is not known`. */
export async function orUnsure<T>(what: string, asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    throw hasChangedNothing(error) ? error : prefaced(error, `Whether ${what} is not known`);
  }
}

/** Who is told that there are too many requests waits as long as is asked, within bounds. */
function waitInTurn(send: Send, signal: AbortSignal): Send {
  return async (method, path, body) => {
    for (let pauses = 0; ; pauses += 1) {
      const answer = await send(method, path, body);
      const waitSec = answer.status === 429 ? (answer.retryAfterSec ?? longestPauseSec + 1) : undefined;
      if (waitSec === undefined || waitSec > longestPauseSec || pauses >= mostPauses) return answer;
      await sleep(waitSec * 1_000, undefined, { signal }).catch(() => {});
      requireGoing(signal);
    }
  };
}
