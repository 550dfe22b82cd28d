import { ApiError, asApiError } from './api-error.js';

const retryMs = 2_000;
/** A stream that sends nothing for so long is dead: the server sends a heartbeat every 15 seconds. */
const silentMs = 40_000;

/** Who is told of the events of a stream, until the signal says so. */
export interface Follower<T> {
  onEvent(event: T | { missed: number }): void;
  /** Called with why there is no stream, or with undefined when there is one. */
  onAnswer(error: ApiError | undefined): void;
  readonly signal: AbortSignal;
}

/**
 * Reads server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) until the signal says so,
 * beginning again where a connection ended. The browser's own EventSource cannot send a key.
 *
 * @param open asks for the stream, with headers, until its signal says otherwise.
 */
export async function followStream<T>(
  open: (headers: Record<string, string>, signal: AbortSignal) => Promise<Response>,
  { onEvent, onAnswer, signal }: Follower<T>,
): Promise<void> {
  let lastId = '';
  while (!signal.aborted) {
    const dead = new AbortController();
    // Not AbortSignal.any, which browsers have since 2024 only.
    const end = () => dead.abort();
    signal.addEventListener('abort', end);
    let watchdog: ReturnType<typeof setTimeout> | undefined;
    const onAlive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => dead.abort(), silentMs);
    };
    onAlive();
    try {
      const headers: Record<string, string> = lastId === '' ? {} : { 'last-event-id': lastId };
      const body = readable(await open(headers, dead.signal));
      if (!signal.aborted) onAnswer(undefined);
      let text = '';
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        // One that breaks off is asked for anew, and tells then why it is not there.
        const read = await reader.read().catch(() => undefined);
        if (read === undefined || read.done) break;
        onAlive();
        const parts = (text + read.value).split('\n\n');
        text = parts.pop() ?? '';
        for (const part of parts) lastId = tell(part, onEvent) ?? lastId;
      }
    } catch (failure) {
      if (!signal.aborted) onAnswer(asApiError(failure).suggesting('It is asked again'));
    }
    clearTimeout(watchdog);
    signal.removeEventListener('abort', end);
    end();
    if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
}

function readable({ body, headers }: Response): NonNullable<Response['body']> {
  if (body === null || headers.get('content-type')?.startsWith('text/event-stream') !== true)
    throw new ApiError(0, { detail: 'The answer is no stream of events' });
  return body;
}

/** Tells the listener of one event; answers its id, if it has one. */
function tell<T>(part: string, onEvent: Follower<T>['onEvent']): string | undefined {
  const fields = new Map<string, string>();
  for (const line of part.split('\n')) {
    const colon = line.indexOf(': ');
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 2));
  }
  const data = fields.get('data');
  const kind = fields.get('event');
  // What has ended is asked for anew.
  if (data !== undefined && kind !== 'ended') {
    try {
      const event = JSON.parse(data);
      onEvent(kind === 'missed' ? { missed: event.count } : event);
    } catch {
      // What cannot be read is left out: asked for again, it would be the same.
    }
  }
  return fields.get('id');
}
