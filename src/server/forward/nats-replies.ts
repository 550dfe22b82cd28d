import type { NatsConnection } from 'nats';

/** An error that the server reported. */
export interface NatsErrorReport {
  readonly type: 'error';
  readonly data: string;
  readonly permissionContext?: { readonly operation: string; readonly subject: string };
}

/** What a server says of what it was sent, in the order in which it says it. */
export interface NatsReplies {
  /**
   * Sends a PING. Its answer brings what the server refused to publish since the PING before was answered: subjects as
   * the server names them. Rejected when the connection ends first.
   */
  ping(): Promise<ReadonlySet<string>>;
}

/** The part of the library's connection that is used: see `ProtocolHandler` in nats 2.29. */
interface Protocol {
  flush(answer: { resolve(): void; reject(error: unknown): void }): void;
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
  protocol.listeners.push({
    push(status) {
      if (status.type !== 'error') return;
      const { operation, subject } = status.permissionContext ?? {};
      if (operation === 'publish' && subject !== undefined) denied.add(subject);
      onError(status);
    },
    stop() {},
  });
  return {
    ping: () =>
      new Promise((resolve, reject) => {
        protocol.flush({
          resolve() {
            const before = denied;
            denied = new Set();
            resolve(before);
          },
          reject,
        });
      }),
  };
}
