import { type FleetJson, hideCredentials, type StatsJson } from '../../api/stats.js';
import { sumStats } from '../../api/sum-stats.js';
import type { Asking } from './asking.js';
import type { Identity } from './members.js';
import { answers } from './wire.js';

/** How all replicas are doing, each and together. */
export async function readFleetStats(
  own: Identity,
  readOwn: () => Promise<StatsJson>,
  asking: Asking,
): Promise<FleetJson> {
  const [stats, told] = await Promise.all([readOwn(), asking.askAll('stats', {}, answers.stats)]);
  const replicas: FleetJson['replicas'] = [{ ...asking.present(own), stats: hideCredentials(stats) }];
  for (const { member, answer, shown } of told) {
    const itsStats = answer?.replica === member.replica ? hideCredentials(answer) : null;
    for (const each of shown) replicas.push({ ...each, stats: itsStats });
  }
  return {
    at: new Date().toISOString(),
    replicas,
    total: sumStats(replicas.flatMap((replica) => replica.stats ?? [])),
  };
}
