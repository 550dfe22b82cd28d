import type { Log } from '../../log.js';

const intervalMs = 10_000;

/**
 * Says in the log what was dropped, at most every ten seconds: messages of QoS 0 that NATS did not take, and what
 * bounds turned away.
 *
 * @param read counters by what they count, only ever rising.
 * @param onDropped called for each kind that is reported.
 * @returns a function that ends it, reporting what was not reported yet.
 */
export function startDropReport(
  read: () => Readonly<Record<string, number>>,
  log: Log,
  onDropped: (kind: string, count: number) => void = () => {},
): () => void {
  let reported = read();

  function report(): void {
    const now = read();
    const dropped = Object.entries(now)
      .map(([name, count]) => [name, count - (reported[name] ?? 0)] as const)
      .filter(([, count]) => count > 0);
    reported = now;
    if (dropped.length === 0) return;
    log.warn({ event: 'messages_dropped', ...Object.fromEntries(dropped) }, 'Messages were dropped');
    for (const [kind, count] of dropped) onDropped(kind, count);
  }

  const timer = setInterval(report, intervalMs);
  timer.unref();
  return () => {
    clearInterval(timer);
    report();
  };
}
