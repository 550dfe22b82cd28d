import { type FleetJson, hideCredentials, type StatsJson } from '../../api/stats.js';
import { sumStats } from '../../api/sum-stats.js';
import type { Asking } from './asking.js';
import type { Member } from './members.js';
import { answers } from './wire.js';

/** How all replicas are doing, each and together. */
export async function readFleetStats(
  own: Omit<Member, 'missing'>,
  readOwn: () => Promise<StatsJson>,
  asking: Asking,
): Promise<FleetJson> {
  const asked = asking.others();
  const [stats, told] = await Promise.all([
    readOwn(),
    Promise.all(asked.map((member) => asking.ask(member, 'stats', {}, answers.stats))),
  ]);
  const replicas: FleetJson['replicas'] = [{ ...asking.present(own), stats: hideCredentials(stats) }];
  for (const [at, each] of told.entries()) {
    const member = asked[at] as Member;
    const itsStats = each.ok && each.answer.replica === member.replica ? hideCredentials(each.answer) : null;
    for (const shown of asking.show(member, each)) replicas.push({ ...shown, stats: itsStats });
  }
  return {
    at: new Date().toISOString(),
    replicas,
    total: sumStats(replicas.flatMap((replica) => replica.stats ?? [])),
  };
}
