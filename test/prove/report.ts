import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Outcome } from './run-proof.js';

export interface Report {
  readonly startedAt: string;
  readonly minutes: number;
  /** Of svc-mqtt, Node.js, and what each proof ran. */
  readonly versions: Readonly<Record<string, string>>;
  readonly machine: { readonly cpu: string; readonly cores: number; readonly kernel: string };
  readonly outcomes: readonly Outcome[];
}

const root = fileURLToPath(new URL('../..', import.meta.url));
const docsFile = fileURLToPath(new URL('../../docs/proof.md', import.meta.url));
const begin = '<!-- prove:start -->';
const end = '<!-- prove:end -->';

export function makeReport(outcomes: readonly Outcome[], startedAt: Date): Report {
  return {
    startedAt: startedAt.toISOString(),
    minutes: Math.round((Date.now() - startedAt.getTime()) / 60_000),
    versions: {
      'svc-mqtt': readOwnVersion(),
      node: process.version.slice(1),
      ...Object.assign({}, ...outcomes.map(({ versions }) => versions)),
    },
    machine: {
      cpu: os.cpus()[0]?.model.trim() ?? '?',
      cores: os.cpus().length,
      kernel: `${os.type()} ${os.release()}`,
    },
    outcomes,
  };
}

export function formatReport(report: Report): string {
  const { machine, outcomes } = report;
  const versions = Object.entries(report.versions).map(([name, version]) => `${name} ${version}`);
  const number = new Intl.NumberFormat('en').format;
  const rows = outcomes.map((outcome) => {
    const sum = (of: (round: Outcome['rounds'][number]) => number) =>
      number(outcome.rounds.reduce((total, round) => total + of(round), 0));
    const cells =
      outcome.rounds.length === 0
        ? ['', '', '', '', '', '']
        : [
            `${sum(({ done }) => done.length)} ${outcome.faults}, ${number(outcome.rounds.length)} rounds`,
            sum(({ verdict }) => verdict.acknowledged),
            sum(({ verdict }) => verdict.lost.length),
            sum(({ verdict }) => verdict.doubled.qos1),
            sum(({ verdict }) => verdict.doubled.qos2),
            sum(({ verdict }) => verdict.reordered.length),
          ];
    return `| \`${outcome.name}\` | ${cells.join(' | ')} | ${outcome.result} |`;
  });
  const notes = outcomes.flatMap(({ name, result, because, rounds }) => [
    ...(result === 'held'
      ? []
      : because.slice(0, 10).map((reason) => `- \`${name}\`: ${reason.split('\n')[0]}`)),
    ...(rounds.length === 0 ? [] : [`- \`${name}\`: ${describeSeeds(rounds)}${describeFigures(rounds)}`]),
  ]);
  return [
    `${report.startedAt.slice(0, 10)}, ${number(report.minutes)} minutes, ${machine.cores} cores (${machine.cpu}), ${machine.kernel}.`,
    `${versions.join(', ')}.`,
    '',
    '| proof | faults | acknowledged | lost | doubled, QoS 1 | doubled, QoS 2 | reordered | result |',
    '|---|---|---|---|---|---|---|---|',
    ...rows,
    '',
    ...notes,
    '',
  ].join('\n');
}

/** Replaces the latest report in docs/proof.md. */
export function writeDocs(text: string): void {
  const [before, rest] = readFileSync(docsFile, 'utf8').split(begin);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined)
    throw new Error(`docs/proof.md lacks the lines ${begin} and ${end}`);
  writeFileSync(docsFile, `${before}${begin}\n\n${text.trim()}\n\n${end}${after}`);
}

/** Every round has the number after the one before. */
function describeSeeds(rounds: Outcome['rounds']): string {
  const first = rounds[0]?.seed ?? 0;
  return rounds.length === 1 ? `seed ${first}` : `seeds ${first} to ${rounds.at(-1)?.seed ?? first}`;
}

function describeFigures(rounds: Outcome['rounds']): string {
  const names = [...new Set(rounds.flatMap(({ figures = {} }) => Object.keys(figures)))];
  return names
    .map((name) => {
      const values = rounds.flatMap(({ figures }) => figures?.[name] ?? []);
      return `; ${name} at most ${Math.round(Math.max(...values))}`;
    })
    .join('');
}

/** The package's version, and the commit where there is one. */
function readOwnVersion(): string {
  const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { version: string };
  try {
    const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    return `${version} (${commit.trim()})`;
  } catch {
    return version;
  }
}
