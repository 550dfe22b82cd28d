import { hostname } from 'node:os';
import { type InspectedReplica, inspectFleet } from '../../server/fleet/inspect-fleet.js';
import type { NatsInspector } from '../../server/forward/stream/inspect-nats.js';
import { formatCount } from '../terminal/text.js';
import { checkClock } from './check-clock.js';
import { describeFailed } from './check-server.js';
import type { Check } from './finding.js';

/** Whether all replicas answer, can take devices, and treat them alike. */
export async function checkFleet(check: Check, inspector: NatsInspector, version: string): Promise<void> {
  const replicas = await inspectFleet(inspector, { host: hostname(), version });
  if (replicas.length === 0)
    return check.skipped(
      'No replica answers over NATS: none runs, or its user may not hear svc-mqtt.fleet.> (docs/services.md)',
    );
  for (const replica of replicas) checkOne(check, replica);
  const versions = group(replicas.map((replica) => [show(replica), replica.version]));
  if (versions.size > 1)
    check.warning(
      `Replicas differ in their version: ${describe(versions)}`,
      'Let a roll-out end, or replace the older ones',
    );
  const told = replicas.flatMap(({ health, ...replica }) => (health ? [{ ...replica, health }] : []));
  for (const name of new Set(told.flatMap(({ health }) => Object.keys(health.settings)))) {
    const values = group(
      told.flatMap((replica): [string, string][] => {
        const value = replica.health.settings[name];
        return value === undefined ? [] : [[show(replica), value]];
      }),
    );
    if (values.size > 1)
      check.problem(
        `Replicas differ in ${name}: ${describe(values)}`,
        `Give all the same ${name}: otherwise it depends on the replica how a device is treated`,
      );
  }
  if (check.findings.length > 0) return;
  const names = replicas.map(show).join(', ');
  check.ok(
    replicas.length === 1
      ? `One replica answers over NATS: ${names}`
      : `${replicas.length} replicas answer over NATS, alike in version and settings: ${names}`,
  );
}

function checkOne(check: Check, replica: InspectedReplica): void {
  const { health, detail, version, askedMs, answeredMs } = replica;
  const name = `Replica ${show(replica)}`;
  if (health === undefined) {
    check.problem(
      `${name}, version ${version}: ${detail}`,
      'See whether it is overloaded or frozen; start it again if it stays so, or replace it if it is older',
    );
    return;
  }
  const failed = describeFailed(health.readiness);
  if (failed !== undefined) {
    const state = health.readiness.status === 'ok' ? 'has a problem' : 'is not ready';
    check.problem(`${name} ${state} (${failed})`, 'Mend what it names; it takes up its work by itself');
  }
  const now = new Date(health.at);
  if (Number.isNaN(now.getTime())) return;
  checkClock({ ...check.named('clock'), ok() {} }, name, { now, askedMs, answeredMs });
}

const show = ({ replica, host }: Pick<InspectedReplica, 'replica' | 'host'>) => `${replica} (${host})`;

/** Who has which value, those that most have first. */
function group(values: readonly (readonly [who: string, value: string])[]): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const [who, value] of values) groups.set(value, [...(groups.get(value) ?? []), who]);
  return new Map([...groups].sort(([, a], [, b]) => b.length - a.length));
}

/** The most common value with how many have it, the others with who. */
function describe(groups: ReadonlyMap<string, readonly string[]>): string {
  return [...groups]
    .map(([value, who], at) =>
      at === 0 && who.length > 1
        ? `${value} on ${formatCount(who.length, 'replica')}`
        : `${value} on ${who.join(', ')}`,
    )
    .join('; ');
}
