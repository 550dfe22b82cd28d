import type { Config } from '../../config.js';
import { describeRisks, type PolicyRules } from '../../policy.js';
import { dialNats } from '../../server/forward/connection/nats-dial.js';
import { readNatsTarget } from '../../server/forward/connection/nats-settings.js';
import { type Coverage, readCoverage, type WantedSubjects } from '../../server/forward/stream/coverage.js';
import { describeCoverage, wantedOf } from '../../server/start/subject-coverage.js';
import { chooseNatsUrl, openNatsSync } from './nats.js';

/** What a policy allows that should be intended, and of a subject that no stream covers; each is a sentence. */
export async function readPolicyWarnings(config: Config, rules: PolicyRules): Promise<string[]> {
  const wanted = wantedOf(rules, config);
  const uncovered =
    wanted === undefined ? undefined : await describeCoverage(wanted, (all) => askNats(config, all));
  return [...describeRisks(rules, config.maxPacketBytes), ...(uncovered === undefined ? [] : [uncovered])];
}

async function askNats(config: Config, wanted: readonly WantedSubjects[]): Promise<Coverage | undefined> {
  if (!config.enableJetstream) return undefined;
  const target = readNatsTarget({ ...config, natsUrl: chooseNatsUrl(config) });
  const { connection } = await dialNats(target, target.addresses);
  try {
    return await readCoverage(connection, config.natsJetstreamDomain, wanted, openNatsSync(config));
  } finally {
    await connection.close();
  }
}
