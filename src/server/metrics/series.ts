import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { countBelowPowerOfTwo, type LatencySnapshot } from '../mqtt/live/latency-histogram.js';

/** One value of a metric and its labels. Labels come from closed lists: never a device, a client or an address. */
export type Series = readonly [labels: Readonly<Record<string, string>>, value: number];

/** Reads one value, or one for each set of labels. */
export type ReadSeries = () => number | Iterable<Series>;

/** Adds metrics whose values are read when somebody asks, so that a message costs nothing for being measured. */
export type SeriesRegistry = ReturnType<typeof openSeriesRegistry>;

/** Bucket bounds of latencies are powers of two of microseconds, as the gateway counts them: 256 µs to 34 s. */
const bucketExponents = Array.from({ length: 18 }, (_, index) => index + 8);

export function openSeriesRegistry(registry: Registry) {
  const registers = [registry];

  return {
    /** Only ever rises. */
    counter(name: string, help: string, read: ReadSeries): void {
      const counter: Counter = new Counter({
        name,
        help,
        labelNames: labelNamesOf(read),
        registers,
        collect() {
          counter.reset();
          for (const [labels, value] of seriesOf(read)) counter.inc(labels, value);
        },
      });
    },
    /** @param labels names of the labels, for a metric that may have no series at first. */
    gauge(name: string, help: string, read: ReadSeries, labels?: readonly string[]): void {
      const gauge: Gauge = new Gauge({
        name,
        help,
        labelNames: labels ?? labelNamesOf(read),
        registers,
        collect() {
          gauge.reset();
          // One without labels is 0 after that, where it may have no value at all.
          gauge.remove({});
          for (const [labels, value] of seriesOf(read)) gauge.set(labels, value);
        },
      });
    },
    latency(name: string, help: string, read: () => LatencySnapshot): void {
      const histogram = new Histogram({ name, help, registers });
      // prom-client counts single observations only; these were counted already.
      const get = async () => ({ name, help, type: 'histogram', values: bucketsOf(name, read()) });
      Object.assign(histogram, { get, getForPromString: get });
    },
  };
}

function seriesOf(read: ReadSeries): Iterable<Series> {
  const values = read();
  return typeof values === 'number' ? [[{}, values]] : values;
}

function labelNamesOf(read: ReadSeries): string[] {
  return [...new Set([...seriesOf(read)].flatMap(([labels]) => Object.keys(labels)))];
}

function bucketsOf(name: string, latency: LatencySnapshot): object[] {
  const bucket = (le: number | string, value: number) => ({
    metricName: `${name}_bucket`,
    labels: { le },
    value,
  });
  return [
    ...bucketExponents.map((exponent) =>
      bucket(2 ** exponent / 1_000_000, countBelowPowerOfTwo(latency, exponent)),
    ),
    bucket('+Inf', latency.count),
    { metricName: `${name}_sum`, labels: {}, value: latency.sumUs / 1_000_000 },
    { metricName: `${name}_count`, labels: {}, value: latency.count },
  ];
}
