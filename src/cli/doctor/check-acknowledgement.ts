import type { Config } from '../../config.js';
import { isAtLeast } from '../../server/forward/connection/server-version.js';
import type { NatsInspector } from '../../server/forward/stream/inspect-nats.js';
import { openNatsSync } from '../store/nats-sync.js';
import { type Finding, ok, problem, warning } from './finding.js';

const check = 'acknowledgement';

/** What a PUBACK for a message in this stream is worth, and whether ACK_LEVEL holds. */
export async function checkAcknowledgement(
  config: Config,
  inspector: NatsInspector,
  stream: string,
): Promise<Finding> {
  const { ackLevel, ackLevelOnBreach, natsIngest } = config;
  const sync = openNatsSync(config);
  const { level, why, breaches, batchProblem } = await inspector.judge(stream, sync, ackLevel === 'synced');
  const breach = breaches[ackLevel];
  if (breach !== undefined) {
    const find = ackLevelOnBreach === 'warn' ? warning : problem;
    return find(check, `ACK_LEVEL=${ackLevel} does not hold: ${breach.reason}`, breach.remedy);
  }
  if (
    level === 'synced' &&
    batchProblem !== undefined &&
    natsIngest !== 'plain' &&
    isAtLeast(inspector.version, 2, 15)
  ) {
    return warning(
      check,
      `An acknowledgement is worth ${level}, at the price of a sync for each message: ${batchProblem}`,
      `Set allow_atomic on stream ${stream} when every NATS server is 2.15 or later: messages then share a sync`,
    );
  }
  return ok(check, `An acknowledgement is worth ${level}: ${why}`);
}
