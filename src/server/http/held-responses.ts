import type { ServerResponse } from 'node:http';

const checkEveryMs = 1_000;

/** An answer that is being made for less is not cut: it was asked for with the right to it, and could be of a change that is made. */
const answerWithinMs = 5_000;

/**
 * Cuts responses that are still under way when their holder may no longer have them, a stream of events foremost. One that makes
 * the first key ends the right of all who show none, its own too, and has to tell the key.
 *
 * @param isValid asked once a second for each holder.
 */
export function holdResponses(isValid: (holder: string) => Promise<boolean>) {
  const held = new Map<ServerResponse, { readonly holder: string; readonly sinceMs: number }>();

  const checkAll = async () => {
    const byHolder = new Map<string, ServerResponse[]>();
    const nowMs = performance.now();
    for (const [response, { holder, sinceMs }] of held) {
      const isBeingMade = !response.headersSent && nowMs - sinceMs < answerWithinMs;
      if (isBeingMade || response.writableEnded) continue;
      const responses = byHolder.get(holder);
      if (responses === undefined) byHolder.set(holder, [response]);
      else responses.push(response);
    }
    for (const [holder, responses] of byHolder) {
      if (await isValid(holder)) continue;
      for (const response of responses) response.destroy();
    }
  };

  const check = () => {
    checkAll().catch(() => undefined);
  };
  const timer = setInterval(check, checkEveryMs);
  timer.unref();

  return {
    /** @param holder names whose right it is: the id of a key, or another word. */
    hold(holder: string, response: ServerResponse): void {
      // A peer that left while its right was being checked: there will be no further `close`.
      if (response.destroyed) return;
      held.set(response, { holder, sinceMs: performance.now() });
      response.once('close', () => held.delete(response));
    },
    /** Asks now whether every holder still has its right. */
    check,
    close: () => clearInterval(timer),
  };
}
