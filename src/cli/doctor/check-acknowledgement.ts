import type { Config } from '../../config.js';
import { isAtLeast } from '../../server/forward/connection/server-version.js';
import type { NatsInspector } from '../../server/forward/stream/inspect-nats.js';
import { openNatsSync } from '../store/nats.js';
import type { Check } from './finding.js';

/** What a PUBACK for a message in this stream is worth, and whether ACK_LEVEL holds. */
export async function checkAcknowledgement(
  check: Check,
  config: Config,
  inspector: NatsInspector,
  stream: string,
): Promise<void> {
  const { ackLevel, ackLevelOnBreach, natsIngest } = config;
  const sync = openNatsSync(config);
  const { level, why, breaches, batchProblem } = await inspector.judge(stream, sync, ackLevel === 'synced');
  const breach = breaches[ackLevel];
  if (breach !== undefined) {
    const detail = `ACK_LEVEL=${ackLevel} does not hold: ${breach.reason}`;
    return ackLevelOnBreach === 'warn'
      ? check.warning(detail, breach.remedy)
      : check.problem(detail, breach.remedy);
  }
  if (
    level === 'synced' &&
    batchProblem !== undefined &&
    natsIngest !== 'plain' &&
    isAtLeast(inspector.version, 2, 15)
  ) {
    return check.warning(
      `An acknowledgement is worth ${level}, at the price of a sync for each message: ${batchProblem}`,
      `Set allow_atomic on stream ${stream} when every NATS server is 2.15 or later: messages then share a sync`,
    );
  }
  check.ok(`An acknowledgement is worth ${level}: ${why}`);
}
