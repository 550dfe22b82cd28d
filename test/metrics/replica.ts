import { readFileSync } from 'node:fs';
import parse from 'parse-prometheus-text-format';
import { openLog } from '../../src/log.js';
import { readConfig } from '../../src/read-config.js';
import { type RunningServer, startServer } from '../../src/server/start.js';
import { type OnFinished, openDatabase } from '../faults/gateway.js';
import { startNatsServer, type TestNatsServer } from '../support/nats-server.js';

/** Starts a replica in this process against a real PostgreSQL and a real nats-server. */
export async function startReplica(
  onFinished: OnFinished,
  env: Record<string, string> = {},
): Promise<{ server: RunningServer; nats: TestNatsServer }> {
  const nats = await startNatsServer();
  onFinished(() => nats.stop());
  const config = readConfig({
    env: {
      DATABASE_URL: await openDatabase(onFinished),
      NATS_URL: nats.url,
      MQTT_HOST: '127.0.0.1',
      MQTT_PORT: '0',
      LISTEN_ADDR: '127.0.0.1:0',
      SHUTDOWN_TIMEOUT_SEC: '1',
      ...env,
    },
  });
  const server = await startServer(config, openLog({ level: 'silent', format: 'json' }));
  onFinished(() => server.close());
  return { server, nats };
}

interface Sample {
  readonly value?: string;
  readonly labels?: Record<string, string>;
  readonly buckets?: Record<string, string>;
  readonly count?: string;
  readonly sum?: string;
}

/** What `/metrics` answered, read by a parser of the format. */
export interface MetricsPage {
  readonly text: string;
  /** Names of the metrics, and of the series of histograms, as a query may name them. */
  readonly names: ReadonlySet<string>;
  /** The type of a metric, such as COUNTER. */
  typeOf(name: string): string | undefined;
  /** The value of one series; undefined when there is none. */
  value(name: string, labels?: Record<string, string>): number | undefined;
  histogram(name: string): { buckets: Record<string, number>; count: number; sum: number };
}

export async function readMetricsPage(httpPort: number): Promise<MetricsPage> {
  const answer = await fetch(`http://127.0.0.1:${httpPort}/metrics`);
  if (answer.status !== 200) throw new Error(`GET /metrics: ${answer.status}`);
  const text = await answer.text();
  const families = parse(text) as { name: string; type: string; help: string; metrics: Sample[] }[];
  const find = (name: string) => families.find((family) => family.name === name);
  const names = families.flatMap(({ name, type }) =>
    type === 'HISTOGRAM' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  );
  return {
    text,
    names: new Set(names),
    typeOf: (name) => find(name)?.type,
    value(name, labels = {}) {
      const found = find(name)?.metrics.find((sample) =>
        Object.entries(labels).every(([label, value]) => sample.labels?.[label] === value),
      );
      return found === undefined ? undefined : Number(found.value);
    },
    histogram(name) {
      const found = find(name)?.metrics[0];
      const buckets = Object.entries(found?.buckets ?? {}).map(([le, count]) => [le, Number(count)]);
      return { buckets: Object.fromEntries(buckets), count: Number(found?.count), sum: Number(found?.sum) };
    },
  };
}

export function readProjectFile(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
}
