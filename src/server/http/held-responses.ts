import type { ServerResponse } from 'node:http';

/** Responses under way, each held to the right of who asked for it. */
export interface HeldResponses {
  /** @param holder names whose right it is: the id of a key, or another word. */
  hold(holder: string, response: ServerResponse): void;
  close(): void;
}

const checkEveryMs = 1_000;

/**
 * Cuts responses that are still under way when their holder may no longer have them, a stream of events foremost.
 *
 * @param isValid asked about once a second for each holder of responses that have been under way for as long.
 */
export function holdResponses(isValid: (holder: string) => Promise<boolean>): HeldResponses {
  const held = new Map<ServerResponse, { holder: string; sinceMs: number }>();
  let checking = false;

  const check = async () => {
    const now = performance.now();
    const byHolder = new Map<string, ServerResponse[]>();
    for (const [response, { holder, sinceMs }] of held) {
      if (now - sinceMs < checkEveryMs) continue;
      const responses = byHolder.get(holder);
      if (responses === undefined) byHolder.set(holder, [response]);
      else responses.push(response);
    }
    for (const [holder, responses] of byHolder) {
      if (await isValid(holder)) continue;
      for (const response of responses) response.destroy();
    }
  };

  const timer = setInterval(() => {
    if (checking || held.size === 0) return;
    checking = true;
    check()
      .catch(() => undefined)
      .finally(() => {
        checking = false;
      });
  }, checkEveryMs);
  timer.unref();

  return {
    hold(holder, response) {
      // A peer that left while its right was being checked: there will be no further `close`.
      if (response.destroyed) return;
      held.set(response, { holder, sinceMs: performance.now() });
      response.once('close', () => held.delete(response));
    },
    close: () => clearInterval(timer),
  };
}
