import type { NatsErrorReport, NatsInternals } from './nats-internals.js';

/** What a server refused since the PING before was answered. */
export interface ReadRefusals {
  /** Subjects that may not be published to, as the server names them. */
  readonly denied: ReadonlySet<string>;
  /** The last refusal that names no subject, in the server's words. */
  readonly unnamed: string | undefined;
}

/** What a server says of what it was sent, in the order in which it says it. */
export interface NatsReplies {
  /** Sends a PING. Rejected when the connection ends before it is answered. */
  ping(): Promise<ReadRefusals>;
}

/**
 * Follows errors and answers to PINGs where the library reads them. What it offers of both, `status()` and `flush()`,
 * hands them on some promises later, each after its own number of them, so that their order is lost.
 *
 * @param onError must not throw.
 */
export function openNatsReplies(
  internals: NatsInternals,
  onError: (report: NatsErrorReport) => void,
): NatsReplies {
  let denied = new Set<string>();
  let hasUnnamed = false;
  internals.onError((error) => {
    const { operation, subject } = error.permissionContext ?? {};
    if (operation === 'publish' && subject !== undefined) denied.add(subject);
    if (subject === undefined) hasUnnamed = true;
    onError(error);
  });
  return {
    ping: () =>
      new Promise((resolve, reject) => {
        internals.ping({
          resolve() {
            const unnamed = hasUnnamed ? (internals.lastError ?? 'NATS reported an error') : undefined;
            const before = denied;
            denied = new Set();
            hasUnnamed = false;
            resolve({ denied: before, unnamed });
          },
          reject,
        });
      }),
  };
}
