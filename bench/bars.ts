import { formatTable, type Summary, systemCpuUs } from './report.js';
import type { SystemName } from './systems/system.js';

interface Bar {
  readonly scenario: string;
  readonly text: string;
  /** The measured figure; undefined when a system it needs was not run. */
  measure(find: (scenario: string, system: SystemName) => Summary | undefined): number | undefined;
  readonly least?: number;
  readonly most?: number;
  readonly unit: string;
}

function ratio(one: number | undefined, two: number | undefined): number | undefined {
  return one === undefined || two === undefined || two === 0 ? undefined : one / two;
}

const cpuOf = (summary: Summary | undefined) => (summary === undefined ? undefined : systemCpuUs(summary));

/** What the gateway is to reach on two cores. */
const bars: readonly Bar[] = [
  {
    scenario: 'durable',
    text: 'gateway CPU a message',
    measure: (find) => find('durable', 'gateway')?.cpuUs.broker,
    most: 5,
    unit: 'µs',
  },
  {
    scenario: 'durable',
    text: "gateway + NATS CPU of nats-server's own MQTT",
    measure: (find) => ratio(cpuOf(find('durable', 'gateway')), cpuOf(find('durable', 'nats-mqtt'))),
    most: 0.65,
    unit: '×',
  },
  ...(
    [
      ['durable', 'nats-mqtt', 1.4],
      ['durable', 'mosquitto', 0.9],
      ['fire', 'mosquitto', 2],
    ] as const
  ).map(
    ([scenario, peer, least]): Bar => ({
      scenario,
      text: `rate of ${peer}'s`,
      measure: (find) => ratio(find(scenario, 'gateway')?.ratePerSec, find(scenario, peer)?.ratePerSec),
      least,
      unit: '×',
    }),
  ),
  {
    scenario: 'fire',
    text: "rate of mosquitto's, with core NATS",
    measure: (find) => ratio(find('fire', 'gateway-core')?.ratePerSec, find('fire', 'mosquitto')?.ratePerSec),
    least: 2,
    unit: '×',
  },
  ...(['gateway', 'gateway-core'] as const).map(
    (name): Bar => ({
      scenario: 'fire',
      text: `${name} CPU a message`,
      measure: (find) => find('fire', name)?.cpuUs.broker,
      most: 1.5,
      unit: 'µs',
    }),
  ),
  {
    scenario: 'durable-wide',
    text: "gateway CPU a message, of durable's",
    measure: (find) =>
      ratio(find('durable-wide', 'gateway')?.cpuUs.broker, find('durable', 'gateway')?.cpuUs.broker),
    most: 1.5,
    unit: '×',
  },
  {
    scenario: 'durable-large',
    text: "bytes a second, of the direct publisher's",
    measure: (find) =>
      ratio(find('durable-large', 'gateway')?.ratePerSec, find('durable-large', 'direct')?.ratePerSec),
    least: 0.8,
    unit: '×',
  },
  {
    scenario: 'exactly-once',
    text: "gateway CPU a message, of durable's",
    measure: (find) =>
      ratio(find('exactly-once', 'gateway')?.cpuUs.broker, find('durable', 'gateway')?.cpuUs.broker),
    most: 2.5,
    unit: '×',
  },
  ...(
    [
      ['synced', 'gateway-synced', 'gateway-synced-plain', 'rate, of one by one', 10],
      ['synced', 'gateway-synced', 'atomic', "rate, of the atomic publisher's without MQTT", 0.6],
      ['synced-r3', 'gateway-synced-r3', 'gateway-synced-r3-plain', 'rate, of one by one', 15],
      ['synced-r3', 'gateway-synced-r3', 'atomic-r3', "rate, of the atomic publisher's without MQTT", 0.6],
    ] as const
  ).map(
    ([scenario, system, peer, text, least]): Bar => ({
      scenario,
      text,
      measure: (find) => ratio(find(scenario, system)?.ratePerSec, find(scenario, peer)?.ratePerSec),
      least,
      unit: '×',
    }),
  ),
  ...(['synced-one', 'synced-each'] as const).map(
    (scenario): Bar => ({
      scenario,
      text: 'p50, of one by one',
      measure: (find) =>
        ratio(
          find(scenario, 'gateway-synced')?.latency?.p50Us,
          find(scenario, 'gateway-synced-plain')?.latency?.p50Us,
        ),
      most: 1.3,
      unit: '×',
    }),
  ),
  ...(
    [
      ['gateway-mqtt5', 'MQTT 5 without properties', 1.05],
      ['gateway-mqtt5-properties', 'with an alias, a content type and three user properties', 1.6],
      ['gateway-mqtt5-receipts', 'with receipts', 1.2],
    ] as const
  ).map(
    ([system, what, most]): Bar => ({
      scenario: 'durable-mqtt5',
      text: `${what}: gateway CPU a message, of 3.1.1's`,
      measure: (find) =>
        ratio(find('durable-mqtt5', system)?.cpuUs.broker, find('durable-mqtt5', 'gateway')?.cpuUs.broker),
      most,
      unit: '×',
    }),
  ),
  ...(
    [
      ['direct', "the direct publisher's"],
      ['direct-each', "direct-each's"],
    ] as const
  ).flatMap(([peer, whose]) =>
    (['p50Us', 'p99Us'] as const).map(
      (quantile): Bar => ({
        scenario: 'latency',
        text: `${quantile.slice(0, 3)}, of ${whose}`,
        measure: (find) =>
          ratio(find('latency', 'gateway')?.latency?.[quantile], find('latency', peer)?.latency?.[quantile]),
        most: 1.5,
        unit: '×',
      }),
    ),
  ),
  figureBar('storm', 'cold: CPU a connect', 'cold µs/connect', { most: 200, unit: 'µs' }),
  figureBar('storm', 'logins lost', 'lost', { most: 0, unit: '' }),
  {
    scenario: 'rush-paced',
    text: 'connects a second beside messages',
    measure: (find) => find('rush-paced', 'gateway')?.ratePerSec,
    least: 1_500,
    unit: '/s',
  },
  figureBar('idle', 'RSS a connection that only publishes', 'KB/connection', { most: 12, unit: 'KB' }),
  {
    scenario: 'idle',
    text: 'RSS a connection of MQTT 5, more than of 3.1.1',
    measure: (find) => {
      const [five, old] = (['gateway-mqtt5', 'gateway'] as const).map(
        (system) => find('idle', system)?.figures['KB/connection'],
      );
      return five === undefined || old === undefined ? undefined : five - old;
    },
    most: 1,
    unit: 'KB',
  },
  figureBar('idle', 'RSS a connection with a subscription', 'KB subscribed', { most: 22, unit: 'KB' }),
  figureBar('idle', 'CPU at rest', 'rest CPU %', { most: 1, unit: '%' }),
  figureBar('idle', 'CPU at rest, subscribed', 'rest CPU % subscribed', { most: 1, unit: '%' }),
  figureBar('frozen', 'RSS growth over the bound of bytes, while frozen', 'growth over bound MiB', {
    most: 64,
    unit: 'MiB',
  }),
  figureBar(
    'frozen',
    'RSS growth over the bound of bytes, until all is stored',
    'growth in all over bound MiB',
    {
      most: 64,
      unit: 'MiB',
    },
  ),
  figureBar('frozen', 'pings answered: clients below their bound', 'pings answered %', {
    least: 100,
    unit: '%',
  }),
  figureBar('frozen', 'pings answered: clients held at a bound', 'pings answered at the bound %', {
    least: 100,
    unit: '%',
  }),
  figureBar('endurance', 'RSS at the end, more than after the first tenth', 'RSS growth %', {
    most: 10,
    unit: '%',
  }),
  {
    scenario: 'command',
    text: 'p99 of the same by core NATS',
    measure: (find) =>
      ratio(find('command', 'gateway')?.latency?.p99Us, find('command', 'gateway-core')?.latency?.p99Us),
    most: 1.5,
    unit: '×',
  },
  {
    scenario: 'exactly-once',
    text: 'with sessions: gateway + NATS CPU of without',
    measure: (find) =>
      ratio(cpuOf(find('exactly-once', 'gateway-sessions')), cpuOf(find('exactly-once', 'gateway'))),
    most: 2,
    unit: '×',
  },
  figureBar('return', 'CPU of a command, over 1.6 storms', 'over 1.6 storms, µs/command', {
    most: 25,
    unit: 'µs',
  }),
  figureBar('return', "p99 of the last command, of the storm's", 'last command p99 ×', {
    most: 2,
    unit: '×',
  }),
  ...(
    [
      ['gateway', 'MQTT 3.1.1'],
      ['gateway-mqtt5', 'MQTT 5'],
    ] as const
  ).map(
    ([system, what]): Bar => ({
      scenario: 'ask',
      text: `${what}: p99, of a service that speaks NATS`,
      measure: (find) => find('ask', system)?.figures['p99 ×'],
      most: 2,
      unit: '×',
    }),
  ),
  figureBar(
    'presence',
    'gateway CPU a connect and disconnect, more with DEVICE_EVENTS',
    'more µs',
    { most: 5, unit: 'µs' },
    'gateway-events',
  ),
  figureBar(
    'ledger',
    'gateway CPU a message, of that without ledger',
    'CPU ×',
    { most: 1.02, unit: '×' },
    'gateway-ledger',
  ),
  figureBar(
    'ledger',
    'rows of the ledger written in a second, at most',
    'rows/s',
    { most: 1_000, unit: '/s' },
    'gateway-ledger',
  ),
  ...(['first page', 'deep page', 'filter'] as const).flatMap((view) => [
    figureBar(
      'watch',
      `${view}: CPU of the busiest replica, more than at rest`,
      `${view} CPU %`,
      { most: 2, unit: '%' },
      'gateway-fleet',
    ),
    figureBar(
      'watch',
      `${view}: until the screen is updated`,
      `${view} s`,
      { most: 1, unit: 's' },
      'gateway-fleet',
    ),
  ]),
  figureBar('away', 'memory of the gateway a session', 'gateway bytes/session', { most: 100, unit: 'B' }),
  figureBar('away', 'start with all of them', 'start s', { most: 5, unit: 's' }),
];

