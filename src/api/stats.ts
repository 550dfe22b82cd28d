import type { Static } from 'typebox';
import type * as schema from './stats-schema.js';

/** How a replica is doing; it makes the numbers in this form itself. */
export type StatsJson = Static<typeof schema.StatsResponse>;

/** How all replicas are doing. */
export type FleetJson = Static<typeof schema.FleetResponse>;

/** Takes credentials out of the addresses in it, whoever wrote the details. */
export function hideCredentials(stats: StatsJson): StatsJson {
  const hide = ({ ok, detail }: StatsJson['nats']) => ({
    ok,
    detail: detail.replace(/\/\/[^/@\s]+@/g, '//'),
  });
  return { ...stats, nats: hide(stats.nats), database: hide(stats.database) };
}
