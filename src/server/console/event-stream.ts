const retryMs = 2_000;

/**
 * Reads server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) until the signal says so,
 * beginning again where a connection ended. The browser's own EventSource cannot send a key.
 *
 * @param open asks for the stream, with headers.
 */
export async function followStream<T>(
  open: (headers: Record<string, string>) => Promise<Response>,
  listener: (event: T | { missed: number }) => void,
  signal: AbortSignal,
): Promise<void> {
  let lastId = '';
  while (!signal.aborted) {
    const answer = await open(lastId === '' ? {} : { 'last-event-id': lastId }).catch(() => undefined);
    if (answer?.body) {
      let text = '';
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const read = await reader.read().catch(() => undefined);
        if (read === undefined || read.done) break;
        const parts = (text + read.value).split('\n\n');
        text = parts.pop() ?? '';
        for (const part of parts) lastId = tell(part, listener) ?? lastId;
      }
    }
    if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
}

/** Tells the listener of one event; answers its id, if it has one. */
function tell<T>(part: string, listener: (event: T | { missed: number }) => void): string | undefined {
  const fields = new Map<string, string>();
  for (const line of part.split('\n')) {
    const colon = line.indexOf(': ');
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 2));
  }
  const data = fields.get('data');
  const kind = fields.get('event');
  // What has ended is asked for anew.
  if (data !== undefined && kind !== 'ended') {
    const event = JSON.parse(data);
    listener(kind === 'missed' ? { missed: event.count } : event);
  }
  return fields.get('id');
}