function figureBar(
  scenario: string,
  text: string,
  figure: string,
  limit: Pick<Bar, 'least' | 'most' | 'unit'>,
  system: SystemName = 'gateway',
): Bar {
  return { scenario, text, measure: (find) => find(scenario, system)?.figures[figure], ...limit };
}

/** The bars of the scenarios that ran: what was asked, what was measured, met or not. */
export function formatBars(summaries: readonly Summary[]): string {
  const find = (scenario: string, system: SystemName) =>
    summaries.find((summary) => summary.scenario === scenario && summary.system === system);
  const rows = bars
    .filter(({ scenario }) => summaries.some((summary) => summary.scenario === scenario))
    .map((bar) => {
      const value = bar.measure(find);
      const limit = bar.least === undefined ? `<= ${bar.most}` : `>= ${bar.least}`;
      const met = value !== undefined && value >= (bar.least ?? -Infinity) && value <= (bar.most ?? Infinity);
      return [
        bar.scenario,
        bar.text,
        `${limit} ${bar.unit}`.trim(),
        value === undefined ? '' : value.toFixed(2),
        value === undefined ? 'not measured' : met ? 'met' : 'NOT MET',
      ];
    });
  return formatTable([['scenario', 'bar', 'asked', 'measured', ''], ...rows]);
}
