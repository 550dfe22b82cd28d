import type { Config } from '../../config.js';
import { describeRisks, type PolicyRules } from '../../policy.js';
import { dialNats } from '../../server/forward/connection/nats-dial.js';
import { readNatsTarget } from '../../server/forward/connection/nats-settings.js';
import { type Coverage, readCoverage } from '../../server/forward/stream/coverage.js';
import { describeCoverage } from '../../server/subject-coverage.js';
import { chooseNatsUrl } from './nats-url.js';

/** What a policy allows that should be intended, and of a subject that no stream covers; each is a sentence. */
export async function readPolicyWarnings(config: Config, rules: PolicyRules): Promise<string[]> {
  const { natsSubject } = rules;
  const uncovered =
    natsSubject === null
      ? undefined
      : await describeCoverage(natsSubject, (templates) => askNats(config, templates));
  return [...describeRisks(rules, config.maxPacketBytes), ...(uncovered === undefined ? [] : [uncovered])];
}

async function askNats(config: Config, templates: readonly string[]): Promise<Coverage | undefined> {
  if (!config.enableJetstream) return undefined;
  const target = readNatsTarget({ ...config, natsUrl: chooseNatsUrl(config) });
  const { connection } = await dialNats(target, target.addresses, 'svc-mqtt');
  try {
    return await readCoverage(connection, config.natsJetstreamDomain, templates);
  } finally {
    await connection.close();
  }
}
