import type { Quantiles } from './load/histogram.js';
import type { Machine } from './machine.js';
import type { Measurement } from './measure.js';
import { median } from './median.js';
import type { Scenario } from './scenarios/scenario.js';
import { systems } from './systems/all.js';

/** The medians of all repetitions of one scenario on one system. */
export interface Summary extends Measurement {
  readonly repetitions: number;
}

export function summarize(measurements: readonly Measurement[]): Summary | undefined {
  const [first] = measurements;
  if (first === undefined) return undefined;
  const over = (read: (each: Measurement) => number | undefined) => {
    const values = measurements.map(read).filter((value) => value !== undefined);
    return values.length === 0 ? undefined : median(values);
  };
  const each = <T extends object>(pick: (measurement: Measurement) => T): T =>
    Object.fromEntries(
      Object.keys(pick(first)).map((key) => [key, over((one) => (pick(one) as Record<string, number>)[key])]),
    ) as T;
  return {
    ...first,
    repetitions: measurements.length,
    ratePerSec: over((one) => one.ratePerSec),
    cpuUs: each((one) => one.cpuUs),
    latency: first.latency === undefined ? undefined : each((one) => one.latency as Quantiles),
    peakBytes: each((one) => one.peakBytes),
    foreignCores: over((one) => one.foreignCores),
    figures: each((one) => one.figures),
    problems: [...new Set(measurements.flatMap((one) => one.problems))],
  };
}

/** CPU of all parts that are the system under test; PostgreSQL only answers logins and is told apart. */
export function systemCpuUs({ cpuUs }: Pick<Measurement, 'cpuUs'>): number | undefined {
  const { broker, nats } = cpuUs;
  return broker === undefined && nats === undefined ? undefined : (broker ?? 0) + (nats ?? 0);
}

/** Left out where the table is to be read and not only kept. */
const details = /^(both|load µs.*|p99\.9 ms|broker MiB|NATS MiB|MB\/s)$/;

/**
 * The table of one scenario, in Markdown that also reads well as it is.
 *
 * @param brief without details, and of what was checked only whether it was right.
 */
export function formatScenario(scenario: Scenario, summaries: readonly Summary[], brief = false): string {
  const gateway = summaries.find((summary) => summary.system === 'gateway');
  const figures = [...new Set(summaries.flatMap((summary) => Object.keys(summary.figures)))];
  const per = scenario.unit === 'message' ? 'msg' : 'connect';
  const columns: [string, (summary: Summary) => string][] = [
    ['system', (one) => one.system],
    [`${per}/s`, (one) => formatCount(one.ratePerSec)],
    ['rate ×', (one) => formatRatio(gateway?.ratePerSec, one.ratePerSec)],
    [`broker µs/${per}`, (one) => formatUs(one.cpuUs.broker)],
    [`NATS µs/${per}`, (one) => formatUs(one.cpuUs.nats)],
    ['both', (one) => formatUs(systemCpuUs(one))],
    ['CPU ×', (one) => formatRatio(gateway && systemCpuUs(gateway), systemCpuUs(one))],
    [`load µs/${per}`, (one) => formatUs(one.cpuUs.load)],
    ['p50 ms', (one) => formatMs(one.latency?.p50Us)],
    ['p99 ms', (one) => formatMs(one.latency?.p99Us)],
    ['p99.9 ms', (one) => formatMs(one.latency?.p999Us)],
    ['broker MiB', (one) => formatMib(one.peakBytes.broker)],
    ['NATS MiB', (one) => formatMib(one.peakBytes.nats)],
    ...figures.map((name): [string, (one: Summary) => string] => [
      name,
      (one) => formatFigure(one.figures[name]),
    ]),
    [
      'checked',
      (one) => {
        if (one.problems.length > 0) return 'WRONG, see below';
        if (brief) return one.verified === undefined ? '' : 'right';
        return one.verified ?? 'nothing to check';
      },
    ],
  ];
  const used = columns.filter(
    ([name, read]) => !(brief && details.test(name)) && summaries.some((one) => read(one) !== ''),
  );
  const rows = summaries.map((summary) => used.map(([, read]) => read(summary)));
  const problems = summaries.flatMap((summary) =>
    summary.problems.map((problem) => `- ${summary.system}: ${problem}\n`),
  );
  const busy = Math.max(0, ...summaries.map((summary) => summary.foreignCores ?? 0));
  return [
    `### ${scenario.name}\n\n${scenario.load}\n\n`,
    formatTable([used.map(([name]) => name), ...rows]),
    ...(problems.length === 0 ? [] : ['\n', ...problems]),
    busy > 0.1
      ? `\nOther processes used up to ${busy.toFixed(2)} cores meanwhile: do not trust these figures.\n`
      : '',
  ].join('');
}

export function formatMachine(machine: Machine): string {
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version}`);
  return `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.kernel}; ${versions.join(', ')}.\n`;
}

export function formatSystems(summaries: readonly Summary[]): string {
  const names = [...new Set(summaries.map((summary) => summary.system))];
  return names.map((name) => `- \`${name}\`: ${systems[name].title}\n`).join('');
}

export function formatTable(rows: readonly (readonly string[])[]): string {
  const [header = []] = rows;
  const widths = header.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const format = (row: readonly string[]) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |\n`;
  const rule = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|\n`;
  return [format(header), rule, ...rows.slice(1).map(format)].join('');
}

function formatCount(value: number | undefined): string {
  return value === undefined ? '' : Math.round(value).toLocaleString('en-US');
}

/** What the gateway's figure is, divided by this system's. */
function formatRatio(gateway: number | undefined, other: number | undefined): string {
  if (gateway === undefined || other === undefined || other === 0) return '';
  return (gateway / other).toFixed(2);
}

function formatUs(us: number | undefined): string {
  return us === undefined ? '' : us.toFixed(us < 100 ? 2 : 0);
}

function formatMs(us: number | undefined): string {
  return us === undefined ? '' : (us / 1_000).toFixed(2);
}

function formatMib(bytes: number | undefined): string {
  return bytes === undefined ? '' : (bytes / 2 ** 20).toFixed(0);
}

function formatFigure(value: number | undefined): string {
  if (value === undefined) return '';
  return value >= 1_000 ? formatCount(value) : value.toFixed(value < 10 ? 2 : 1);
}
