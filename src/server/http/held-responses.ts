import type { ServerResponse } from 'node:http';

/** Responses under way, each held to the validity of the key that asked for it. */
export interface HeldResponses {
  hold(keyId: string, response: ServerResponse): void;
  close(): void;
}

const checkEveryMs = 1_000;

/**
 * Cuts responses that are still under way when their key is no longer valid, a stream of events foremost.
 *
 * @param isValid asked about once a second for each key with responses that have been under way for as long.
 */
export function holdResponses(isValid: (keyId: string) => Promise<boolean>): HeldResponses {
  const held = new Map<ServerResponse, { keyId: string; sinceMs: number }>();
  let checking = false;

  const check = async () => {
    const now = performance.now();
    const byKey = new Map<string, ServerResponse[]>();
    for (const [response, { keyId, sinceMs }] of held) {
      if (now - sinceMs < checkEveryMs) continue;
      const responses = byKey.get(keyId);
      if (responses === undefined) byKey.set(keyId, [response]);
      else responses.push(response);
    }
    for (const [keyId, responses] of byKey) {
      if (await isValid(keyId)) continue;
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
    hold(keyId, response) {
      held.set(response, { keyId, sinceMs: performance.now() });
      response.once('close', () => held.delete(response));
    },
    close: () => clearInterval(timer),
  };
}
