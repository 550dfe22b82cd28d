import type { FleetJson, StatsJson } from '../../api/stats.js';

/** What the header tells: of one replica, or of several together. */
export interface TopStats extends StatsJson {
  /** Undefined: there is one. */
  readonly fleet?: readonly { readonly replica: string; readonly ok: boolean }[];
}

/** @param fleet of at least the replica that answers. */
export function toTopStats({ at, replicas, total }: FleetJson): TopStats {
  const all = replicas.flatMap(({ host, stats }) => (stats === null ? [] : [{ host, stats }]));
  const [first] = all;
  if (first === undefined) throw new Error('the replica that answers is not in its answer');
  if (replicas.length === 1) return first.stats;
  const worst = (part: 'nats' | 'database'): StatsJson['nats'] => {
    const broken = all.find(({ stats }) => !stats[part].ok);
    if (broken === undefined) return first.stats[part];
    return { ok: false, detail: `${broken.host}: ${broken.stats[part].detail}` };
  };
  return {
    ...first.stats,
    ...total,
    at,
    nats: worst('nats'),
    database: worst('database'),
    fleet: replicas.map(({ replica, ok }) => ({ replica, ok })),
  };
}
