import type { NatsConnection } from 'nats';

/** An error that the server reported. */
export interface NatsErrorReport {
  readonly type: 'error';
  readonly data: string;
  readonly permissionContext?: { readonly operation: string; readonly subject: string };
}

/** What a server refused since the PING before was answered. */
export interface Refusals {
  /** Subjects that may not be published to, as the server names them. */
  readonly denied: ReadonlySet<string>;
  /** The last refusal that names no subject, in the server's words. */
  readonly unnamed: string | undefined;
}

/** What a server says of what it was sent, in the order in which it says it. */
export interface NatsReplies {
  /** Sends a PING. Rejected when the connection ends before it is answered. */
  ping(): Promise<Refusals>;
}

/** The part of the library's connection that is used: see `ProtocolHandler` in nats 2.29. */
interface Protocol {
  flush(answer: { resolve(): void; reject(error: unknown): void }): void;
  /** The last error that is not one of permissions. */
  readonly lastError?: { readonly message: string };
  readonly listeners: { push(status: NatsErrorReport | { readonly type: 'other' }): void; stop(): void }[];
}

/**
 * Follows errors and answers to PINGs where the library reads them. What it offers of both, `status()` and `flush()`,
 * hands them on some promises later, each after its own number of them, so that their order is lost.
 *
 * @param onError must not throw.
 * @throws Error when the library is not built as is expected here.
 */
export function openNatsReplies(
  connection: NatsConnection,
  onError: (report: NatsErrorReport) => void,
): NatsReplies {
  const { protocol } = connection as unknown as { protocol?: Protocol };
  if (typeof protocol?.flush !== 'function' || !Array.isArray(protocol.listeners)) {
    throw new Error('this version of the nats library is not known');
  }
  let denied = new Set<string>();
  let hasUnnamed = false;
  protocol.listeners.push({
    push(status) {
      if (status.type !== 'error') return;
      const { operation, subject } = status.permissionContext ?? {};
      if (operation === 'publish' && subject !== undefined) denied.add(subject);
      if (subject === undefined) hasUnnamed = true;
      onError(status);
    },
    stop() {},
  });
  return {
    ping: () =>
      new Promise((resolve, reject) => {
        protocol.flush({
          resolve() {
            const unnamed = hasUnnamed
              ? (protocol.lastError?.message ?? 'NATS reported an error')
              : undefined;
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
