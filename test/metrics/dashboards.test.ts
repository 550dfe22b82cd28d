import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { undoAfterAll } from '../support/undo-after-all.js';
import { type MetricsPage, readMetricsPage, readProjectFile, startReplica } from './replica.js';

interface Rule {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: { summary: string; description: string };
}
interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  targets?: { expr: string }[];
  gridPos: { x: number; y: number; w: number; h: number };
}

const alertsFile = 'deploy/prometheus/alerts.yaml';
const alerts = parse(readProjectFile(alertsFile)) as { groups: { rules: Rule[] }[] };
const rules = alerts.groups.flatMap((group) => group.rules);
const dashboard = JSON.parse(readProjectFile('deploy/grafana/svc-mqtt.json')) as { panels: Panel[] };
const panels = dashboard.panels.filter(({ type }) => type !== 'row');
/** Set by Prometheus itself for every target. */
const ownOfPrometheus = new Set(['up']);

const later = undoAfterAll();
let page: MetricsPage;
beforeAll(async () => {
  const { server } = await startReplica(later);
  page = await readMetricsPage(server.ports.http);
});

/** What a query names: metrics with the equality matchers beside each. */
function readQuery(expr: string): { metric: string; labels: Record<string, string> }[] {
  return [...expr.matchAll(/\b(svc_mqtt_\w+|process_\w+|nodejs_\w+|up\b)(?=[{)\s[]|$)(?:\{([^}]*)\})?/g)].map(
    ([, metric = '', matchers = '']) => ({
      metric,
      labels: Object.fromEntries(
        [...matchers.matchAll(/(\w+)="([^"$]*)"/g)].map(([, label = '', value = '']) => [label, value]),
      ),
    }),
  );
}

const queries = [
  ...rules.map(({ alert, expr }) => ({ where: alert, expr })),
  ...panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ where: title, expr }))),
];

describe('the dashboard and the alert rules', () => {
  it.each(queries)('$where asks for what /metrics has: $expr', ({ expr }) => {
    const asked = readQuery(expr);
    expect(asked.length).toBeGreaterThan(0);
    for (const { metric, labels } of asked) {
      if (ownOfPrometheus.has(metric)) continue;
      expect(page.names, metric).toContain(metric);
      const { job: _job, ...own } = labels;
      if (Object.keys(own).length > 0) {
        expect(page.value(metric, own), `${metric} ${JSON.stringify(own)}`).toBeDefined();
      }
    }
  });

  it('choose among label values that there are', () => {
    let chosen = 0;
    for (const { expr } of queries) {
      for (const [, metric, label, pattern = ''] of expr.matchAll(
        /(svc_mqtt_\w+)\{[^}]*?(\w+)=~"([^"$]+)"/g,
      )) {
        const series = page.text.matchAll(new RegExp(`^${metric}\\{.*?${label}="([^"]*)"`, 'gm'));
        const values = [...series].map(([, value = '']) => value);
        for (const each of pattern.split('|')) {
          expect(
            values.some((value) => new RegExp(`^(${each})$`).test(value)),
            `${metric} ${each}`,
          ).toBe(true);
          chosen += 1;
        }
      }
    }
    expect(chosen).toBeGreaterThan(0);
  });

  it('show or watch every metric of the gateway', () => {
    const asked = new Set(queries.flatMap(({ expr }) => readQuery(expr).map(({ metric }) => metric)));
    const own = [...page.names].filter((name) => name.startsWith('svc_mqtt_'));
    expect(own.filter((name) => !asked.has(name))).toEqual([]);
  });

  it('say what each panel shows, side by side and not one over the other', () => {
    const ids = dashboard.panels.map(({ id }) => id);
    expect(ids).toEqual([...new Set(ids)]);
    const cells = new Set<string>();
    for (const { id, title, description, gridPos } of panels) {
      expect(description, title).toBeTruthy();
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          expect(cells.has(`${x},${y}`), `${id} ${title}`).toBe(false);
          cells.add(`${x},${y}`);
        }
      }
    }
  });

  it('say what happened and what to do, with log events that exist', () => {
    const events = readProjectFile('docs/events.md');
    for (const { alert, labels, annotations } of rules) {
      expect(['critical', 'warning'], alert).toContain(labels.severity);
      expect(annotations.summary, alert).toBeTruthy();
      expect(annotations.description, alert).toMatch(/\.$/);
      for (const [, event] of annotations.description.matchAll(/\b([a-z]+(?:_[a-z]+)+)\b/g)) {
        if (event?.startsWith('svc_mqtt_') === false) expect(events, alert).toContain(`\`${event}\``);
      }
    }
  });

  it.skipIf(!hasPromtool())('pass promtool, which also plays their cases', () => {
    const tests = fileURLToPath(new URL('alerts.cases.yaml', import.meta.url));
    expect(execFileSync('promtool', ['check', 'rules', alertsFile]).toString()).toContain('SUCCESS');
    expect(execFileSync('promtool', ['test', 'rules', tests]).toString()).toContain('SUCCESS');
  });
});

describe('docs/monitoring.md', () => {
  it('explains every metric of the gateway, and none that is not there', () => {
    const documented = new Set(
      [...readProjectFile('docs/monitoring.md').matchAll(/^\| `(svc_mqtt_\w+)`/gm)].map(([, name]) => name),
    );
    const present = [...page.text.matchAll(/^# TYPE (svc_mqtt_\w+)/gm)].map(([, name]) => name);
    expect([...documented].toSorted()).toEqual(present.toSorted());
  });
});

function hasPromtool(): boolean {
  try {
    execFileSync('promtool', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
